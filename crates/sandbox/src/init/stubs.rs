//! Mount points that the root file system lacked: made, remembered by inode, removed afterwards when they are still what was made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, fstat, mkdirat, openat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::mounting::open_in_root;

/// One made file or folder.
struct Stub {
    parent: OwnedFd,
    name: String,
    /// From the root, to unmount what was put there.
    path: String,
    device: u64,
    inode: u64,
    is_folder: bool,
    parent_times: Option<Timestamps>,
}

/// All that were made, in order.
#[derive(Default)]
pub(crate) struct Stubs(Vec<Stub>);

impl Stubs {
    /// Opens `path` inside `root`, making what is missing: folders, and an empty file at the end unless `folder`.
    pub(crate) fn open_or_make(
        &mut self,
        root: BorrowedFd<'_>,
        path: &str,
        folder: bool,
    ) -> rustix::io::Result<OwnedFd> {
        match open_in_root(root, Path::new(path), OFlags::PATH) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let mut parent = open_in_root(root, Path::new("."), OFlags::PATH | OFlags::DIRECTORY)?;
        for (index, name) in components.iter().enumerate() {
            let so_far = components[..=index].join("/");
            let is_folder = folder || index + 1 < components.len();
            parent = loop {
                match open_in_root(root, Path::new(&so_far), OFlags::PATH) {
                    Err(Errno::NOENT) => match self.make(&parent, name, &so_far, is_folder) {
                        // Somebody else made it meanwhile; a dangling symbolic link stays one and ends this.
                        Err(Errno::EXIST) if !is_link(&parent, name) => {}
                        result => break result?,
                    },
                    result => break result?,
                }
            };
        }
        Ok(parent)
    }

    fn make(&mut self, parent: &OwnedFd, name: &str, path: &str, folder: bool) -> rustix::io::Result<OwnedFd> {
        if name == ".." {
            return Err(Errno::NOENT);
        }
        let parent_times = fstat(parent.as_fd()).ok().map(|stat| Timestamps {
            last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
            last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
        });
        let made = if folder {
            mkdirat(parent.as_fd(), name, Mode::from_raw_mode(0o755))?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(parent.as_fd(), name, flags, Mode::empty())?
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            drop(openat(parent.as_fd(), name, flags, Mode::from_raw_mode(0o644))?);
            openat(parent.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?
        };
        let stat = fstat(made.as_fd())?;
        self.0.push(Stub {
            parent: parent.try_clone().map_err(|_| Errno::MFILE)?,
            name: name.to_owned(),
            path: format!("/{path}"),
            device: stat.st_dev,
            inode: stat.st_ino,
            is_folder: folder,
            parent_times,
        });
        Ok(made)
    }

    /// Whether nothing was made.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Unmounts and removes what was made, the last first: a folder that is empty, a file without content. Everything else was used and
    /// stays. The caller MUST stand in the root, and no process may be left in it.
    pub(crate) fn remove(self) {
        for stub in self.0.into_iter().rev() {
            let parent = stub.parent.as_fd();
            let _ = rustix::mount::unmount(stub.path.as_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            let Ok(stat) = statat(parent, &stub.name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if stat.st_dev != stub.device || stat.st_ino != stub.inode {
                continue;
            }
            let removed = if stub.is_folder {
                unlinkat(parent, &stub.name, AtFlags::REMOVEDIR).is_ok()
            } else {
                let empty = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
                empty && unlinkat(parent, &stub.name, AtFlags::empty()).is_ok()
            };
            if let (true, Some(times)) = (removed, &stub.parent_times) {
                let _ = utimensat(parent, "", times, AtFlags::EMPTY_PATH);
            }
        }
    }
}

fn is_link(parent: &OwnedFd, name: &str) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}
