//! Small operations on files, relative to folder descriptors, shared by the modules of the store.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

/// Flags for a folder that is only walked through or listed.
pub(crate) const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a folder by path, following links: for paths that the store itself made.
pub(crate) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, FOLDER, Mode::empty())?)
}

/// Opens `path` inside `root`: symlinks are followed as if `root` were `/`, magic links never.
pub(crate) fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let relative = path.as_os_str().as_bytes();
    let start = relative.iter().position(|&byte| byte != b'/').unwrap_or(relative.len());
    let relative: &OsStr =
        if start == relative.len() { OsStr::new(".") } else { OsStr::from_bytes(&relative[start..]) };
    open_resolving(root, Path::new(relative), flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` relative to `root` under the kernel's rules of `resolve`.
pub(crate) fn open_resolving(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    loop {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => continue,
            other => return other,
        }
    }
}

/// Makes a folder and its parents with mode 0700 where they are absent.
pub(crate) fn create_folders(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes what was written to a file, and its entry in the folder above, survive a crash of the machine.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)?.sync_all()
}

/// Replaces `path` by `content` in one step that survives a crash: written to `temporary`, synced, renamed.
pub(crate) fn replace_file(path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| std::fs::rename(temporary, path)) {
        let _ = std::fs::remove_file(temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// The names in a folder in byte order, without `.` and `..`, each with its type where the file system tells.
pub(crate) fn list(folder: impl AsFd) -> rustix::io::Result<Vec<(OsString, FileType)>> {
    // Others may read through the same descriptor, whose position all share.
    list_unread(rustix::fs::openat(folder, ".", FOLDER, Mode::empty())?)
}

/// As [`list`] through a descriptor that nobody has read from and nobody else reads from: it is not opened again.
pub(crate) fn list_unread(folder: impl AsFd) -> rustix::io::Result<Vec<(OsString, FileType)>> {
    let mut buffer = Vec::with_capacity(8 << 10);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((OsString::from_vec(name.to_vec()), entry.file_type()));
        }
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// The state of `name` in `folder`, the link itself where it is one.
pub(crate) fn stat(folder: impl AsFd, name: &OsStr) -> rustix::io::Result<Stat> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The type of file of a state.
pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The permission bits of a state, set-id and sticky bits among them.
pub(crate) fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// Now: seconds since 1970 and nanoseconds.
pub(crate) fn instant() -> (i64, u32) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or(0), since.subsec_nanos())
}

/// A pair of timestamps that sets access and modification time to the same instant.
pub(crate) fn timestamps(seconds: i64, nanoseconds: u32) -> Timestamps {
    let instant = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) as _ };
    Timestamps { last_access: instant, last_modification: instant }
}

/// Removes `name` in `folder` whatever it is, a folder with all below it. Never follows a link and never
/// leaves the folder, whatever another process does to the tree meanwhile. Absence is success.
pub(crate) fn remove_tree(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let top = open_to_empty(folder.as_fd(), name)?;
    empty_folder(top)?;
    match rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder that is about to be emptied, giving its owner the access that this needs.
fn open_to_empty(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = FOLDER | OFlags::NOFOLLOW;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(folder, name, Mode::from_raw_mode(0o700), AtFlags::empty())?;
            Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

/// Descriptors that a removal holds at once; deeper folders are moved up first.
const MAX_OPEN_LEVELS: usize = 128;

/// A folder being emptied.
struct Level {
    fd: OwnedFd,
    /// What is left, each with whether it was listed as a folder.
    names: Vec<(OsString, bool)>,
    made_writable: bool,
}

impl Level {
    fn open(fd: OwnedFd) -> io::Result<Level> {
        let names = list(&fd)?.into_iter().map(|(name, kind)| (name, kind == FileType::Directory)).collect();
        Ok(Level { fd, names, made_writable: false })
    }

    /// Removes one name. Gives the folder that must be emptied first where the name is one. What it was listed as
    /// only saves an attempt: it may be something else by now.
    fn remove(&mut self, name: &OsStr, mut is_folder: bool) -> io::Result<Option<OwnedFd>> {
        loop {
            if !is_folder {
                match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => return Ok(None),
                    Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTEMPTY | Errno::EXIST) => return open_to_empty(self.fd.as_fd(), name).map(Some),
                Err(Errno::NOTDIR) if is_folder => is_folder = false,
                Err(Errno::ACCESS) if !self.made_writable => {
                    rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(0o700))?;
                    self.made_writable = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Removes everything in a folder, deepest first, without recursion: trees may be deeper than a thread's stack
/// and than the limit of open files.
fn empty_folder(top: OwnedFd) -> io::Result<()> {
    let mut levels = vec![Level::open(top)?];
    let mut moved = 0_u64;
    while let Some(level) = levels.last_mut() {
        let Some((name, is_folder)) = level.names.last().cloned() else {
            levels.pop();
            continue;
        };
        let Some(child) = level.remove(&name, is_folder)? else {
            level.names.pop();
            continue;
        };
        if levels.len() < MAX_OPEN_LEVELS {
            levels.push(Level::open(child)?);
            continue;
        }
        let shallow = OsString::from(format!(".onetag-removed-{moved}"));
        moved += 1;
        let deep = levels.len() - 1;
        rustix::fs::renameat(&levels[deep].fd, &name, &levels[0].fd, &shallow)?;
        levels[deep].names.pop();
        levels[0].names.insert(0, (shallow, true));
    }
    Ok(())
}

/// The path of `name` in an opened folder, for the few system calls that take no descriptor.
pub(crate) fn path_through(folder: impl AsFd, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd()));
    path.push(name);
    path
}

/// Whether two files hold the same bytes.
pub(crate) fn same_content(a: &File, b: &File) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    let mut position = 0;
    loop {
        let read = a.read_at(&mut left, position)?;
        if read == 0 {
            return Ok(true);
        }
        if b.read_exact_at(&mut right[..read], position).is_err() || left[..read] != right[..read] {
            return Ok(false);
        }
        position += read as u64;
    }
}
