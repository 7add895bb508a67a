//! What can go wrong when a stack is changed.

use std::path::PathBuf;

use crate::error::Error;
use crate::layer::LayerError;

pub(super) type Result<T, E = CopyError> = std::result::Result<T, E>;

/// A change that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// Something that should be there is not.
    #[error("{path:?}: not found")]
    NotFound {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("{path:?}: file exists")]
    Exists {
        /// The path in the workspace.
        path: PathBuf,
    },
    /// A folder is to be put where a file is, or a file stands where a folder is needed.
    #[error("cannot copy to non-directory: {}", path.display())]
    NotADirectory {
        /// The path in the workspace.
        path: PathBuf,
    },
    /// A file is to be put where a folder is.
    #[error("cannot replace to directory {} with file", path.display())]
    IsADirectory {
        /// The path in the workspace.
        path: PathBuf,
    },
    /// A path that cannot be meant.
    #[error("invalid path {path:?}: {reason}")]
    InvalidPath {
        /// The path as it was asked for.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A pattern that is none.
    #[error("invalid pattern {pattern:?}")]
    InvalidPattern {
        /// The pattern.
        pattern: PathBuf,
    },
    /// An archive that cannot be unpacked.
    #[error("cannot unpack {}", path.display())]
    Unpack {
        /// The archive's path in the source.
        path: PathBuf,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The store or the file system failed.
    #[error(transparent)]
    Store(#[from] Error),
}
