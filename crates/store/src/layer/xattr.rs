//! Extended attributes: which of them belong to an image, reading and setting them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Overlayfs's mark of an opaque folder under `userxattr`.
pub(crate) const OPAQUE: &str = "user.overlay.opaque";

/// The largest value that Linux allows, in bytes.
const MAX_VALUE: usize = 64 << 10;

/// Whether an attribute belongs to an image's content. Those of overlayfs steer the mount and those of the
/// host's security modules belong to the host; neither travels.
pub(crate) fn is_exported(name: &[u8]) -> bool {
    const HOST: [&[u8]; 5] =
        [b"security.selinux", b"security.ima", b"security.evm", b"security.apparmor", b"security.SMACK64"];
    !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"user.overlay.")
        && !name.starts_with(super::ownership::PREFIX)
        && !HOST.iter().any(|host| name.starts_with(host))
}

/// Sets an attribute on an open file. Gives false where the file system or this user's rights have no place for it.
pub(super) fn set(fd: impl AsFd, name: &[u8], value: &[u8]) -> io::Result<bool> {
    accept(rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()))
}

/// Sets attributes on an open file, as far as the file system and this user's rights go.
pub(crate) fn set_all(fd: impl AsFd, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in xattrs {
        set(&fd, name, value)?;
    }
    Ok(())
}

/// Sets an attribute on a link, pipe or device by its path.
pub(super) fn set_by_path(path: &Path, name: &[u8], value: &[u8]) -> io::Result<bool> {
    accept(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()))
}

fn accept(result: rustix::io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether an open folder is marked opaque, in either of overlayfs's spellings.
pub(crate) fn is_opaque(folder: impl AsFd) -> rustix::io::Result<bool> {
    for name in [OPAQUE, "trusted.overlay.opaque"] {
        let mut value = [0_u8; 4];
        match rustix::fs::fgetxattr(&folder, name, &mut value[..]) {
            Ok(length) => {
                if &value[..length] == b"y" {
                    return Ok(true);
                }
            }
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// One attribute of an open file, or `None`.
pub(crate) fn get(fd: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut value = Vec::with_capacity(256);
    loop {
        value.clear();
        match rustix::fs::fgetxattr(&fd, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => return Ok(Some(value)),
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(Errno::RANGE) if value.capacity() < MAX_VALUE => value.reserve(value.capacity() * 4),
            Err(error) => return Err(error),
        }
    }
}

/// The attributes of an open file (not an `O_PATH` descriptor) that belong to an image, sorted by name.
pub fn read_all(fd: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = Vec::with_capacity(256);
    loop {
        names.clear();
        match rustix::fs::flistxattr(&fd, rustix::buffer::spare_capacity(&mut names)) {
            Ok(_) => break,
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(Errno::RANGE) => {
                let size = rustix::fs::flistxattr(&fd, &mut [0_u8; 0][..])?;
                names.reserve(size.max(64) * 2);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty() && is_exported(name)) {
        if let Some(value) = get(&fd, name)? {
            found.push((name.to_vec(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The attributes of a link, pipe or device that belong to an image, sorted by name.
pub(crate) fn read_all_by_path(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0_u8; 4096];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::RANGE) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty() && is_exported(name)) {
        let mut value = vec![0_u8; MAX_VALUE];
        match rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_unstable();
    Ok(found)
}
