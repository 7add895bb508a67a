//! How an unpacked layer says that something below it is removed: overlayfs's whiteouts, in both of their forms.
//!
//! Usually a whiteout is a character device 0/0. An overlay, however, lets nobody make that device in it, so that in a
//! store that lies on one (in a container, say) it is an empty file of no permissions with `user.overlay.whiteout`,
//! the other form that overlayfs has. The kernel looks for that form only in folders that say `user.overlay.opaque=x`.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use crate::files;
use crate::layer::OPAQUE;

/// The attribute of a whiteout that is a file.
const MARK: &str = "user.overlay.whiteout";
/// The value of [`OPAQUE`] of a folder that holds such files, and hides nothing else of what is below.
const HOLDS_FILES: &[u8] = b"x";
/// The value of [`OPAQUE`] of a folder that hides all that is below.
const HIDES_ALL: &[u8] = b"y";

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
    if opacity(&folder)?.as_deref() == Some(HIDES_ALL) {
        return Ok(());
    }
    let file = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
    rustix::fs::fsetxattr(&file, MARK, b"y", XattrFlags::empty())?;
    rustix::fs::fsetxattr(&folder, OPAQUE, HOLDS_FILES, XattrFlags::empty())
}

/// Has a folder hide all that is below. Whiteouts in it that are files go: they have nothing left to hide, and the
/// kernel would show them as files.
pub(crate) fn make_opaque(folder: impl AsFd) -> rustix::io::Result<()> {
    if opacity(&folder)?.as_deref() == Some(HOLDS_FILES) {
        for (name, _) in files::list(&folder)? {
            let stat = files::stat(&folder, &name)?;
            if files::file_type(&stat) == FileType::RegularFile && is_whiteout(&folder, &name, &stat) {
                rustix::fs::unlinkat(&folder, &name, AtFlags::empty())?;
            }
        }
    }
    rustix::fs::fsetxattr(folder, OPAQUE, HIDES_ALL, XattrFlags::empty())
}

fn opacity(folder: impl AsFd) -> rustix::io::Result<Option<Vec<u8>>> {
    crate::layer::get_xattr(folder, OPAQUE.as_bytes())
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
    use std::path::Path;
    use std::process::Command;

    use super::{is_whiteout, make, make_file, make_opaque};
    use crate::files;
    use crate::layer::is_opaque;

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
        assert!(!is_opaque(&folder).unwrap(), "what is below is still to be seen");
    }

    /// What an overlay of two folders shows, or why none can be mounted here.
    fn mounted(upper: &Path, lower: &Path) -> Result<String, String> {
        let target = tempfile::tempdir().unwrap();
        let options = format!("userxattr,lowerdir={}:{}", upper.display(), lower.display());
        let script =
            r#"mount -t overlay -o "$1" overlay "$2" && cd "$2" && LC_ALL=C ls && LC_ALL=C ls d && cat d/gone"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", &options]).arg(target.path());
        let output = command.output().map_err(|error| error.to_string())?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.stdout.is_empty() {
            return Err(errors);
        }
        Ok(String::from_utf8_lossy(&output.stdout).replace('\n', " ") + &errors)
    }

    #[test]
    fn the_kernel_takes_the_files_for_whiteouts() {
        let place = tempfile::tempdir().unwrap();
        let (upper, lower) = (place.path().join("upper"), place.path().join("lower"));
        for (folder, name) in [(&lower, "d"), (&upper, "d")] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        for name in ["gone", "kept", "d/gone", "d/kept"] {
            std::fs::write(lower.join(name), name).unwrap();
        }
        for folder in [upper.clone(), upper.join("d")] {
            make_file(files::open_folder(&folder).unwrap(), OsStr::new("gone")).unwrap();
        }
        let is_absent = |shown: &str| shown.contains("d/gone: No such file");
        match mounted(&upper, &lower) {
            Ok(shown) => assert!(shown.starts_with("d kept kept ") && is_absent(&shown), "{shown}"),
            // Linux has this form since 6.7, and mounts need rights
            Err(error) => return eprintln!("skipped: {error}"),
        }
        make_opaque(files::open_folder(&upper.join("d")).unwrap()).unwrap();
        make_file(files::open_folder(&upper.join("d")).unwrap(), OsStr::new("gone")).unwrap();
        assert!(!upper.join("d/gone").exists(), "there is nothing left to hide");
        let shown = mounted(&upper, &lower).unwrap();
        assert!(shown.starts_with("d kept ") && !shown.contains("kept kept") && is_absent(&shown), "{shown}");
    }
}
