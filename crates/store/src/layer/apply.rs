//! Applying an archive to an empty folder, in overlay form.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::{InLayer, LayerError};
use super::header::{EntryKind, Header};
use super::limits::Limits;
use super::ownership::Ownership;
use super::reader::TarReader;
use super::target::{LayerPath, Target, occupant, open_folder_at};
use super::{AUFS_PREFIX, OPAQUE_WHITEOUT, WHITEOUT_PREFIX, xattr};
use crate::files;
use crate::path_serde;
use crate::whiteout;

/// A hard link whose target the layer itself does not hold: the layers below do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnresolvedLink {
    /// The link's path, relative to the root.
    #[serde(with = "path_serde::one")]
    pub path: PathBuf,
    /// The path that it is another name of, relative to the root.
    #[serde(with = "path_serde::one")]
    pub target: PathBuf,
}

/// A device node that this process may not make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedNode {
    /// The node's path, relative to the root.
    #[serde(with = "path_serde::one")]
    pub path: PathBuf,
    /// Whether it is a block device; else a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
}

/// What names that begin with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// Removals from the layers below, as in an image's layer.
    Overlay,
    /// Nothing: they are files, as in any other archive.
    Literal,
}

/// What an applied layer holds beyond its tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Whether the archive has an entry for the root folder.
    pub has_root: bool,
    /// Folders that the archive fills but has no entry for, parents first. In a stack they look as in the
    /// layers below.
    #[serde(with = "path_serde::many")]
    pub implicit_directories: Vec<PathBuf>,
    /// Hard links into the layers below.
    pub unresolved_links: Vec<UnresolvedLink>,
    /// Devices that were left out.
    pub skipped_nodes: Vec<SkippedNode>,
}

/// Applies an uncompressed archive to the empty folder `target`.
///
/// Paths are resolved inside `target` and never leave it, whatever links the archive makes. On failure the folder
/// holds an unfinished tree and must be thrown away.
pub fn apply<R: Read>(
    archive: &mut TarReader<R>,
    target: OwnedFd,
    ownership: Ownership,
    limits: &Limits,
    whiteouts: Whiteouts,
) -> Result<Applied, LayerError> {
    let mut applier = Applier {
        target: Target::new(target),
        ownership,
        limits,
        whiteouts,
        directories: BTreeMap::new(),
        implicit: BTreeMap::new(),
        links: HashMap::new(),
        applied: Applied::default(),
    };
    while let Some(header) = archive.next_entry()? {
        applier.entry(&header, archive)?;
    }
    applier.finish()
}

/// What a folder gets once its content is complete.
struct DirectoryAttributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
}

struct Applier<'a> {
    target: Target,
    ownership: Ownership,
    limits: &'a Limits,
    whiteouts: Whiteouts,
    directories: BTreeMap<LayerPath, DirectoryAttributes>,
    implicit: BTreeMap<LayerPath, ()>,
    /// Unresolved links by path, in the archive's order of definition.
    links: HashMap<LayerPath, LayerPath>,
    applied: Applied,
}

