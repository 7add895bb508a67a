//! Copies that are not carried out: what a layer would hold is put together in memory, its files stay where they are.
//!
//! The result is the layer that [`Workspace`] would make, entry for entry. What is unusual is left to the workspace:
//! a copy is deferred only where nothing that stands in its way has to be removed and where the store could keep every
//! attribute as it is.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FileType;

use super::error::Result;
use super::place::NewDirectory;
use super::{CopyRequest, clean, names_folder, wildcard};
use crate::checksum::Captured;
use crate::files::instant;
use crate::layer::Ownership;
use crate::steps::LayerId;
use crate::store::Store;
use crate::tree::{FrozenContent, FrozenDirectory, FrozenLeaf, FrozenNode};
use crate::tree::{Matched, MergedDirectory, MergedTree, Metadata, Node};

/// A layer in the making that is held in memory.
pub struct DeferredCopy {
    store: Store,
    root: Arc<FrozenDirectory>,
    below: MergedTree,
    now: (i64, u32),
    /// The device of inodes that exist in memory only: another one in every layer.
    device: u64,
    inodes: u64,
}

/// Whether something could be done in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Unusual,
}

/// Ends a function where something is unusual.
macro_rules! usual {
    ($outcome:expr) => {
        match $outcome {
            Some(value) => value,
            None => return Ok(Outcome::Unusual),
        }
    };
}

/// A folder of the layer with what shows through from below.
struct Spot<'a> {
    directory: &'a mut FrozenDirectory,
    below: Option<MergedDirectory>,
}

impl Store {
    /// A layer on top of `below` that is put together in memory.
    pub fn deferred_copy(&self, below: MergedTree) -> crate::error::Result<DeferredCopy> {
        static LAYERS: AtomicU64 = AtomicU64::new(0);
        let metadata = Metadata { rdev: 0, links: 1, size: 0, ..below.root_metadata()? };
        let root = Arc::new(FrozenDirectory { metadata, xattrs: Vec::new(), children: BTreeMap::new() });
        let device = u64::MAX - LAYERS.fetch_add(1, Ordering::Relaxed);
        Ok(DeferredCopy { store: self.clone(), root, below, now: instant(), device, inodes: 0 })
    }
}

