//! Capturing what a tree shows: names and attributes, and the digests of files, in parallel.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rayon::prelude::*;
use rustix::fs::FileType;

use super::{FileDigests, Selection};
use crate::error::{At, Error, Result};
use crate::layer;
use crate::tree::{ContentSum, FrozenContent, FrozenDirectory, FrozenLeaf, FrozenNode, Leaf, Listed, Matched};
use crate::tree::{MergedDirectory, Metadata, Node, PathFilter, Seen, sum_of_context};

/// Coarser than any file system's clock that is in use: a change that comes so soon after another one may not show.
const RECENT: Duration = Duration::from_millis(50);
/// How often a file that changes while it is read is read anew.
const ATTEMPTS: usize = 3;
/// Entries of a folder that one thread takes at a time.
const SHARE: usize = 16;

/// Captures parts of a tree.
pub(super) struct Capturer<'a> {
    filter: Option<&'a dyn PathFilter>,
    /// Digests of files; none where they are not asked for.
    known: Option<&'a dyn FileDigests>,
    /// Whether others may change the tree.
    is_shared: bool,
    /// Digests of files of several names.
    linked: Mutex<HashMap<(u64, u64), ContentSum>>,
}

impl<'a> Capturer<'a> {
    pub(super) fn new(selection: &'a Selection, known: Option<&'a dyn FileDigests>, is_shared: bool) -> Self {
        Self { filter: selection.filter.as_deref(), known, is_shared, linked: Mutex::default() }
    }

    /// Captures an entry with all below it.
    pub(super) fn node(&self, node: &Node) -> Result<FrozenNode> {
        self.entry(node, Path::new(""))
    }

    fn entry(&self, node: &Node, relative: &Path) -> Result<FrozenNode> {
        Ok(match node {
            Node::Directory(directory) => {
                let children = self.children(directory, relative)?;
                FrozenNode::Directory(Arc::new(frozen(directory, children)?))
            }
            Node::Leaf(leaf) => FrozenNode::Leaf(Arc::new(self.leaf(node, leaf)?)),
        })
    }

    /// What is in a folder. Folders are opened one after the other, so that few are open at a time.
    fn children(
        &self,
        directory: &MergedDirectory,
        relative: &Path,
    ) -> Result<BTreeMap<std::ffi::OsString, FrozenNode>> {
        let names = directory.listed()?;
        let child = |listed: Listed| -> Result<Option<(std::ffi::OsString, FrozenNode)>> {
            let Some(node) = directory.listed_child(&listed)? else { return Ok(None) };
            Ok(self.child(&node, relative, &listed.name)?.map(|frozen| (listed.name, frozen)))
        };
        if names.len() <= SHARE {
            return names.into_iter().filter_map(|name| child(name).transpose()).collect();
        }
        let found: Vec<_> = names
            .into_par_iter()
            .with_min_len(SHARE)
            .filter_map(|name| child(name).transpose())
            .collect::<Result<_>>()?;
        Ok(found.into_iter().collect())
    }

    fn child(&self, node: &Node, relative: &Path, name: &OsStr) -> Result<Option<FrozenNode>> {
        let relative = if self.filter.is_some() { relative.join(name) } else { PathBuf::new() };
        let matched = match self.filter {
            Some(filter) => filter.matched(&relative, node.as_directory().is_some()),
            None => Matched::Included,
        };
        match (matched, node) {
            (Matched::Excluded, _) | (Matched::Descend, Node::Leaf(_)) => Ok(None),
            (Matched::Included, node) => self.entry(node, &relative).map(Some),
            (Matched::Descend, Node::Directory(directory)) => {
                // The folder counts only where something in it does.
                let children = self.children(directory, &relative)?;
                if children.is_empty() {
                    return Ok(None);
                }
                Ok(Some(FrozenNode::Directory(Arc::new(frozen(directory, children)?))))
            }
        }
    }

