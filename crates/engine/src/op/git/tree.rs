//! The files of repositories and checkouts.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_OMIT};

use super::error::{GitError, Result, io_error};

/// How deep folders of a checkout may nest where their times are set.
const DEPTH_LIMIT: usize = 200;

/// A folder of a checkout, reached without a symbolic link or `..`.
pub(super) fn inside(checkout: &Path, folder: &str) -> Result<PathBuf> {
    let mut path = checkout.to_owned();
    for part in folder.split('/').filter(|part| !part.is_empty() && *part != ".") {
        path.push(part);
        let is_folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        if part == ".." || !is_folder {
            return Err(GitError::Folder(folder.to_owned()));
        }
    }
    Ok(path)
}

/// Removes `.git` everywhere: folders, and the files of submodules.
pub(super) fn remove_git_folders(folder: &Path, depth: usize) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(io_error("read", folder))?;
    for entry in entries {
        let entry = entry.map_err(io_error("read", folder))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(io_error("read", folder))?);
        match (entry.file_name() == ".git", kind.is_dir()) {
            (true, true) => fs::remove_dir_all(&path).map_err(io_error("remove", &path))?,
            (true, false) => fs::remove_file(&path).map_err(io_error("remove", &path))?,
            (false, true) if depth < DEPTH_LIMIT => remove_git_folders(&path, depth + 1)?,
            _ => {}
        }
    }
    Ok(())
}

/// Gives everything the same modification time.
pub(super) fn set_times(folder: &Path, seconds: i64, depth: usize) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let entry = entry.map_err(io_error("read", folder))?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < DEPTH_LIMIT {
            set_times(&path, seconds, depth + 1)?;
        } else {
            set_time(&path, seconds)?;
        }
    }
    set_time(folder, seconds)
}

fn set_time(path: &Path, seconds: i64) -> Result<()> {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };
    let times = Timestamps { last_access: omit, last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 } };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| io_error("set the time of", path)(errno.into()))
}

/// Removes what a fetch that was ended left behind.
pub(super) fn remove_leftovers(repository: &Path) {
    // What is not there needs no removing, and what cannot be removed is git's to complain of.
    let _ = fs::remove_file(repository.join("shallow.lock"));
    for entry in fs::read_dir(repository.join("objects/pack")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("tmp_") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_cannot_be_left() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("a/link")).unwrap();
        assert_eq!(inside(root.path(), "/a/./b/").unwrap(), root.path().join("a/b"));
        assert_eq!(inside(root.path(), "").unwrap(), root.path());
        for folder in ["..", "a/../..", "a/link", "a/missing"] {
            assert!(matches!(inside(root.path(), folder), Err(GitError::Folder(_))), "{folder}");
        }
    }
}