impl DeferredCopy {
    /// Adds what was captured by the request's own selection. Gives false where that has to be copied after all; the
    /// layer is then not to be used any more.
    pub fn copy(&mut self, captured: &Captured, request: &CopyRequest) -> Result<bool> {
        let destination = clean(&request.destination);
        if !request.create_destination || request.replace_existing {
            return Ok(false);
        }
        if request.unpack_archives && !captured.is_folders() {
            return Ok(false);
        }
        for (path, node) in &captured.sources {
            if self.copy_one(path, node, &destination, request)? == Outcome::Unusual {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes what is in memory over as a layer.
    pub fn commit(mut self) -> crate::error::Result<LayerId> {
        if self.inodes > 0 {
            let mut counts = HashMap::new();
            count_links(&self.root, &mut counts);
            set_links(Arc::make_mut(&mut self.root), &counts);
        }
        self.store.defer(self.root)
    }

    fn merged(&self) -> MergedTree {
        self.below.under_frozen(Arc::clone(&self.root))
    }

    fn copy_one(
        &mut self,
        path: &Path,
        node: &FrozenNode,
        destination: &Path,
        request: &CopyRequest,
    ) -> Result<Outcome> {
        let parents =
            NewDirectory { mode: request.parent_mode.unwrap_or(0o755), owner: request.owner, mtime: request.mtime };
        let ensured = match names_folder(destination) {
            true => destination,
            false => destination.parent().unwrap_or(Path::new("/")),
        };
        let ensured = self.merged().resolve(ensured, true)?.path;
        usual!(self.folder(&ensured, &parents)?);
        let resolved = self.merged().resolve(destination, true)?;
        let mut target = resolved.path;
        let exists = resolved.node.is_some();
        let is_folder = resolved.node.as_ref().is_some_and(|node| node.as_directory().is_some());
        drop(resolved.node);
        let is_directory = matches!(node, FrozenNode::Directory(_));
        if (!request.copy_directory_contents && is_directory && exists) || (!is_directory && is_folder) {
            target.push(wildcard::base_name(path));
        }
        let (device, now) = (self.device, self.now);
        let ownership = self.store.ownership();
        let mut inodes = self.inodes;
        let outcome = {
            let mut copier = Copier { request, ownership, device, inodes: &mut inodes, links: HashMap::new() };
            match (target.parent(), target.file_name()) {
                (Some(parent), Some(name)) => {
                    let (parent, name) = (parent.to_owned(), name.to_owned());
                    let mut spot = usual!(self.folder(&parent, &parents)?);
                    if request.copy_directory_contents && is_directory && !exists {
                        spot.directory.children.insert(name.clone(), new_folder(&parents, now));
                    }
                    copier.entry(node, Path::new(""), &mut spot, &name, false)?
                }
                _ => copier.root_itself(
                    node,
                    &mut Spot { directory: Arc::make_mut(&mut self.root), below: Some(self.below.root().clone()) },
                )?,
            }
        };
        self.inodes = inodes;
        Ok(outcome)
    }

    /// The folder at a path without links; it and its parents are made or taken over. `None` where something else is
    /// in the way.
    fn folder(&mut self, path: &Path, new: &NewDirectory) -> Result<Option<Spot<'_>>> {
        let now = self.now;
        let mut spot = Spot { directory: Arc::make_mut(&mut self.root), below: Some(self.below.root().clone()) };
        for component in path.components() {
            let name = component.as_os_str();
            let Some((next, is_new)) = spot.enter(name)? else { return Ok(None) };
            spot = next;
            if is_new {
                spot.directory.metadata = folder_metadata(new, now);
            }
        }
        Ok(Some(spot))
    }
}

impl<'a> Spot<'a> {
    /// A folder in this one: there already, taken over from below, or new. `None` where something else is there.
    fn enter(self, name: &OsStr) -> Result<Option<(Spot<'a>, bool)>> {
        let below = match &self.below {
            Some(below) => below.child(name)?,
            None => None,
        };
        let mut is_new = false;
        if !self.directory.children.contains_key(name) {
            let taken = match &below {
                Some(node @ Node::Directory(directory)) => {
                    let metadata = Metadata { rdev: 0, links: 1, size: 0, ..directory.metadata()? };
                    FrozenDirectory { metadata, xattrs: node.xattrs()?, children: BTreeMap::new() }
                }
                Some(Node::Leaf(_)) => return Ok(None),
                None => {
                    is_new = true;
                    FrozenDirectory { metadata: BARE, xattrs: Vec::new(), children: BTreeMap::new() }
                }
            };
            self.directory.children.insert(name.to_owned(), FrozenNode::Directory(Arc::new(taken)));
        }
        let below = match below {
            Some(Node::Directory(directory)) => Some(directory),
            _ => None,
        };
        match self.directory.children.get_mut(name) {
            Some(FrozenNode::Directory(directory)) => {
                Ok(Some((Spot { directory: Arc::make_mut(directory), below }, is_new)))
            }
            _ => Ok(None),
        }
    }

    fn reborrow(&mut self) -> Spot<'_> {
        Spot { directory: self.directory, below: self.below.clone() }
    }
}

/// Puts one source into the layer; the mirror of what the workspace's copier does on disk.
struct Copier<'a> {
    request: &'a CopyRequest,
    ownership: Ownership,
    device: u64,
    inodes: &'a mut u64,
    /// The inode in memory of each file that has several names.
    links: HashMap<(u64, u64), u64>,
}

