//! What can go wrong in the store, each case with the path or digest it is about.

use std::io;
use std::path::{Path, PathBuf};

use onetag_oci::{DiffId, Digest};

use crate::layer::LayerError;

/// The store's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file of the store.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted, as a verb with its object's kind.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file of the host that was not to change while it was used.
    #[error("{} changed during the build", path.display())]
    Changed {
        /// Its path in the folder that it belongs to.
        path: PathBuf,
    },
    /// The folder holds something that is not a store of this version.
    #[error("{} is not an image store: {reason}", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What was found instead.
        reason: &'static str,
    },
    /// A blob that is not there.
    #[error("blob {digest} is not in the store")]
    BlobNotFound {
        /// The blob's digest.
        digest: Digest,
    },
    /// Content whose digest is not the one that was asked for.
    #[error("content has digest {actual}, expected {expected}")]
    DigestMismatch {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// Content whose size is not the one that was asked for.
    #[error("content of {digest} has {actual} bytes, expected {expected}")]
    SizeMismatch {
        /// The content's digest as far as known.
        digest: Digest,
        /// The size that was promised, in bytes.
        expected: u64,
        /// The size of what came, in bytes.
        actual: u64,
    },
    /// A document larger than the caller's limit.
    #[error("blob {digest} has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The blob's digest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The layout's `index.json` cannot be understood.
    #[error("{} is damaged", path.display())]
    DamagedIndex {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: serde_json::Error,
    },
    /// A record beside an unpacked layer cannot be written as JSON.
    #[error("cannot encode the record of {}", path.display())]
    Encode {
        /// The record's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {blob}")]
    Unpack {
        /// The layer's blob.
        blob: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A layer's uncompressed content is not what the image's config says.
    #[error("layer {blob} unpacks to diff ID {actual}, the image says {expected}")]
    DiffIdMismatch {
        /// The layer's blob.
        blob: Digest,
        /// What the config says.
        expected: DiffId,
        /// What the content is.
        actual: DiffId,
    },
    /// A layer could not be written.
    #[error("cannot write the layer of {}", path.display())]
    Export {
        /// The tree that was to be exported.
        path: PathBuf,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A root file system archive could not be imported.
    #[error("cannot import the archive")]
    Import {
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A layer that must be unpacked before it is used.
    #[error("layer {layer} is not unpacked")]
    LayerNotFound {
        /// The layer's name in the store.
        layer: String,
    },
    /// A layer of an image was to be exported; it has a blob of its own.
    #[error("layer {layer} is not the result of a build step")]
    NotAStep {
        /// The layer's name in the store.
        layer: String,
    },
    /// A stack could not be prepared because a layer refers to something that the layers below it lack.
    #[error("layer {layer} links {link:?} to {target:?}, which no layer below it holds")]
    UnresolvedLink {
        /// The layer's name in the store.
        layer: String,
        /// The link's path.
        link: PathBuf,
        /// The path that it names.
        target: PathBuf,
    },
    /// The database of cache records refused an operation.
    #[error("cache database {}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: rusqlite::Error,
    },
}

impl Error {
    /// Whether this is the absence of a blob or a layer.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::BlobNotFound { .. } | Error::LayerNotFound { .. })
    }
}

/// Gives an input or output failure its place.
pub(crate) trait At<T> {
    /// Names the action and the path of a failure.
    fn at(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::Io { action, path: path.to_owned(), source: error.into() })
    }
}
