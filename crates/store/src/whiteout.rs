//! How an unpacked layer says that something below it is removed: overlayfs's whiteouts, in both of their forms.
//!
//! Usually a whiteout is a character device 0/0. An overlay, however, lets nobody make that device in it, so that in a
//! store that lies on one (in a container, say) it is an empty file of no permissions with `user.overlay.whiteout`,
//! the other form that overlayfs has.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use crate::files;

/// The attribute of a whiteout that is a file.
const MARK: &str = "user.overlay.whiteout";

/// Makes a whiteout. Linux lets anybody make this one device, except where it has a meaning already.
pub(crate) fn make(folder: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    let device = rustix::fs::makedev(0, 0);
    match rustix::fs::mknodat(&folder, name, FileType::CharacterDevice, Mode::empty(), device) {
        Err(Errno::PERM) => make_file(folder, name),
        made => made,
    }
}

fn make_file(folder: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    rustix::fs::fsetxattr(&file, MARK, b"y", XattrFlags::empty())
}

/// Whether what stands at `name`, in the state given, is a whiteout.
pub(crate) fn is_whiteout(folder: impl AsFd, name: &OsStr, stat: &Stat) -> bool {
    match files::file_type(stat) {
        FileType::CharacterDevice => stat.st_rdev == 0,
        // few files look like this, so that few are opened
        FileType::RegularFile if stat.st_size == 0 && files::permissions(stat) == 0 => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(folder, name, flags, Mode::empty());
            file.is_ok_and(|file| rustix::fs::fgetxattr(file, MARK, &mut [0_u8; 8][..]).is_ok())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{is_whiteout, make, make_file};
    use crate::files;

    #[test]
    fn both_forms_are_seen_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let folder = files::open_folder(place.path()).unwrap();
        make(&folder, OsStr::new("device")).unwrap();
        make_file(&folder, OsStr::new("file")).unwrap();
        std::fs::write(place.path().join("empty"), b"").unwrap();
        rustix::fs::chmod(place.path().join("empty"), rustix::fs::Mode::empty()).unwrap();
        std::fs::write(place.path().join("full"), b"content").unwrap();
        let seen = |name: &str| {
            let name = OsStr::new(name);
            is_whiteout(&folder, name, &files::stat(&folder, name).unwrap())
        };
        assert_eq!(["device", "file", "empty", "full"].map(seen), [true, true, false, false]);
    }
}
