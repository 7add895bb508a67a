//! Claims on work: of several processes that are about to do the same, one does it and the others learn that.
//!
//! A claim is a file in `locks/work/` that its owner keeps locked, so that it ends with the process, however that ends.
//! The file is removed before its lock is given up; whoever opened it in between finds that the name means nothing or
//! another file, and tries again. What a killed process left is taken by the next claim of that name, or collected.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use onetag_oci::Digest;
use rustix::fs::FlockOperation;

use crate::error::{At, Result};
use crate::files;
use crate::store::{Store, lock_file};

/// Work that no other process does while this lives.
#[derive(Debug)]
pub struct WorkClaim {
    path: PathBuf,
    /// Keeps the lock.
    _file: File,
}

impl Store {
    /// Claims the work that a digest stands for, without waiting; `None` when somebody else, of this process or another,
    /// has the claim.
    pub fn claim_work(&self, name: &Digest) -> Result<Option<WorkClaim>> {
        let folder = self.work_claims();
        let path = folder.join(name.encoded());
        loop {
            let opened = File::options().create(true).append(true).open(&path);
            let file = match opened {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    files::create_folders(&folder).at("make folder", &folder)?;
                    continue;
                }
                opened => opened.at("open", &path)?,
            };
            match lock_file(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                locked => locked.at("lock", &path)?,
            }
            if is_named(&file, &path).at("examine", &path)? {
                return Ok(Some(WorkClaim { path, _file: file }));
            }
        }
    }

    /// Removes the claims of ended processes.
    pub(crate) fn remove_dead_claims(&self) -> Result<()> {
        let folder = self.work_claims();
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.at("list", &folder)?,
        };
        for entry in entries {
            let name = entry.at("list", &folder)?.file_name();
            if let Ok(name) = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>() {
                drop(self.claim_work(&name)?);
            }
        }
        Ok(())
    }

    fn work_claims(&self) -> PathBuf {
        self.root().join("locks/work")
    }
}

/// Whether a path still means the file.
fn is_named(file: &File, path: &Path) -> std::io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for WorkClaim {
    fn drop(&mut self) {
        // Still locked here: nobody can have claimed it yet. What stays is claimed again as it is.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_has_a_claim_at_a_time_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let name = Digest::sha256(b"work");
        let claim = store.claim_work(&name).unwrap().unwrap();
        assert!(store.claim_work(&name).unwrap().is_none());
        assert!(store.claim_work(&Digest::sha256(b"other")).unwrap().is_some());
        drop(claim);
        assert!(store.claim_work(&name).unwrap().is_some());
        assert_eq!(std::fs::read_dir(store.work_claims()).unwrap().count(), 0);
    }

    #[test]
    fn what_an_ended_process_left_is_taken_and_collected() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let name = Digest::sha256(b"work");
        drop(store.claim_work(&name).unwrap());
        let path = store.work_claims().join(name.encoded());
        std::fs::write(&path, b"").unwrap();
        assert!(store.claim_work(&name).unwrap().is_some());
        std::fs::write(&path, b"").unwrap();
        store.remove_dead_claims().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn claims_hold_under_contention() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let name = Digest::sha256(b"work");
        let (inside, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while done.load(Ordering::SeqCst) < 200 {
                        let Some(claim) = store.claim_work(&name).unwrap() else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        done.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(claim);
                    }
                });
            }
        });
    }
}
