//! Why a step failed.

use onetag_store::Error as StoreError;
use onetag_store::copy::CopyError;

use crate::catalog::CatalogError;
use crate::context::ContextError;
use crate::layers::LayerError;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The process ended with another status than it should.
    #[error("process \"{process}\" did not complete successfully: exit code: {code}")]
    ExitCode {
        /// Program and arguments.
        process: String,
        /// The exit code; 128 and the signal's number where a signal ended it.
        code: i32,
        /// What this user lacks that the process may have needed.
        hint: Option<String>,
    },
    /// The process used more memory than there was.
    #[error("process \"{process}\" did not complete successfully: cannot allocate memory: exit code: {code}")]
    OutOfMemory {
        /// Program and arguments.
        process: String,
        /// The exit code.
        code: i32,
    },
    /// The process could not be started.
    #[error("process \"{process}\" did not start")]
    Sandbox {
        /// Program and arguments.
        process: String,
        /// Why not.
        #[source]
        source: onetag_sandbox::Error,
    },
    /// The step was cancelled.
    #[error("context canceled")]
    Cancelled,
    /// A path to copy that is not there.
    #[error("failed to compute cache key: failed to calculate checksum: {path:?}: not found")]
    PathNotFound {
        /// The path.
        path: String,
    },
    /// Permission bits that mean nothing.
    #[error(transparent)]
    Mode(#[from] onetag_dockerfile::chmod::ModeError),
    /// A secret that the step needs was not given.
    #[error("secret {id}: not found")]
    SecretNotFound {
        /// Its id.
        id: String,
    },
    /// An SSH agent that the step needs was not given.
    #[error("unset ssh forward key {id}")]
    SshNotFound {
        /// Its id.
        id: String,
    },
    /// Privileges that were not granted.
    #[error("{entitlement} is not allowed")]
    NotAllowed {
        /// The entitlement's name.
        entitlement: &'static str,
    },
    /// A source that this builder does not know.
    #[error("unknown source {identifier}")]
    UnknownSource {
        /// Its identifier.
        identifier: String,
    },
    /// A local source that the build was not given.
    #[error("no local folder is named {name}")]
    UnknownContext {
        /// Its name.
        name: String,
    },
    /// An attribute of a source that cannot be read.
    #[error("attribute {name} of {identifier} is not valid")]
    Attribute {
        /// The source.
        identifier: String,
        /// The attribute.
        name: &'static str,
    },
    /// An input that the operation refers to is not there.
    #[error("invalid input {index} of {operation}")]
    Input {
        /// The input.
        index: usize,
        /// The operation.
        operation: &'static str,
    },
    /// Something that this builder does not do.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// An address that is none.
    #[error("invalid address {address:?} of host {host}")]
    Address {
        /// The host.
        host: String,
        /// The address.
        address: String,
    },
    /// An image that cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A layer whose files are not to be had.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A folder of the host that cannot be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// Copying or making files failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Content that is not what was pinned.
    #[error("digest mismatch {actual}: {expected}")]
    Checksum {
        /// The digest of what came.
        actual: onetag_oci::Digest,
        /// The digest that was pinned.
        expected: onetag_oci::Digest,
    },
    /// A file at a URL that cannot be fetched.
    #[error(transparent)]
    Download(#[from] onetag_registry::Error),
    /// A repository that cannot be used.
    #[error(transparent)]
    Git(#[from] super::git::GitError),
    /// A reference that is none.
    #[error(transparent)]
    Reference(#[from] onetag_oci::ReferenceError),
    /// Reading or writing failed.
    #[error("{action}")]
    Io {
        /// What was attempted.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl StepError {
    /// Whether the host did not allow an overlay mount.
    pub(crate) fn is_overlay_refused(&self) -> bool {
        matches!(self, Self::Sandbox { source, .. } if source.is_overlay_refused())
    }

    /// What to type to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Sandbox { source, .. } => source.hint(),
            Self::ExitCode { hint, .. } => hint.clone(),
            Self::Git(error) => error.hint(),
            Self::NotAllowed { entitlement } => Some(format!("--allow {entitlement}")),
            Self::Copy(CopyError::Store(StoreError::Changed { .. }))
            | Self::Store(StoreError::Changed { .. })
            | Self::Layer(LayerError::Store(StoreError::Changed { .. })) => {
                Some(crate::context::CHANGED_HINT.to_owned())
            }
            _ => None,
        }
    }
}
