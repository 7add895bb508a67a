//! Stacks of layers, ready to be mounted or read.
//!
//! Layers are unpacked each on its own, so two things that an archive leaves to the layers below are missing from
//! their trees: the attributes of folders that it fills without having an entry for them, and hard links to files
//! that only a lower layer has. A generated layer supplies both. It stands directly above the highest layer that
//! needs it and is shared by every stack that begins with the same layers:
//!
//! ```text
//! chains/<sha256 of the layers' names>-<ids>/  tree/ and record.json
//! chains/empty-<ids>/                          the one folder of a stack without layers
//! ```

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onetag_oci::Digest;
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::error::{At, Error, Result};
use crate::files;
use crate::layer::UnresolvedLink;
use crate::leases::Resource;
use crate::materialize;
use crate::record::{self, TreeRecord};
use crate::steps::{LayerId, create_tree};
use crate::store::Store;
use crate::tree::{MergedDirectory, MergedTree, Metadata, Node};

/// How many folders overlayfs takes below an upper one.
pub const MAX_LOWERS: usize = 500;
/// How many folders a flattened stack keeps unflattened, so that steps on top of it stay cheap.
const KEPT_WHEN_FLATTENED: usize = 250;

/// Layers that can be mounted on each other or read with [`MergedTree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The layers, the lowest first.
    pub layers: Vec<LayerId>,
    /// Their folders and generated ones between them, the topmost first: overlayfs's order. At least one and at
    /// most [`MAX_LOWERS`].
    pub lowers: Vec<PathBuf>,
}

/// A layer on its way into a stack.
struct Member {
    id: LayerId,
    tree: PathBuf,
    record: Arc<TreeRecord>,
    /// Whether the layer says what the root folder looks like.
    has_root: bool,
}

impl Member {
    /// Folders that the layer fills without an entry for them.
    fn implicit(&self) -> &[PathBuf] {
        &self.record.applied.implicit_directories
    }

    /// Hard links to files of layers below.
    fn links(&self) -> &[UnresolvedLink] {
        &self.record.applied.unresolved_links
    }
}

impl Store {
    /// Prepares a stack of unpacked layers, the lowest first, and holds them.
    ///
    /// # Errors
    /// [`Error::LayerNotFound`] where one is not unpacked, [`Error::UnresolvedLink`] where one does not fit on the
    /// layers below it.
    pub fn stack(&self, layers: &[LayerId]) -> Result<Stack> {
        let mut members = Vec::with_capacity(layers.len());
        for id in layers {
            self.hold(&id.resource())?;
            if let LayerId::Step(step) = id {
                self.ensure_step_tree(step)?;
            }
            let folder = self.layer_id_path(id);
            let record =
                record::read_held(self, &folder).ok_or_else(|| Error::LayerNotFound { layer: id.to_string() })?;
            members.push(Member {
                id: id.clone(),
                tree: folder.join("tree"),
                has_root: record.applied.has_root || matches!(id, LayerId::Step(_)),
                record,
            });
        }
        let mut lowers = self.lowers(&members)?;
        if lowers.is_empty() {
            lowers.push(self.empty_tree()?);
        }
        if lowers.len() > MAX_LOWERS {
            lowers = self.flatten(layers, lowers)?;
        }
        Ok(Stack { layers: layers.to_vec(), lowers })
    }

    /// The folders of a stack, the topmost first, with the generated one.
    fn lowers(&self, members: &[Member]) -> Result<Vec<PathBuf>> {
        let trees =
            |members: &[Member]| -> Vec<PathBuf> { members.iter().rev().map(|member| member.tree.clone()).collect() };
        // The mounted root is that of the highest layer; where that says nothing, a lower one may have.
        let unusual_root = match members.iter().rev().find(|member| member.has_root) {
            Some(member) => self.has_unusual_root(&member.tree)?,
            None => false,
        };
        let needs = |member: &Member| {
            let uncertain_root = unusual_root && !member.has_root;
            uncertain_root || !member.implicit().is_empty() || !member.links().is_empty()
        };
        let Some(highest) = members.iter().rposition(needs).filter(|&highest| highest > 0) else {
            return Ok(trees(members));
        };
        let (prefix, above) = members.split_at(highest + 1);
        let ids: Vec<&LayerId> = prefix.iter().map(|member| &member.id).collect();
        let generated = self.chain(&chain_key("supply", &ids), &ids, |tree| supply(self, prefix, tree))?;
        let mut lowers = trees(above);
        lowers.push(generated);
        lowers.extend(trees(prefix));
        Ok(lowers)
    }

