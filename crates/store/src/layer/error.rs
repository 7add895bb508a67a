//! What can be wrong with a layer.

use std::io;
use std::path::PathBuf;

/// A layer that cannot be read, applied or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The stream itself failed: the network, the disk, or damaged compression.
    #[error("cannot read the layer's content")]
    Read(#[source] io::Error),
    /// The archive ended in the middle of something.
    #[error("the archive ends inside {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A header that is no tar header.
    #[error("the archive is damaged at byte {offset}: {reason}")]
    Malformed {
        /// The position in the uncompressed archive, in bytes.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// A path that would leave the layer, or one that no file can have.
    #[error("the archive names the path {path:?}, which {reason}")]
    InvalidPath {
        /// The path as written.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A hard link that can never be made.
    #[error("the archive links {link:?} to {target:?}, which {reason}")]
    InvalidLink {
        /// The link's path.
        link: PathBuf,
        /// What it names.
        target: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The layer is larger than the configured limits allow.
    #[error("the layer has more than {limit} {what}")]
    LimitExceeded {
        /// What was counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The compression is not one of those that images use.
    #[error("the layer is compressed with {name}, which images do not use")]
    UnsupportedCompression {
        /// The compression's name.
        name: &'static str,
    },
    /// The file system refused an operation on a path of the layer.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The path inside the layer.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The receiver of a written layer failed.
    #[error("cannot write the layer's content")]
    Write(#[source] io::Error),
    /// The file changed its size while it was read into a layer.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// The path inside the layer.
        path: PathBuf,
    },
}

/// Gives an input or output failure its place in a layer.
pub(crate) trait InLayer<T> {
    /// Names the action and the path of a failure.
    fn in_layer<P: Into<PathBuf>>(self, action: &'static str, path: impl FnOnce() -> P) -> Result<T, LayerError>;
}

impl<T, E: Into<io::Error>> InLayer<T> for Result<T, E> {
    fn in_layer<P: Into<PathBuf>>(self, action: &'static str, path: impl FnOnce() -> P) -> Result<T, LayerError> {
        self.map_err(|error| LayerError::Io { action, path: path().into(), source: error.into() })
    }
}
