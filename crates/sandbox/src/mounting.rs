//! Mounts by descriptor: trees are made detached and attached to places that are open, so that no name is resolved twice.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::error::{Error, Result, shown};
use crate::spec::RootFs;
use crate::sys;

/// Opens a folder or file for reference only.
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path` inside `root`: neither `..`, nor absolute symbolic links, nor magic links lead out.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    loop {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel saw a rename or mount while it resolved "..": it asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Opens `path` below `root` when no symbolic link is on the way.
pub(crate) fn open_plain(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// An option of a file system to be made.
pub(crate) enum FsOption<'a> {
    /// A name and its value.
    Text(&'a str, &'a str),
}

/// Makes a file system, detached from any tree.
pub(crate) fn make(kind: &str, options: &[FsOption<'_>], attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for option in options {
        match option {
            FsOption::Text(name, value) => fsconfig_set_string(context.as_fd(), *name, *value)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Attaches a detached tree to an open folder or file.
pub(crate) fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", flags)
}

/// A detached copy of the mount that contains `path`, rooted there.
pub(crate) fn clone_tree(folder: BorrowedFd<'_>, path: &str, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(folder, path, flags)
}

/// A root file system or mount source as a detached tree. `extra_lower` is put below all layers.
pub(crate) fn open_root(root: &RootFs, extra_lower: Option<&Path>, recursive: bool) -> Result<OwnedFd> {
    match root {
        RootFs::Directory(path) => {
            let failed = |error: io::Error| Error::setup(format!("open {}", shown(path)), error);
            let source = open_path(path).map_err(failed)?;
            clone_tree(source.as_fd(), "", recursive).map_err(|errno| failed(errno.into()))
        }
        RootFs::Layers { lowers } => overlay(lowers, extra_lower, None, false),
        RootFs::Overlay { lowers, upper, work, volatile } => {
            // A folder in it is overlay's, another holds mount points: overlay's own must not contain a layer.
            let own = work.join("overlay");
            make_folder(&own).map_err(|error| Error::setup(format!("make {}", shown(&own)), error))?;
            overlay(lowers, extra_lower, Some((upper, &own)), *volatile)
        }
    }
}

/// Makes a folder that may be there.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// A layer below all others that has every mount point: so mounting changes nothing that is kept. Only for overlays with an upper: it lies
/// in their work folder and goes with that. The targets of further mounts come with whether they are folders, where that is known.
pub(crate) fn make_mount_points(root: &RootFs, targets: &[(&str, Option<bool>)]) -> Result<Option<PathBuf>> {
    let RootFs::Overlay { work, .. } = root else { return Ok(None) };
    let base = work.join("mount-points");
    folder_for_all(&base)?;
    for folder in ["proc", "sys", "dev", "etc"] {
        folder_for_all(&base.join(folder))?;
    }
    for file in ["etc/hosts", "etc/resolv.conf"] {
        file_for_all(&base.join(file))?;
    }
    for (target, is_folder) in targets {
        let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let usual = parts.first().is_none_or(|first| ["proc", "sys", "dev"].contains(first));
        let (Some(is_folder), false, false) = (is_folder, usual, parts.contains(&"..")) else { continue };
        // What cannot be made here is made in the tree itself.
        let mut path = base.clone();
        for (index, part) in parts.iter().enumerate() {
            path.push(part);
            let last = index + 1 == parts.len();
            let made = if last && !is_folder { file_for_all(&path) } else { folder_for_all(&path) };
            if made.is_err() {
                break;
            }
        }
    }
    Ok(Some(base))
}

/// Makes a folder with the usual mode, whatever this process's mask is.
fn folder_for_all(path: &Path) -> Result<()> {
    make_folder(path)
        .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)))
        .map_err(|error| Error::setup(format!("make the mount point {}", shown(path)), error))
}

fn file_for_all(path: &Path) -> Result<()> {
    std::fs::File::create(path)
        .and_then(|file| file.set_permissions(PermissionsExt::from_mode(0o644)))
        .map_err(|error| Error::setup(format!("make the mount point {}", shown(path)), error))
}

/// A folder of the tree's that exists outside, to attach the tree over.
pub(crate) fn outside_place(root: &RootFs) -> io::Result<OwnedFd> {
    match root {
        RootFs::Directory(path) => open_path(path),
        RootFs::Overlay { upper, .. } => open_path(upper),
        RootFs::Layers { lowers } => match lowers.first() {
            Some(path) => open_path(path),
            None => Err(io::ErrorKind::InvalidInput.into()),
        },
    }
}

fn overlay(
    lowers: &[PathBuf],
    extra_lower: Option<&Path>,
    writable: Option<(&PathBuf, &PathBuf)>,
    volatile: bool,
) -> Result<OwnedFd> {
    let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).chain(extra_lower).collect();
    // Overlay wants two layers when nothing is writable; a single one is just that folder.
    if writable.is_none() && lowers.len() == 1 {
        let tree = open_root(&RootFs::Directory(lowers[0].to_owned()), None, false)?;
        sys::mount_attributes(tree.as_fd(), sys::MountAttributes::READ_ONLY, false)
            .map_err(|error| Error::setup(format!("make {} read-only", shown(lowers[0])), error))?;
        return Ok(tree);
    }
    if lowers.is_empty() {
        return Err(Error::Invalid("a root file system needs at least one layer".to_owned()));
    }
    let open =
        |path: &Path| open_path(path).map_err(|error| Error::setup(format!("open the layer {}", shown(path)), error));
    let layers = lowers.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let writable = match writable {
        Some((upper, work)) => Some((open(upper)?, open(work)?)),
        None => None,
    };
    let borrowed = writable.as_ref().map(|(upper, work)| (upper.as_fd(), work.as_fd()));
    match overlay_by_context(&layers, borrowed, volatile) {
        // Before Linux 6.5 layers are not added one by one.
        Err(Errno::INVAL | Errno::NOSYS) => overlay_by_options(&layers, borrowed, volatile, lowers[0]),
        result => result.map_err(|errno| Error::setup(format!("mount an overlay of {} layers", layers.len()), errno)),
    }
}

/// The short name by which the kernel finds an open descriptor of this process.
fn short_name(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

fn overlay_by_context(
    layers: &[OwnedFd],
    writable: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
    volatile: bool,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", "overlay")?;
    fsconfig_set_flag(context, "userxattr")?;
    let mut by_descriptor = true;
    let mut set = |key: &str, folder: BorrowedFd<'_>| {
        if by_descriptor {
            match fsconfig_set_fd(context, key, folder) {
                // Before Linux 6.13 a layer is given by name only.
                Err(Errno::INVAL | Errno::BADF) => by_descriptor = false,
                result => return result,
            }
        }
        fsconfig_set_string(context, key, short_name(folder))
    };
    for layer in layers {
        set("lowerdir+", layer.as_fd())?;
    }
    if let Some((upper, work)) = writable {
        set("upperdir", upper)?;
        set("workdir", work)?;
        fsconfig_set_string(context, "index", "off")?;
        if volatile {
            fsconfig_set_flag(context, "volatile")?;
        }
    }
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// The way of kernels before 6.5: one line of options, at most a page long.
fn overlay_by_options(
    layers: &[OwnedFd],
    writable: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
    volatile: bool,
    place: &Path,
) -> Result<OwnedFd> {
    let failed = |errno: Errno| Error::setup(format!("mount an overlay of {} layers", layers.len()), errno);
    let names: Vec<String> = layers.iter().map(|layer| short_name(layer.as_fd())).collect();
    let mut options = format!("userxattr,lowerdir={}", names.join(":"));
    if let Some((upper, work)) = writable {
        options.push_str(&format!(",upperdir={},workdir={},index=off", short_name(upper), short_name(work)));
        if volatile {
            options.push_str(",volatile");
        }
    }
    let options = CString::new(options).map_err(|_| failed(Errno::INVAL))?;
    let place_name = CString::new(place.as_os_str().as_bytes()).map_err(|_| failed(Errno::INVAL))?;
    rustix::mount::mount(
        c"overlay",
        place_name.as_c_str(),
        c"overlay",
        rustix::mount::MountFlags::empty(),
        options.as_c_str(),
    )
    .map_err(failed)?;
    let tree = open_path(place).map_err(|error| Error::setup(format!("open {}", shown(place)), error))?;
    let detached = clone_tree(tree.as_fd(), "", false).map_err(failed)?;
    rustix::mount::unmount(place_name.as_c_str(), rustix::mount::UnmountFlags::DETACH).map_err(failed)?;
    Ok(detached)
}

/// Merges a root file system into one folder that no namespace shows, for reading (and writing, with an upper).
///
/// The descriptor is the tree's root; it disappears with the last descriptor into it. The caller MUST be root or have called
/// [`enter_user_namespace`](crate::enter_user_namespace).
///
/// # Errors
/// [`Error::Setup`] when a layer cannot be opened or the kernel refuses the mount.
pub fn mount_detached(root: &RootFs) -> Result<OwnedFd> {
    let tree = open_root(root, None, false)?;
    // The mount's own descriptor only refers to it; one for reading is asked for through it.
    openat(tree.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::setup("open a merged tree", errno))
}