impl Copier<'_> {
    fn root_itself(&mut self, node: &FrozenNode, spot: &mut Spot<'_>) -> Result<Outcome> {
        let FrozenNode::Directory(directory) = node else { return Ok(Outcome::Unusual) };
        if self.children(directory, Path::new(""), spot)? == Outcome::Unusual {
            return Ok(Outcome::Unusual);
        }
        spot.directory.metadata.mtime = self.request.mtime.unwrap_or(directory.metadata.mtime);
        Ok(Outcome::Done)
    }

    fn matched(&self, relative: &Path, is_directory: bool) -> Matched {
        match &self.request.filter {
            Some(filter) if !relative.as_os_str().is_empty() => filter.matched(relative, is_directory),
            _ => Matched::Included,
        }
    }

    fn entry(
        &mut self,
        node: &FrozenNode,
        relative: &Path,
        spot: &mut Spot<'_>,
        name: &OsStr,
        overwrite: bool,
    ) -> Result<Outcome> {
        match node {
            FrozenNode::Leaf(leaf) => self.leaf(leaf, spot, name),
            FrozenNode::Directory(source) => {
                let (mut copy, is_new) = usual!(spot.reborrow().enter(name)?);
                if !is_new && !overwrite {
                    copy.directory.metadata.mtime = self.request.mtime.unwrap_or(source.metadata.mtime);
                }
                if self.children(source, relative, &mut copy)? == Outcome::Unusual {
                    return Ok(Outcome::Unusual);
                }
                Ok(self.finish_directory(source, copy.directory, is_new || overwrite))
            }
        }
    }

    fn children(&mut self, source: &FrozenDirectory, relative: &Path, spot: &mut Spot<'_>) -> Result<Outcome> {
        for (name, child) in &source.children {
            let is_directory = matches!(child, FrozenNode::Directory(_));
            let relative = if self.request.filter.is_some() { relative.join(name) } else { relative.to_owned() };
            let outcome = match (self.matched(&relative, is_directory), child) {
                (Matched::Included, child) => self.entry(child, &relative, spot, name, true)?,
                (Matched::Descend, FrozenNode::Directory(below)) => self.delayed(below, &relative, spot, name)?,
                _ => Outcome::Done,
            };
            if outcome == Outcome::Unusual {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Done)
    }

    /// A folder that is not copied for its own sake. That something in it is was seen to when it was captured.
    fn delayed(
        &mut self,
        source: &FrozenDirectory,
        relative: &Path,
        spot: &mut Spot<'_>,
        name: &OsStr,
    ) -> Result<Outcome> {
        let (mut copy, is_new) = usual!(spot.reborrow().enter(name)?);
        if !is_new {
            copy.directory.metadata.mtime = self.request.mtime.unwrap_or(source.metadata.mtime);
        }
        if self.children(source, relative, &mut copy)? == Outcome::Unusual {
            return Ok(Outcome::Unusual);
        }
        Ok(self.finish_directory(source, copy.directory, is_new))
    }

    fn finish_directory(&self, source: &FrozenDirectory, copy: &mut FrozenDirectory, attributes: bool) -> Outcome {
        if !attributes {
            return Outcome::Done;
        }
        // The store may not be able to keep them, which only trying tells.
        if !source.xattrs.is_empty() {
            return Outcome::Unusual;
        }
        let metadata = &source.metadata;
        (copy.metadata.uid, copy.metadata.gid) = self.request.owner.unwrap_or((metadata.uid, metadata.gid));
        copy.metadata.mode = self.mode(metadata);
        copy.metadata.mtime = self.request.mtime.unwrap_or(metadata.mtime);
        if self.is_kept(&copy.metadata) { Outcome::Done } else { Outcome::Unusual }
    }

    /// Whether every file system keeps such a time, and this process such permissions.
    fn is_kept(&self, metadata: &Metadata) -> bool {
        (0..1 << 31).contains(&metadata.mtime.0) && !(self.ownership.is_recorded() && metadata.mode & 0o6000 != 0)
    }

    fn mode(&self, metadata: &Metadata) -> u32 {
        match &self.request.mode {
            Some(change) => change(metadata.mode, metadata.is_directory()) & 0o7777,
            None => metadata.mode,
        }
    }

    fn leaf(&mut self, leaf: &FrozenLeaf, spot: &mut Spot<'_>, name: &OsStr) -> Result<Outcome> {
        if matches!(spot.directory.children.get(name), Some(FrozenNode::Directory(_))) {
            return Ok(Outcome::Unusual);
        }
        if let Some(below) = &spot.below
            && matches!(below.child(name)?, Some(Node::Directory(_)))
        {
            return Ok(Outcome::Unusual);
        }
        let source = &leaf.metadata;
        let (uid, gid) = self.request.owner.unwrap_or((source.uid, source.gid));
        let mtime = self.request.mtime.unwrap_or(source.mtime);
        let mut metadata =
            Metadata { uid, gid, mtime, links: 1, rdev: 0, inode: (self.device, 0), ctime: mtime, ..*source };
        match &leaf.content {
            FrozenContent::File(_) if leaf.xattrs.is_empty() => {
                metadata.mode = self.mode(source);
                if source.links > 1 {
                    metadata.inode.1 = *self.links.entry(source.inode).or_insert_with(|| {
                        *self.inodes += 1;
                        *self.inodes
                    });
                }
            }
            // Whom a link belongs to cannot be recorded beside it.
            FrozenContent::Link(_) if !self.ownership.is_recorded() || (uid, gid) == (0, 0) => metadata.mode = 0o777,
            _ => return Ok(Outcome::Unusual),
        }
        if !self.is_kept(&metadata) {
            return Ok(Outcome::Unusual);
        }
        let copy = FrozenLeaf { metadata, xattrs: Vec::new(), content: leaf.content.clone() };
        spot.directory.children.insert(OsString::from(name), FrozenNode::Leaf(Arc::new(copy)));
        Ok(Outcome::Done)
    }
}

