//! Copying from a tree into a workspace.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode};

use super::error::{CopyError, Result};
use super::place::{Existing, NewDirectory, Place, Workspace, create_file};
use super::{CopyRequest, is_special, names_folder, wildcard};
use crate::error::At;
use crate::files;
use crate::layer;
use crate::materialize;
use crate::tree::{Leaf, Matched, MergedDirectory, MergedTree, Metadata, Node};

/// Files up to this many bytes are copied through a buffer, larger ones inside the kernel.
const SMALL_FILE: u64 = 256 << 10;

/// Copies one source. The destination is clean and keeps a `/` at its end.
pub(super) fn copy(
    workspace: &mut Workspace,
    source: &MergedTree,
    path: &Path,
    destination: &Path,
    request: &CopyRequest,
) -> Result<()> {
    copy_node(workspace, path, destination, request, || {
        let not_found = || CopyError::NotFound { path: path.to_owned() };
        source.resolve(path, request.follow_symlinks)?.node.ok_or_else(not_found)
    })
}

/// As [`copy`] of what is found already: `path` is where it stood.
pub(super) fn copy_node(
    workspace: &mut Workspace,
    path: &Path,
    destination: &Path,
    request: &CopyRequest,
    find: impl FnOnce() -> Result<Node>,
) -> Result<()> {
    let parents =
        NewDirectory { mode: request.parent_mode.unwrap_or(0o755), owner: request.owner, mtime: request.mtime };
    let ensured = match names_folder(destination) {
        true => destination,
        false => destination.parent().unwrap_or(Path::new("/")),
    };
    let ensured = workspace.tree().resolve(ensured, true)?.path;
    workspace.make_all(&ensured, &parents)?;

    let node = find()?;
    let is_directory = node.as_directory().is_some();
    let resolved = workspace.tree().resolve(destination, true)?;
    let mut target = resolved.path;
    let exists = resolved.node.is_some();
    let is_folder = resolved.node.as_ref().is_some_and(|node| node.as_directory().is_some());
    if (!request.copy_directory_contents && is_directory && exists) || (!is_directory && is_folder) {
        target.push(wildcard::base_name(path));
    }
    let mut copier = Copier { workspace, request, links: HashMap::new(), buffer: Vec::new(), reflink: true };
    match (target.parent(), target.file_name()) {
        (Some(parent), Some(name)) => {
            let (parent, name) = (parent.to_owned(), name.to_owned());
            let place = copier.workspace.folder(&parent, &parents)?;
            if request.copy_directory_contents && is_directory && !exists {
                copier.workspace.make_folder(&place, &name, &parents)?;
            }
            copier.entry(&node, Path::new(""), &place, &name, false)
        }
        _ => copier.root_itself(&node),
    }
}

/// Copies the content of a folder onto an existing folder of the workspace, and its own attributes if told so.
pub(super) fn copy_onto(
    workspace: &mut Workspace,
    source: &MergedDirectory,
    place: &Place,
    request: &CopyRequest,
    attributes: bool,
) -> Result<()> {
    let mut copier = Copier { workspace, request, links: HashMap::new(), buffer: Vec::new(), reflink: true };
    copier.children(source, Path::new(""), place)?;
    copier.finish_directory(source, place, attributes)
}

struct Copier<'a> {
    workspace: &'a mut Workspace,
    request: &'a CopyRequest,
    /// The first copy of each file that has several names.
    links: HashMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
    /// Whether sharing content is still worth trying.
    reflink: bool,
}

