//! Mount points that the root file system lacked: made, remembered by inode, removed afterwards when they are still what was made.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, fstat, mkdirat, openat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use serde::{Deserialize, Serialize};

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

/// A stub as another process is told of it. Its parent is looked up again; what is removed is told by its inode either way.
#[derive(Serialize, Deserialize)]
struct Record {
    path: String,
    device: u64,
    inode: u64,
    is_folder: bool,
    /// Seconds and nanoseconds of the parent's last access and modification.
    parent_times: Option<[i64; 4]>,
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

    /// Tells whoever holds the other end of a pipe, and closes it.
    pub(crate) fn tell(&self, pipe: OwnedFd) {
        let records: Vec<Record> = self
            .0
            .iter()
            .map(|stub| Record {
                path: stub.path.clone(),
                device: stub.device,
                inode: stub.inode,
                is_folder: stub.is_folder,
                parent_times: stub.parent_times.as_ref().map(|times| {
                    let (access, modification) = (&times.last_access, &times.last_modification);
                    [access.tv_sec as _, access.tv_nsec as _, modification.tv_sec as _, modification.tv_nsec as _]
                }),
            })
            .collect();
        // Whoever does not hear of them leaves them.
        if let (false, Ok(text)) = (records.is_empty(), serde_json::to_vec(&records)) {
            let _ = File::from(pipe).write_all(&text);
        }
    }

    /// Hears what another process made in the root that this one stands in too.
    pub(crate) fn hear(pipe: OwnedFd) -> Self {
        let mut text = Vec::new();
        let read = File::from(pipe).read_to_end(&mut text);
        let records: Vec<Record> = read.ok().and_then(|_| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let Ok(root) = crate::mounting::open_path(Path::new("/")) else { return Self::default() };
        Self(records.into_iter().filter_map(|record| Stub::reopen(root.as_fd(), record)).collect())
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

impl Stub {
    fn reopen(root: BorrowedFd<'_>, record: Record) -> Option<Self> {
        let (parent, name) = record.path.rsplit_once('/')?;
        let parent = if parent.is_empty() { "." } else { parent };
        Some(Self {
            parent: open_in_root(root, Path::new(parent), OFlags::PATH | OFlags::DIRECTORY).ok()?,
            name: name.to_owned(),
            device: record.device,
            inode: record.inode,
            is_folder: record.is_folder,
            parent_times: record.parent_times.map(|[accessed, accessed_part, modified, modified_part]| Timestamps {
                last_access: Timespec { tv_sec: accessed, tv_nsec: accessed_part as _ },
                last_modification: Timespec { tv_sec: modified, tv_nsec: modified_part as _ },
            }),
            path: record.path,
        })
    }
}

fn is_link(parent: &OwnedFd, name: &str) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}
