//! The lock file of a build.

use std::path::{Path, PathBuf};

use super::{BuildContext, BuildRequest};
use crate::pin::{LOCK_NAME, Lock, LockError};

/// Which lock file says what tags stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LockChoice {
    /// `onetag.lock` beside the Dockerfile, if it is there. What it does not have is looked up, with a warning.
    #[default]
    Beside,
    /// This file. What it does not have is an error.
    File(PathBuf),
    /// None.
    Ignored,
}

/// A lock file that a build uses.
#[derive(Clone, Debug)]
pub(crate) struct UsedLock {
    /// The file.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) lock: Lock,
    /// Whether every tag has to be in it.
    pub(crate) is_strict: bool,
}

impl UsedLock {
    /// The lock file of a request whose Dockerfile is at `dockerfile`.
    pub(super) fn load(request: &BuildRequest, dockerfile: Option<&Path>) -> Result<Option<UsedLock>, LockError> {
        let (path, is_strict) = match (&request.lock, &request.context, dockerfile) {
            (LockChoice::File(path), _, _) => (path.clone(), true),
            (LockChoice::Beside, BuildContext::Local(_), Some(dockerfile)) => {
                let path = dockerfile.with_file_name(LOCK_NAME);
                if !path.is_file() {
                    return Ok(None);
                }
                (path, false)
            }
            _ => return Ok(None),
        };
        let lock = Lock::read(&path)?;
        Ok(Some(UsedLock { path, lock, is_strict }))
    }
}
