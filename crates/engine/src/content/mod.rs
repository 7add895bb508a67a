//! Where images are — a registry, the local store, an image layout, an archive — behind one way to read and write them.

pub(crate) mod archive;
mod files;
mod known;
pub(crate) mod layout;
mod location;
mod packing;
mod reader;
mod referrers;
mod relay;
mod stream;
mod transfer;
mod writing;

pub use archive::ArchiveError;
pub use known::KnownDocuments;
pub use layout::LayoutError;
pub use location::{ArchiveKind, ArchiveName, LayoutName, Location, LocationError};
pub(crate) use packing::Verified;
pub use reader::{Contents, Found};
pub use transfer::{Transfer, TransferEvent};

use onetag_oci::{Digest, DocumentError};
use thiserror::Error;

/// Result of reading or writing images.
pub type Result<T, E = ContentError> = std::result::Result<T, E>;

/// Why content could not be read or written.
#[derive(Debug, Error)]
pub enum ContentError {
    /// Nothing of that name is there.
    #[error("{what}: not found")]
    NotFound {
        /// The name asked for.
        what: String,
    },
    /// A manifest or index cannot be used.
    #[error("cannot use the manifest of {what}")]
    Document {
        /// The name or digest asked for.
        what: String,
        /// Why not.
        #[source]
        source: DocumentError,
    },
    /// Content is larger than anything of its kind has a reason to be.
    #[error("{digest} has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// The content.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Content is not what its digest says.
    #[error("content of {digest} has digest {actual}")]
    DigestMismatch {
        /// The digest that was asked for.
        digest: Digest,
        /// What the content has.
        actual: Digest,
    },
    /// Content is longer or shorter than its descriptor says.
    #[error("{digest} has {actual} bytes, but its descriptor says {said}")]
    SizeMismatch {
        /// The content.
        digest: Digest,
        /// The size in its descriptor.
        said: u64,
        /// Its size.
        actual: u64,
    },
    /// An index where a descriptor announces a manifest, or the other way round.
    #[error("{digest} is {actual}, but its descriptor says {said}")]
    MediaTypeMismatch {
        /// The content.
        digest: Digest,
        /// The media type in its descriptor.
        said: String,
        /// What it is.
        actual: String,
    },
    /// Indexes name each other deeper than anybody needs, or in a circle.
    #[error("{digest} is nested more than {limit} indexes deep")]
    TooDeep {
        /// The innermost index looked at.
        digest: Digest,
        /// The limit.
        limit: usize,
    },
    /// Nothing can be written under such a name.
    #[error("cannot write to {location}: {problem}")]
    NotWritable {
        /// The destination.
        location: String,
        /// Why not.
        problem: &'static str,
    },
    /// A registry that does not move the tag, which means something else.
    #[error("{name} means {means} and is not moved to {wanted}")]
    TagRefused {
        /// The name.
        name: String,
        /// What it means.
        means: Digest,
        /// What it should mean.
        wanted: Digest,
        /// What the registry said.
        #[source]
        source: onetag_registry::Error,
    },
    /// A name means something else than when the work on it began.
    #[error("{name} moved meanwhile: it meant {before}, now it means {}", now.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string))]
    Moved {
        /// The name.
        name: String,
        /// What it meant.
        before: Digest,
        /// What it means.
        now: Option<Digest>,
    },
    /// An attestation is no in-toto statement.
    #[error("{digest} is no in-toto statement")]
    Statement {
        /// The attestation.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The registry did not play along.
    #[error(transparent)]
    Registry(#[from] onetag_registry::Error),
    /// The store did not play along.
    #[error(transparent)]
    Store(#[from] onetag_store::Error),
    /// The image layout did not play along.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The archive did not play along.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl ContentError {
    /// Whether it only says that nothing of that name is there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Registry(error) => error.is_not_found(),
            Self::Store(error) => error.is_not_found(),
            _ => false,
        }
    }
}