impl Applier<'_> {
    fn entry<R: Read>(&mut self, header: &Header, archive: &mut TarReader<R>) -> Result<(), LayerError> {
        self.applied.entries += 1;
        let path = LayerPath::parse(&header.path, self.limits)?;
        let Some((parent, name)) = path.split() else {
            if header.kind == EntryKind::Directory {
                self.applied.has_root = true;
                self.directory_attributes(path, header, &*self.target.root())?;
            }
            return Ok(());
        };
        let implicit = &mut self.implicit;
        let parent_fd = self.target.open_or_make(&parent, &mut |made| {
            implicit.insert(made, ());
        })?;
        if self.whiteouts == Whiteouts::Overlay && name.as_bytes().starts_with(WHITEOUT_PREFIX) {
            return self.whiteout(&parent, &*parent_fd, &name);
        }
        let at = || path.to_path_buf();
        if header.kind == EntryKind::Directory {
            return self.directory(header, path, &*parent_fd, &name);
        }
        if header.kind == EntryKind::File {
            self.links.remove(&path);
        } else {
            self.make_room(&path, &*parent_fd, &name)?;
        }
        match header.kind {
            EntryKind::File => self.file(header, &path, &*parent_fd, &name, archive)?,
            EntryKind::HardLink => return self.hard_link(header, &path, &*parent_fd, &name),
            EntryKind::Symlink => {
                rustix::fs::symlinkat(OsStr::from_bytes(&header.link), &*parent_fd, &name)
                    .in_layer("make symbolic link", at)?;
                self.special_attributes(header, &path, &*parent_fd, &name)?;
            }
            EntryKind::CharacterDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                self.node(header, &path, &*parent_fd, &name)?;
            }
            EntryKind::Directory => {}
        }
        Ok(())
    }

    /// Removes what an earlier entry left at a name that is written again.
    fn make_room(&mut self, path: &LayerPath, parent: impl AsFd, name: &OsStr) -> Result<(), LayerError> {
        self.links.remove(path);
        if occupant(&parent, name).in_layer("examine", || path.to_path_buf())?.is_some() {
            self.remove(path, parent, name)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &LayerPath, parent: impl AsFd, name: &OsStr) -> Result<(), LayerError> {
        files::remove_tree(parent, name).in_layer("replace", || path.to_path_buf())?;
        let below = |known: &LayerPath| {
            known == path || known.bytes().strip_prefix(path.bytes()).is_some_and(|rest| rest.starts_with(b"/"))
        };
        self.directories.retain(|known, _| !below(known));
        self.implicit.retain(|known, ()| !below(known));
        self.links.retain(|known, _| !below(known));
        self.target.forget();
        Ok(())
    }

    fn directory(
        &mut self,
        header: &Header,
        path: LayerPath,
        parent: impl AsFd,
        name: &OsStr,
    ) -> Result<(), LayerError> {
        let at = || path.to_path_buf();
        let mut opaque = false;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => match occupant(&parent, name).in_layer("examine", at)? {
                Some((FileType::Directory, _)) => {}
                found => {
                    opaque = found.is_some_and(|(_, whiteout)| whiteout);
                    self.remove(&path, &parent, name)?;
                    rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)).in_layer("make folder", at)?;
                }
            },
            Err(error) => return Err(error).in_layer("make folder", at),
        }
        self.links.remove(&path);
        self.implicit.remove(&path);
        let folder = open_folder_at(&parent, name).in_layer("open folder", at)?;
        if opaque {
            whiteout::make_opaque(&folder).in_layer("mark as opaque", at)?;
        }
        self.directory_attributes(path, header, folder)
    }

    /// Sets what can be set at once; owner, mode and time wait until the folder's content is complete.
    fn directory_attributes(&mut self, path: LayerPath, header: &Header, folder: impl AsFd) -> Result<(), LayerError> {
        for (name, value) in header.xattrs.iter().filter(|(name, _)| xattr::is_exported(name)) {
            xattr::set(&folder, name, value).in_layer("set attribute of", || path.to_path_buf())?;
        }
        let attributes =
            DirectoryAttributes { mode: header.mode, uid: header.uid, gid: header.gid, mtime: header.mtime };
        self.directories.insert(path, attributes);
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        header: &Header,
        path: &LayerPath,
        parent: impl AsFd,
        name: &OsStr,
        archive: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = || path.to_path_buf();
        let mode = Mode::from_raw_mode(0o600);
        let file = match rustix::fs::openat(&parent, name, flags, mode) {
            Err(Errno::EXIST) => {
                self.remove(path, &parent, name)?;
                rustix::fs::openat(&parent, name, flags, mode)
            }
            opened => opened,
        };
        let file = file.in_layer("create file", at)?;
        let mut end = 0;
        while let Some((offset, mut data)) = archive.next_data()? {
            let mut position = offset;
            while !data.is_empty() {
                // Sequential content needs no position, and most is.
                let written = if position == end {
                    rustix::io::write(&file, data)
                } else {
                    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(position))
                        .and_then(|_| rustix::io::write(&file, data))
                };
                match written {
                    Ok(length) => {
                        position += length as u64;
                        end = position;
                        data = &data[length..];
                        self.applied.bytes += length as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error).in_layer("write", at),
                }
            }
        }
        if end < header.size {
            rustix::fs::ftruncate(&file, header.size).in_layer("extend", at)?;
        }
        self.file_attributes(header, path, file)
    }

    fn file_attributes(&self, header: &Header, path: &LayerPath, file: impl AsFd) -> Result<(), LayerError> {
        let at = || path.to_path_buf();
        self.ownership.set(&file, header.uid, header.gid, false).in_layer("set owner of", at)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(header.mode)).in_layer("set mode of", at)?;
        for (name, value) in header.xattrs.iter().filter(|(name, _)| xattr::is_exported(name)) {
            xattr::set(&file, name, value).in_layer("set attribute of", at)?;
        }
        let (seconds, nanoseconds) = header.mtime;
        rustix::fs::futimens(&file, &files::timestamps(seconds, nanoseconds)).in_layer("set time of", at)
    }

    /// The attributes of what cannot be opened without side effects: links, pipes and devices.
    fn special_attributes(
        &self,
        header: &Header,
        path: &LayerPath,
        parent: impl AsFd,
        name: &OsStr,
    ) -> Result<(), LayerError> {
        let at = || path.to_path_buf();
        self.ownership.set_at(&parent, name, header.uid, header.gid).in_layer("set owner of", at)?;
        if header.kind != EntryKind::Symlink {
            rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(header.mode), AtFlags::empty())
                .in_layer("set mode of", at)?;
        }
        for (key, value) in header.xattrs.iter().filter(|(key, _)| xattr::is_exported(key)) {
            let place = files::path_through(&parent, name);
            xattr::set_by_path(&place, key, value).in_layer("set attribute of", at)?;
        }
        let (seconds, nanoseconds) = header.mtime;
        let times = files::timestamps(seconds, nanoseconds);
        rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).in_layer("set time of", at)
    }

    fn node(&mut self, header: &Header, path: &LayerPath, parent: impl AsFd, name: &OsStr) -> Result<(), LayerError> {
        let (major, minor) = header.device;
        let file_type = match header.kind {
            EntryKind::CharacterDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        // A device 0/0 would be a whiteout to overlayfs: archives say that in another way.
        let is_whiteout = file_type == FileType::CharacterDevice && (major, minor) == (0, 0);
        let device = rustix::fs::makedev(major, minor);
        let made = match is_whiteout {
            true => Err(Errno::PERM),
            false => rustix::fs::mknodat(&parent, name, file_type, Mode::from_raw_mode(0o600), device),
        };
        match made {
            Ok(()) => self.special_attributes(header, path, parent, name),
            Err(Errno::PERM) if file_type != FileType::Fifo => {
                self.applied.skipped_nodes.push(SkippedNode {
                    path: path.to_path_buf(),
                    block: file_type == FileType::BlockDevice,
                    major,
                    minor,
                    mode: header.mode,
                });
                Ok(())
            }
            Err(error) => Err(error).in_layer("make device", || path.to_path_buf()),
        }
    }

    fn hard_link(
        &mut self,
        header: &Header,
        path: &LayerPath,
        parent: impl AsFd,
        name: &OsStr,
    ) -> Result<(), LayerError> {
        let target = LayerPath::parse(&header.link, self.limits)?;
        let invalid =
            |reason| LayerError::InvalidLink { link: path.to_path_buf(), target: target.to_path_buf(), reason };
        let Some((target_parent, target_name)) = target.split() else {
            return Err(invalid("is the root"));
        };
        if target == *path {
            return Err(invalid("is itself"));
        }
        if let Some(below) = self.links.get(&target) {
            self.links.insert(path.clone(), below.clone());
            return Ok(());
        }
        let unresolved = |applier: &mut Self| {
            applier.links.insert(path.clone(), target.clone());
            Ok(())
        };
        // The parent stays open in `parent`: opening another folder does not close it.
        let Some(target_fd) = self.target.open(&target_parent)? else {
            return unresolved(self);
        };
        match occupant(&*target_fd, &target_name).in_layer("examine", || target.to_path_buf())? {
            None => unresolved(self),
            Some((_, true)) => Err(invalid("the layer removes")),
            Some((FileType::Directory, _)) => Err(invalid("is a folder")),
            Some(_) => rustix::fs::linkat(&*target_fd, &target_name, parent, name, AtFlags::empty())
                .in_layer("make hard link", || path.to_path_buf()),
        }
    }

    fn whiteout(&mut self, parent: &LayerPath, folder: impl AsFd, name: &OsStr) -> Result<(), LayerError> {
        let at = || parent.join(name.as_bytes()).to_path_buf();
        if name.as_bytes() == OPAQUE_WHITEOUT {
            return whiteout::make_opaque(folder).in_layer("mark as opaque", at);
        }
        if name.as_bytes().starts_with(AUFS_PREFIX) {
            return Ok(());
        }
        let removed = &name.as_bytes()[WHITEOUT_PREFIX.len()..];
        if matches!(removed, b"" | b"." | b"..") {
            return Err(LayerError::InvalidPath {
                path: parent.join(name.as_bytes()).to_path_buf(),
                reason: "is a whiteout of nothing",
            });
        }
        let removed = OsString::from(OsStr::from_bytes(removed));
        match occupant(&folder, &removed).in_layer("examine", at)? {
            None => {}
            // What the layer itself holds stays; only what is below goes.
            Some((FileType::Directory, _)) => {
                let kept = open_folder_at(&folder, &removed).in_layer("open folder", at)?;
                return whiteout::make_opaque(kept).in_layer("mark as opaque", at);
            }
            Some(_) => return Ok(()),
        }
        whiteout::make(folder, &removed).in_layer("make whiteout", at)
    }

    /// Gives the folders their owners, modes and times, deepest first, now that nothing changes them any more.
    fn finish(mut self) -> Result<Applied, LayerError> {
        self.target.forget();
        for path in self.implicit.keys() {
            let attributes = DirectoryAttributes { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0) };
            self.directories.entry(path.clone()).or_insert(attributes);
        }
        let root = self.target.root();
        for (path, attributes) in self.directories.iter().rev() {
            let at = || path.to_path_buf();
            let opened;
            let folder = if path.is_root() {
                root.as_fd()
            } else {
                opened = match files::open_in_root(&*root, &path.to_path_buf(), files::FOLDER | OFlags::NOFOLLOW) {
                    Ok(opened) => opened,
                    // A later entry replaced it through another name of one of its parents.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                    Err(error) => return Err(error).in_layer("open folder", at),
                };
                opened.as_fd()
            };
            self.ownership.set(folder, attributes.uid, attributes.gid, true).in_layer("set owner of", at)?;
            rustix::fs::fchmod(folder, Mode::from_raw_mode(attributes.mode)).in_layer("set mode of", at)?;
            let (seconds, nanoseconds) = attributes.mtime;
            rustix::fs::futimens(folder, &files::timestamps(seconds, nanoseconds)).in_layer("set time of", at)?;
        }
        self.applied.implicit_directories = self.implicit.keys().map(LayerPath::to_path_buf).collect();
        let mut links: Vec<UnresolvedLink> = self
            .links
            .iter()
            .map(|(path, target)| UnresolvedLink { path: path.to_path_buf(), target: target.to_path_buf() })
            .collect();
        links.sort_by(|a, b| a.path.cmp(&b.path));
        self.applied.unresolved_links = links;
        Ok(self.applied)
    }
}
