//! Making a plain tree of a merged one: for stacks that are too high, and where overlay mounts are refused.
//! Content is shared by reflink or hard link where the file system can, else copied.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::checksum::sum_of;
use crate::error::{At, Result};
use crate::files;
use crate::layer::{self, Ownership};
use crate::tree::{Leaf, MergedTree, Metadata, Node, Xattrs};

/// Makes the merged tree in the empty folder `target` by hard links: for trees that nobody writes to.
pub(crate) fn materialize(tree: &MergedTree, target: &Path, ownership: Ownership) -> Result<()> {
    Maker::new(target, ownership, true)?.make(tree)
}

/// Makes the merged tree in the empty folder `target` with content of its own (shared by reflink where the file
/// system can): for trees that will be written to.
pub(crate) fn materialize_writable(tree: &MergedTree, target: &Path, ownership: Ownership) -> Result<()> {
    Maker::new(target, ownership, false)?.make(tree)
}

struct Maker {
    root: OwnedFd,
    ownership: Ownership,
    share: bool,
    /// First names of files that have several.
    links: HashMap<(u64, u64), PathBuf>,
    directories: Vec<(PathBuf, Metadata)>,
}

impl Maker {
    fn new(target: &Path, ownership: Ownership, share: bool) -> Result<Maker> {
        let root = files::open_folder(target).at("open", target)?;
        Ok(Maker { root, ownership, share, links: HashMap::new(), directories: Vec::new() })
    }

    fn make(mut self, tree: &MergedTree) -> Result<()> {
        for entry in tree.walk(Path::new(""))? {
            let entry = entry?;
            self.entry(&entry.path, &entry.node)?;
        }
        for (path, metadata) in self.directories.iter().rev() {
            let folder = files::open_in_root(&self.root, path, files::FOLDER).at("open", path)?;
            set_directory(&folder, metadata, self.ownership).at("set attributes of", path)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, node: &Node) -> Result<()> {
        let metadata = node.metadata()?;
        if metadata.is_directory() {
            if !path.as_os_str().is_empty() {
                rustix::fs::mkdirat(&self.root, path, Mode::from_raw_mode(0o700)).at("make folder", path)?;
            }
            let folder = files::open_in_root(&self.root, path, files::FOLDER).at("open", path)?;
            layer::set_xattrs(&folder, &node.xattrs()?).at("set attributes of", path)?;
            self.directories.push((path.to_owned(), metadata));
            return Ok(());
        }
        let Node::Leaf(leaf) = node else { return Ok(()) };
        let parent = path.parent().unwrap_or(Path::new(""));
        let folder = files::open_in_root(&self.root, parent, files::FOLDER).at("open", parent)?;
        let name = path.file_name().unwrap_or_default();
        if metadata.links > 1 {
            if let Some(first) = self.links.get(&metadata.inode) {
                return rustix::fs::linkat(&self.root, first, &folder, name, AtFlags::empty()).at("link", path);
            }
            self.links.insert(metadata.inode, path.to_owned());
        }
        if self.share && leaf.link_to(&folder, name).is_ok() {
            return Ok(());
        }
        copy_leaf(leaf, &folder, name, self.ownership)
    }
}

/// Makes a copy of a file, link, pipe or device with all its attributes.
pub(crate) fn copy_leaf(leaf: &Leaf, folder: &OwnedFd, name: &OsStr, ownership: Ownership) -> Result<()> {
    let metadata = leaf.metadata()?;
    let path = leaf.path();
    match metadata.file_type {
        FileType::RegularFile => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600)).at("create file", path)?;
            let target = File::from(target);
            let source = leaf.open()?;
            copy_content(&source, &target, &mut true).at("copy", path)?;
            confirm(leaf, &source, &target)?;
            ownership.set(&target, metadata.uid, metadata.gid, true).at("set owner of", path)?;
            rustix::fs::fchmod(&target, Mode::from_raw_mode(metadata.mode)).at("set mode of", path)?;
            let xattrs = xattrs_of(leaf, &source)?;
            layer::set_xattrs(&target, &xattrs).at("set attributes of", path)?;
            let (seconds, nanoseconds) = metadata.mtime;
            return rustix::fs::futimens(&target, &files::timestamps(seconds, nanoseconds)).at("set time of", path);
        }
        FileType::Symlink => {
            rustix::fs::symlinkat(leaf.read_link()?, folder, name).at("make symbolic link", path)?;
        }
        other => {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(folder, name, other, mode, metadata.rdev).at("make device", path)?;
            let mode = Mode::from_raw_mode(metadata.mode);
            rustix::fs::chmodat(folder, name, mode, AtFlags::empty()).at("set mode of", path)?;
        }
    }
    set_special(folder, name, &metadata, ownership).at("set attributes of", path)
}

/// Makes sure that a copy holds what the tree showed.
pub(crate) fn confirm(leaf: &Leaf, source: &File, target: &File) -> Result<()> {
    leaf.confirm(source, || sum_of(target, leaf.state().size))
}

/// The attributes of a file that is open: those that the tree showed.
pub(crate) fn xattrs_of(leaf: &Leaf, source: &File) -> Result<Xattrs> {
    match leaf.frozen_file() {
        Some(_) => Node::Leaf(leaf.clone()).xattrs(),
        None => layer::read_xattrs(source).at("read attributes of", leaf.path()),
    }
}

/// Copies the content of a file into an empty one: by reflink where the file system can.
/// Where it cannot, `reflink` is cleared so that it is not tried again.
pub(crate) fn copy_content(source: &File, target: &File, reflink: &mut bool) -> io::Result<()> {
    if *reflink && rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    *reflink = false;
    // The standard library copies inside the kernel where that works.
    let (mut source, mut target) = (source, target);
    io::copy(&mut source, &mut target).map(drop)
}

/// Owner and time of what cannot be opened.
pub(crate) fn set_special(folder: &OwnedFd, name: &OsStr, metadata: &Metadata, ownership: Ownership) -> io::Result<()> {
    ownership.set_at(folder, name, metadata.uid, metadata.gid)?;
    let times = files::timestamps(metadata.mtime.0, metadata.mtime.1);
    Ok(rustix::fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Owner, mode and time of an open folder.
pub(crate) fn set_directory(folder: impl AsFd, metadata: &Metadata, ownership: Ownership) -> io::Result<()> {
    ownership.set(&folder, metadata.uid, metadata.gid, true)?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(metadata.mode))?;
    Ok(rustix::fs::futimens(&folder, &files::timestamps(metadata.mtime.0, metadata.mtime.1))?)
}