    /// Whether a tree's root looks other than that of a layer that says nothing about it.
    fn has_unusual_root(&self, tree: &Path) -> Result<bool> {
        let root = MergedTree::open(&[tree.to_owned()], self.ownership())?.root_metadata()?;
        Ok((root.mode, root.uid, root.gid) != (0o755, 0, 0))
    }

    /// Merges the lowest folders of a stack that is too high into one.
    fn flatten(&self, layers: &[LayerId], mut lowers: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
        let low = lowers.split_off(KEPT_WHEN_FLATTENED);
        // Generated folders follow from the layers, so layers and the cut name the result.
        let key: Vec<&LayerId> = layers.iter().collect();
        let name = format!("flat-{}", low.len());
        let flat = self.chain(&chain_key(&name, &key), &key, |tree| {
            let merged = MergedTree::open(&low, self.ownership())?;
            materialize::materialize(&merged, tree, self.ownership())
        })?;
        lowers.push(flat);
        Ok(lowers)
    }

    /// A folder without anything, for stacks without layers.
    fn empty_tree(&self) -> Result<PathBuf> {
        self.chain("empty", &[], |_| Ok(()))
    }

    /// A generated folder, made by `fill` unless it is there.
    fn chain(&self, key: &str, layers: &[&LayerId], fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let path = self.chain_path(key);
        self.hold(&Resource::Chain(path.file_name().unwrap_or_default().to_string_lossy().into_owned()))?;
        if record::read_held(self, &path).is_some() {
            return Ok(path.join("tree"));
        }
        let lock = format!("chain-{}", &key[..key.len().min(3)]);
        let _alone = self.lock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
        if record::read_valid(self, &path).is_some() {
            return Ok(path.join("tree"));
        }
        self.discard(&path)?;
        let temporary = self.temporary("chain")?;
        std::fs::create_dir(&temporary).at("make folder", &temporary)?;
        let tree = temporary.join("tree");
        let made = create_tree(&tree)
            .and_then(|_| fill(&tree))
            .and_then(|()| TreeRecord::unsynced(self).with_layers(layers).write(&temporary))
            .and_then(|()| std::fs::rename(&temporary, &path).at("name", &path));
        if made.is_err() {
            // The first error is the one to tell; what stays is reclaimed by collection.
            let _ = self.remove_temporary(&temporary);
        }
        made.map(|()| path.join("tree"))
    }
}

fn chain_key(kind: &str, layers: &[&LayerId]) -> String {
    let text = layers.iter().fold(kind.to_owned(), |text, layer| format!("{text}\n{layer}"));
    Digest::sha256(text.as_bytes()).encoded().to_owned()
}

/// Fills the generated folder for `members`, the lowest first.
fn supply(store: &Store, members: &[Member], tree: &Path) -> Result<()> {
    let ownership = store.ownership();
    let trees: Vec<PathBuf> = members.iter().rev().map(|member| member.tree.clone()).collect();
    let merged = MergedTree::open(&trees, ownership)?;
    let root = files::open_folder(tree).at("open", tree)?;
    let mut supplier = Supplier { store, members, merged, root, made: BTreeSet::new() };
    let implicit: BTreeSet<&Path> =
        members.iter().flat_map(|member| member.implicit().iter().map(PathBuf::as_path)).collect();
    // The root comes first and always: it is what the mounted root looks like.
    supplier.directory(Path::new(""))?;
    for path in implicit {
        if supplier.is_worth_supplying(path)? {
            supplier.directories_to(path)?;
        }
    }
    for (index, member) in members.iter().enumerate() {
        for link in member.links() {
            supplier.link(index, member, link)?;
        }
    }
    supplier.finish_times()
}

struct Supplier<'a> {
    store: &'a Store,
    members: &'a [Member],
    merged: MergedTree,
    root: OwnedFd,
    made: BTreeSet<PathBuf>,
}