/// A folder whose attributes come later.
const BARE: Metadata = Metadata {
    file_type: FileType::Directory,
    mode: 0o700,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: (0, 0),
    rdev: 0,
    inode: (0, 0),
    links: 1,
    ctime: (0, 0),
};

fn folder_metadata(new: &NewDirectory, now: (i64, u32)) -> Metadata {
    let (uid, gid) = new.owner.unwrap_or((0, 0));
    Metadata { mode: new.mode, uid, gid, mtime: new.mtime.unwrap_or(now), ..BARE }
}

fn new_folder(new: &NewDirectory, now: (i64, u32)) -> FrozenNode {
    let metadata = folder_metadata(new, now);
    FrozenNode::Directory(Arc::new(FrozenDirectory { metadata, xattrs: Vec::new(), children: BTreeMap::new() }))
}

/// How many names each file has that may have several.
fn count_links(directory: &FrozenDirectory, counts: &mut HashMap<u64, u64>) {
    for child in directory.children.values() {
        match child {
            FrozenNode::Directory(child) => count_links(child, counts),
            FrozenNode::Leaf(leaf) if leaf.metadata.inode.1 != 0 => {
                *counts.entry(leaf.metadata.inode.1).or_default() += 1;
            }
            FrozenNode::Leaf(_) => {}
        }
    }
}

fn set_links(directory: &mut FrozenDirectory, counts: &HashMap<u64, u64>) {
    for child in directory.children.values_mut() {
        match child {
            FrozenNode::Directory(child) => set_links(Arc::make_mut(child), counts),
            FrozenNode::Leaf(leaf) => {
                if let Some(&links) = counts.get(&leaf.metadata.inode.1) {
                    Arc::make_mut(leaf).metadata.links = links;
                }
            }
        }
    }
}