    fn leaf(&self, node: &Node, leaf: &Leaf) -> Result<FrozenLeaf> {
        let metadata = leaf.metadata()?;
        let mut captured = FrozenLeaf { metadata, xattrs: Vec::new(), content: FrozenContent::Nothing };
        match metadata.file_type {
            FileType::RegularFile => match self.known {
                Some(known) => self.file(leaf, known, &mut captured)?,
                None => {
                    captured.xattrs = node.xattrs()?;
                    captured.content = leaf.freeze(None, None);
                }
            },
            FileType::Symlink => {
                captured.xattrs = node.xattrs()?;
                captured.content = FrozenContent::Link(leaf.read_link()?);
            }
            _ => captured.xattrs = node.xattrs()?,
        }
        Ok(captured)
    }

    /// Digests a file, unless that was done before.
    fn file(&self, leaf: &Leaf, known: &dyn FileDigests, captured: &mut FrozenLeaf) -> Result<()> {
        if leaf.frozen_file().is_some_and(|file| file.sum.is_some()) {
            captured.xattrs = Node::Leaf(leaf.clone()).xattrs()?;
            captured.content = leaf.freeze(None, None);
            return Ok(());
        }
        let mut seen = Seen { state: leaf.state(), is_certain: true };
        let watched = |seen: Seen| self.is_shared.then_some(seen);
        if let Some(sum) = known.get(leaf.path(), &seen.state) {
            captured.content = leaf.freeze(Some(sum), watched(seen));
            return Ok(());
        }
        let is_linked = seen.state.links > 1 && !self.is_shared;
        let file = leaf.open()?;
        captured.xattrs = match leaf.frozen_file() {
            Some(_) => Node::Leaf(leaf.clone()).xattrs()?,
            None => layer::read_xattrs(&file).at("read attributes of", leaf.path())?,
        };
        let before = is_linked.then(|| self.linked().get(&seen.state.inode).copied()).flatten();
        let sum = match before {
            Some(sum) => sum,
            None => self.read(leaf, &file, &mut seen)?,
        };
        if is_linked {
            self.linked().insert(seen.state.inode, sum);
        }
        captured.metadata.size = seen.state.size;
        captured.metadata.mtime = seen.state.mtime;
        if seen.is_certain && captured.xattrs.is_empty() {
            known.put(leaf.path(), &seen.state, &sum);
        }
        captured.content = leaf.freeze(Some(sum), watched(seen));
        Ok(())
    }

    fn linked(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u64), ContentSum>> {
        self.linked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a file until it does not change meanwhile.
    fn read(&self, leaf: &Leaf, file: &File, seen: &mut Seen) -> Result<ContentSum> {
        for _ in 0..ATTEMPTS {
            let began = SystemTime::now();
            let sum = sum_of(file, seen.state.size).at("read", leaf.path())?;
            if !self.is_shared {
                return Ok(sum);
            }
            let after = Metadata::of(&rustix::fs::fstat(file).at("examine", leaf.path())?);
            if after.is_state_of(&seen.state) {
                seen.is_certain = is_old(&seen.state, began);
                return Ok(sum);
            }
            seen.state = after;
        }
        Err(Error::Changed { path: leaf.path().to_owned() })
    }
}

fn frozen(directory: &MergedDirectory, children: BTreeMap<std::ffi::OsString, FrozenNode>) -> Result<FrozenDirectory> {
    let xattrs = Node::Directory(directory.clone()).xattrs()?;
    Ok(FrozenDirectory { metadata: directory.metadata()?, xattrs, children })
}

/// Whether a state is so old at an instant that every change after it shows.
fn is_old(state: &Metadata, instant: SystemTime) -> bool {
    let Ok(seconds) = u64::try_from(state.ctime.0) else { return true };
    UNIX_EPOCH + Duration::new(seconds, state.ctime.1) + RECENT < instant
}

/// The digest of a file's content, from its beginning.
pub(crate) fn sum_of(file: &File, size: u64) -> std::io::Result<ContentSum> {
    let mut context = digest::Context::new(&digest::SHA256);
    let capacity = usize::try_from(size.saturating_add(1)).unwrap_or(usize::MAX).clamp(512, 256 << 10);
    let mut buffer = vec![0; capacity];
    let mut position = 0;
    loop {
        let length = file.read_at(&mut buffer, position)?;
        context.update(&buffer[..length]);
        position += length as u64;
        // Less than was asked for is the end, where it agrees with the size.
        if length == 0 || (length < buffer.len() && position == size) {
            break;
        }
    }
    Ok(sum_of_context(context))
}