impl Supplier<'_> {
    /// The folder and its attributes as the layers mean it: those of the topmost layer with an entry for it.
    fn attributes(&self, path: &Path) -> Result<Option<Metadata>> {
        let mut found = None;
        for member in self.members.iter().rev() {
            let alone = MergedTree::open(std::slice::from_ref(&member.tree), self.store.ownership())?;
            let node = match hidden(&alone, path)? {
                Seen::Here(node) => node,
                Seen::Through => continue,
                Seen::Stop => break,
            };
            let Node::Directory(directory) = node else { break };
            let metadata = directory.metadata()?;
            let is_root = path.as_os_str().is_empty();
            let explicit = match is_root {
                true => member.has_root,
                false => !member.implicit().iter().any(|implicit| implicit == path),
            };
            if explicit {
                return Ok(Some(metadata));
            }
            found.get_or_insert(metadata);
            if is_opaque(&directory)? {
                break;
            }
        }
        Ok(found)
    }

    /// Whether the mounted folder would look different from what the layers mean.
    fn is_worth_supplying(&self, path: &Path) -> Result<bool> {
        let Some(Node::Directory(shown)) = self.merged.lookup(path)? else { return Ok(false) };
        let Some(meant) = self.attributes(path)? else { return Ok(false) };
        Ok(!same_attributes(&shown.metadata()?, &meant))
    }

    fn directories_to(&mut self, path: &Path) -> Result<()> {
        let mut current = PathBuf::new();
        for component in path.components() {
            current.push(component);
            self.directory(&current)?;
        }
        Ok(())
    }

    /// Makes one folder with its attributes. Its parent is there.
    fn directory(&mut self, path: &Path) -> Result<()> {
        if !self.made.insert(path.to_owned()) {
            return Ok(());
        }
        let Some(meant) = self.attributes(path)? else { return Ok(()) };
        if !path.as_os_str().is_empty() {
            match rustix::fs::mkdirat(&self.root, path, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).at("make folder", path),
            }
        }
        let folder = files::open_in_root(&self.root, path, files::FOLDER).at("open", path)?;
        materialize::set_directory(&folder, &meant, self.store.ownership()).at("set attributes of", path)
    }

    /// Supplies a hard link whose target lies in the layers below `index`.
    fn link(&mut self, index: usize, member: &Member, link: &UnresolvedLink) -> Result<()> {
        // Where a layer above has the name or hides it, the link is not to be seen.
        for above in &self.members[index + 1..] {
            let alone = MergedTree::open(std::slice::from_ref(&above.tree), self.store.ownership())?;
            if !matches!(hidden(&alone, &link.path)?, Seen::Through) {
                return Ok(());
            }
        }
        let below: Vec<PathBuf> = self.members[..=index].iter().rev().map(|member| member.tree.clone()).collect();
        let view = MergedTree::open(&below, self.store.ownership())?;
        let unresolved = || Error::UnresolvedLink {
            layer: member.id.to_string(),
            link: link.path.clone(),
            target: link.target.clone(),
        };
        let Some(Node::Leaf(target)) = view.lookup(&link.target)? else { return Err(unresolved()) };
        let parent = link.path.parent().unwrap_or(Path::new(""));
        self.directories_to(parent)?;
        let folder = files::open_in_root(&self.root, parent, files::FOLDER).at("open", parent)?;
        let name = link.path.file_name().unwrap_or(OsStr::new(""));
        match target.link_to(&folder, name) {
            Ok(()) => Ok(()),
            Err(_) => materialize::copy_leaf(&target, &folder, name, self.store.ownership()),
        }
    }

    /// Making entries changed the times of the folders they are in.
    fn finish_times(&self) -> Result<()> {
        for path in self.made.iter().rev() {
            if let Some(meant) = self.attributes(path)? {
                let folder = files::open_in_root(&self.root, path, files::FOLDER).at("open", path)?;
                let (seconds, nanoseconds) = meant.mtime;
                rustix::fs::futimens(&folder, &files::timestamps(seconds, nanoseconds)).at("set time of", path)?;
            }
        }
        Ok(())
    }
}

fn same_attributes(a: &Metadata, b: &Metadata) -> bool {
    (a.mode, a.uid, a.gid, a.mtime) == (b.mode, b.uid, b.gid, b.mtime)
}

/// What one layer says about a path.
enum Seen {
    /// It has an entry there.
    Here(Node),
    /// It says nothing: the layers below show through.
    Through,
    /// It hides whatever is below.
    Stop,
}

/// Follows a path in one layer alone, without following links: those of other layers are not known here.
fn hidden(layer: &MergedTree, path: &Path) -> Result<Seen> {
    let mut current = layer.root().clone();
    let mut components = path.components().peekable();
    let mut opaque = is_opaque(&current)?;
    while let Some(component) = components.next() {
        let name = component.as_os_str();
        match current.child(name)? {
            Some(node) if components.peek().is_none() => return Ok(Seen::Here(node)),
            Some(Node::Directory(directory)) => {
                opaque = is_opaque(&directory)?;
                current = directory;
            }
            Some(Node::Leaf(_)) => return Ok(Seen::Stop),
            None if opaque || current.has_whiteout(name)? => return Ok(Seen::Stop),
            None => return Ok(Seen::Through),
        }
    }
    Ok(Seen::Here(Node::Directory(current)))
}

fn is_opaque(directory: &MergedDirectory) -> Result<bool> {
    directory.is_opaque()
}
