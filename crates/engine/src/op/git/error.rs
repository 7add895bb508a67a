//! Why a repository cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use super::FILE_LIMIT;

pub(super) type Result<T> = std::result::Result<T, GitError>;

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git program.
    #[error("git is not installed: install it, or give the files as a local context")]
    NoProgram,
    /// The program does not start.
    #[error("cannot run {}", program.display())]
    Start {
        /// Where it is.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program failed.
    #[error("git {action} failed: {message}")]
    Failed {
        /// The command.
        action: String,
        /// What it said last.
        message: String,
    },
    /// Nothing came any more.
    #[error("git {action} failed: nothing arrived for {seconds} seconds")]
    Stalled {
        /// The command.
        action: String,
        /// For how long.
        seconds: u64,
    },
    /// More came than anybody means.
    #[error("the repository takes more than {bytes} bytes")]
    TooLarge {
        /// The limit.
        bytes: u64,
    },
    /// More files than anybody means; a small repository can name any number.
    #[error("the repository has more than {FILE_LIMIT} files")]
    TooManyFiles,
    /// Neither a branch nor a tag nor a commit.
    #[error("repository does not contain ref {0}")]
    NoReference(String),
    /// SSH without an agent.
    #[error("no SSH key {0:?} forwarded from the client")]
    NoAgent(String),
    /// A pinned commit that is none.
    #[error("invalid checksum {0} for Git URL, expected hex commit hash")]
    InvalidChecksum(String),
    /// The build was cancelled.
    #[error("context canceled")]
    Cancelled,
    /// An address that git could misunderstand.
    #[error("invalid repository address {0:?}")]
    Address(String),
    /// A reference that git could misunderstand.
    #[error("invalid reference {0:?}")]
    Reference(String),
    /// The commit is not the one that was pinned.
    #[error("expected checksum to match {expected}, got {actual}")]
    Checksum {
        /// What was pinned.
        expected: String,
        /// The commit.
        actual: String,
    },
    /// The folder is not in the repository.
    #[error("invalid subdir {0:?}: not a directory of the repository")]
    Folder(String),
    /// Reading or writing failed.
    #[error("{action}")]
    Io {
        /// What was attempted.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl GitError {
    /// What to type to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoAgent(id) if id == "default" => {
                Some("eval $(ssh-agent) && ssh-add, then build --ssh default".into())
            }
            Self::NoAgent(id) => Some(format!("build --ssh {id}=SOCKET")),
            _ => None,
        }
    }
}

pub(super) fn io_error(action: &str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let action = format!("{action} {}", path.display());
    move |source| GitError::Io { action, source }
}
