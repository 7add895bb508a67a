//! Image indexes: reading them with everything they name, making them of several images, publishing them.

mod combine;
mod create;
pub mod edit;
mod load;
mod merge;
pub mod pending;
mod record;
#[cfg(test)]
mod tests;

pub use combine::{CombineError, Combined, Source};
pub use create::{CreateEvent, CreateRequest, Created, SourceName, create, plan};
pub use load::{Attestations, ImageSet, load};
pub use merge::{Complaint, MergeError, MergeRequest, NamedRecord, check_records, plan_merge};
pub use record::{BuildRecord, RECORD_LIMIT, RecordError, RecordedFile, RecordedPlatform, SourceRevision};

use thiserror::Error;

use crate::content::ContentError;

/// Why an index could not be read or made.
#[derive(Debug, Error)]
pub enum IndexError {
    /// The content could not be read or written.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The sources do not make an index.
    #[error(transparent)]
    Combine(#[from] CombineError),
    /// A source is neither digest, reference nor descriptor.
    #[error("failed to parse source {text:?}, valid sources are digests, references and descriptors")]
    Source {
        /// What was given.
        text: String,
        /// Why not.
        #[source]
        source: SourceError,
    },
    /// A source of a bare digest, and more than one repository it could be in.
    #[error("multiple repositories specified, cannot infer repository for {text:?}")]
    NoRepository {
        /// What was given.
        text: String,
    },
    /// A descriptor's size is not that of the content.
    #[error("invalid size mismatch for {digest}, {given} != {actual}")]
    Size {
        /// The content.
        digest: onetag_oci::Digest,
        /// The size in the descriptor.
        given: u64,
        /// Its size.
        actual: u64,
    },
    /// Copying a child failed.
    #[error("copy {digest} from {from} to {to}")]
    Copy {
        /// The child.
        digest: onetag_oci::Digest,
        /// Where it is.
        from: String,
        /// Where it should be.
        to: String,
        /// What happened.
        #[source]
        source: ContentError,
    },
    /// Moving the tag failed.
    #[error("publish {digest} to {to}")]
    Publish {
        /// The index.
        digest: onetag_oci::Digest,
        /// The name.
        to: String,
        /// What happened.
        #[source]
        source: ContentError,
    },
}

/// Why a source is none.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The digest is none.
    #[error(transparent)]
    Digest(#[from] onetag_oci::DigestError),
    /// The name is none.
    #[error(transparent)]
    Location(#[from] crate::content::LocationError),
    /// The descriptor is none.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A manifest or index was given in place of a descriptor.
    #[error("expected an OCI content descriptor, got a manifest or index (schemaVersion {version})")]
    NotADescriptor {
        /// Its schema version.
        version: u64,
    },
}
