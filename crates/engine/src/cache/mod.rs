//! The memory of builds: the store's own, and caches that builds exchange through registries and folders.
//!
//! `storage` is the solver's memory in the store's database; `document` is what a cache elsewhere says, `place` where
//! it is; `imported` reads caches for one build, `export` writes them. `docs/cache.md` describes the format.

pub mod document;
mod export;
mod imported;
mod options;
mod place;
mod storage;

use std::path::PathBuf;

use onetag_oci::Digest;

pub(crate) use export::{CacheWriter, inline};
pub(crate) use imported::{BuildCache, Imported};
pub use options::{CacheExport, CacheImport, CacheMode, CacheOptionError, CachePlace};

use crate::content::LayoutError;
use crate::export::ExportError;

type Result<T> = std::result::Result<T, CacheError>;

/// Why a cache could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// BuildKit's format, which is another one.
    #[error("{place} holds a BuildKit cache, which onetag neither reads nor replaces")]
    BuildKit {
        /// Where.
        place: String,
    },
    /// Something that is no cache.
    #[error("{place} holds no onetag cache")]
    NoCache {
        /// Where.
        place: String,
    },
    /// The records mean nothing.
    #[error(transparent)]
    Document(#[from] document::DocumentError),
    /// The manifest means nothing.
    #[error(transparent)]
    Manifest(#[from] onetag_oci::DocumentError),
    /// An image's config means nothing.
    #[error("the image's config is unusable")]
    Config(#[from] serde_json::Error),
    /// The records name a blob that the manifest does not.
    #[error("the records name the blob {digest}, the manifest does not")]
    UnknownBlob {
        /// The blob.
        digest: Digest,
    },
    /// Larger than anything of its kind has a reason to be.
    #[error("{digest} has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// What is too large.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Others write all the time.
    #[error("other builds write to {place} faster than this one can")]
    Contended {
        /// Where.
        place: String,
    },
    /// A layer could not be made.
    #[error(transparent)]
    Layer(#[from] ExportError),
    /// A layer could not be read.
    #[error("cannot read a layer")]
    Source(#[source] std::io::Error),
    /// The registry did not play along.
    #[error(transparent)]
    Registry(#[from] onetag_registry::Error),
    /// The store did not play along.
    #[error(transparent)]
    Store(#[from] onetag_store::Error),
    /// The OCI layout did not play along.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A folder cannot be made or locked.
    #[error("cannot use {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The build was cancelled.
    #[error("context canceled")]
    Cancelled,
}

impl CacheError {
    /// What to type to mend it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::BuildKit { .. } | Self::NoCache { .. } => {
                Some("a cache needs a name of its own: --cache-to type=registry,ref=REPOSITORY:CACHE")
            }
            Self::Contended { .. } => Some("--cache-to …,ignore-error=true lets the build succeed without it"),
            _ => None,
        }
    }
}