impl Copier<'_> {
    /// The root of the workspace is the destination itself.
    fn root_itself(&mut self, node: &Node) -> Result<()> {
        let place = self.workspace.root();
        match node {
            Node::Directory(directory) => {
                self.children(directory, Path::new(""), &place)?;
                let mtime = self.request.mtime.unwrap_or(directory.metadata()?.mtime);
                self.workspace.set_time(Path::new(""), mtime);
                Ok(())
            }
            Node::Leaf(_) => Err(CopyError::IsADirectory { path: PathBuf::from("/") }),
        }
    }

    fn matched(&self, relative: &Path, is_directory: bool) -> Matched {
        match &self.request.filter {
            Some(filter) if !relative.as_os_str().is_empty() => filter.matched(relative, is_directory),
            _ => Matched::Included,
        }
    }

    fn entry(&mut self, node: &Node, relative: &Path, place: &Place, name: &OsStr, overwrite: bool) -> Result<()> {
        match node {
            Node::Directory(directory) => {
                let (copy, created) = self.open_directory(directory, place, name, overwrite)?;
                self.children(directory, relative, &copy)?;
                self.finish_directory(directory, &copy, created || overwrite)
            }
            Node::Leaf(leaf) => self.leaf(leaf, place, name),
        }
    }

    fn children(&mut self, directory: &MergedDirectory, relative: &Path, place: &Place) -> Result<()> {
        for name in directory.names()? {
            let Some(child) = directory.child(&name)? else { continue };
            let relative = relative.join(&name);
            match self.matched(&relative, child.as_directory().is_some()) {
                Matched::Excluded => {}
                Matched::Included => {
                    self.entry(&child, &relative, place, &name, true)?;
                }
                Matched::Descend => {
                    if let Some(below) = child.as_directory() {
                        self.delayed(below, &relative, place, &name)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks for something to copy in a folder that is not copied for its own sake.
    fn delayed(&mut self, directory: &MergedDirectory, relative: &Path, place: &Place, name: &OsStr) -> Result<()> {
        // Whether anything is in it decides first, so that the folder is made at most once and in order.
        if !self.has_included(directory, relative)? {
            return Ok(());
        }
        let (copy, created) = self.open_directory(directory, place, name, false)?;
        self.children(directory, relative, &copy)?;
        if created { self.finish_directory(directory, &copy, true) } else { Ok(()) }
    }

    fn has_included(&self, directory: &MergedDirectory, relative: &Path) -> Result<bool> {
        for name in directory.names()? {
            let Some(child) = directory.child(&name)? else { continue };
            let relative = relative.join(&name);
            let below = child.as_directory();
            let included = match self.matched(&relative, below.is_some()) {
                Matched::Included => true,
                Matched::Excluded => false,
                Matched::Descend => match below {
                    Some(below) => self.has_included(below, &relative)?,
                    None => false,
                },
            };
            if included {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The folder that a folder is copied to. Gives whether it is new.
    fn open_directory(
        &mut self,
        source: &MergedDirectory,
        place: &Place,
        name: &OsStr,
        overwrite: bool,
    ) -> Result<(Place, bool)> {
        if let Existing::Something(existing) = self.workspace.examine(place, name)? {
            if existing.is_directory() {
                let copy = self.workspace.enter(place, name)?;
                if !overwrite {
                    let mtime = self.request.mtime.unwrap_or(source.metadata()?.mtime);
                    self.workspace.set_time(&copy.path, mtime);
                }
                return Ok((copy, false));
            }
            if !self.request.replace_existing {
                return Err(CopyError::NotADirectory { path: place.path.join(name) });
            }
            self.workspace.remove_entry(place, name)?;
        }
        Ok((self.workspace.make_bare_folder(place, name)?, true))
    }

    fn finish_directory(&mut self, source: &MergedDirectory, copy: &Place, attributes: bool) -> Result<()> {
        if !attributes {
            return Ok(());
        }
        let metadata = source.metadata()?;
        let (uid, gid) = self.request.owner.unwrap_or((metadata.uid, metadata.gid));
        self.workspace.ownership().set(&*copy.fd, uid, gid, true).at("set owner of", &copy.path)?;
        let mode = Mode::from_raw_mode(self.mode(&metadata));
        rustix::fs::fchmod(&*copy.fd, mode).at("set mode of", &copy.path)?;
        let xattrs = Node::Directory(source.clone()).xattrs()?;
        layer::set_xattrs(&*copy.fd, &xattrs).at("set attributes of", &copy.path)?;
        self.workspace.set_time(&copy.path, self.request.mtime.unwrap_or(metadata.mtime));
        Ok(())
    }

    fn mode(&self, metadata: &Metadata) -> u32 {
        match &self.request.mode {
            Some(change) => change(metadata.mode, metadata.is_directory()) & 0o7777,
            None => metadata.mode,
        }
    }

    fn leaf(&mut self, leaf: &Leaf, place: &Place, name: &OsStr) -> Result<()> {
        if !(place.fresh && place.below.is_none())
            && let Existing::Something(existing) = self.workspace.examine(place, name)?
            && existing.is_directory()
            && !self.request.replace_existing
        {
            return Err(CopyError::IsADirectory { path: place.path.join(name) });
        }
        self.workspace.clear(place, name)?;
        let metadata = leaf.metadata()?;
        match metadata.file_type {
            FileType::RegularFile => self.file(leaf, &metadata, place, name),
            FileType::Symlink => {
                let owner = self.request.owner.unwrap_or((metadata.uid, metadata.gid));
                let mtime = self.request.mtime.unwrap_or(metadata.mtime);
                self.workspace.write_symlink(place, name, &leaf.read_link()?, owner, mtime)
            }
            other if is_special(other) => self.special(&metadata, place, name),
            _ => Ok(()),
        }
    }

    fn file(&mut self, leaf: &Leaf, metadata: &Metadata, place: &Place, name: &OsStr) -> Result<()> {
        let path = place.path.join(name);
        if metadata.links > 1 {
            if let Some(first) = self.links.get(&metadata.inode) {
                let root = self.workspace.root();
                let linked = rustix::fs::linkat(&*root.fd, first, &*place.fd, name, AtFlags::empty());
                return Ok(linked.at("make hard link", &path)?);
            }
            self.links.insert(metadata.inode, path.clone());
        }
        let source = leaf.open()?;
        let target = create_file(place, name).at("create file", &path)?;
        self.content(&source, &target, metadata.size).at("copy", &path)?;
        materialize::confirm(leaf, &source, &target)?;
        let (uid, gid) = self.request.owner.unwrap_or((metadata.uid, metadata.gid));
        self.workspace.ownership().set(&target, uid, gid, !place.fresh).at("set owner of", &path)?;
        rustix::fs::fchmod(&target, Mode::from_raw_mode(self.mode(metadata))).at("set mode of", &path)?;
        let xattrs = materialize::xattrs_of(leaf, &source)?;
        layer::set_xattrs(&target, &xattrs).at("set attributes of", &path)?;
        let (seconds, nanoseconds) = self.request.mtime.unwrap_or(metadata.mtime);
        Ok(rustix::fs::futimens(&target, &files::timestamps(seconds, nanoseconds)).at("set time of", &path)?)
    }

    fn content(&mut self, mut source: &File, mut target: &File, size: u64) -> std::io::Result<()> {
        if size > SMALL_FILE {
            return materialize::copy_content(source, target, &mut self.reflink);
        }
        // One byte more than the size shows the end without another call.
        let wanted = usize::try_from(size).unwrap_or(0) + 1;
        self.buffer.resize(wanted.max(self.buffer.len()), 0);
        let mut total = 0;
        loop {
            let length = source.read(&mut self.buffer[..wanted])?;
            target.write_all(&self.buffer[..length])?;
            total += length as u64;
            if length == 0 || (total == size && length < wanted) {
                return Ok(());
            }
        }
    }

    fn special(&mut self, metadata: &Metadata, place: &Place, name: &OsStr) -> Result<()> {
        let path = place.path.join(name);
        // A socket is copied as an empty file, as nothing listens to the copy.
        let kind = match metadata.file_type {
            FileType::Socket => FileType::RegularFile,
            other => other,
        };
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(&*place.fd, name, kind, mode, metadata.rdev).at("make device", &path)?;
        let (uid, gid) = self.request.owner.unwrap_or((metadata.uid, metadata.gid));
        self.workspace.ownership().set_at(&*place.fd, name, uid, gid).at("set owner of", &path)?;
        let mode = Mode::from_raw_mode(self.mode(metadata));
        rustix::fs::chmodat(&*place.fd, name, mode, AtFlags::empty()).at("set mode of", &path)?;
        let (seconds, nanoseconds) = self.request.mtime.unwrap_or(metadata.mtime);
        let times = files::timestamps(seconds, nanoseconds);
        Ok(rustix::fs::utimensat(&*place.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW).at("set time of", &path)?)
    }
}
