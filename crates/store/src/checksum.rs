//! Digests of parts of a tree: what a cached COPY depends on.
//!
//! Names, types, permission bits, owners, content, link targets, device numbers and extended attributes count;
//! times, inodes and the names of the tree's folders on disk do not. A hard link counts as its content.
//!
//! The digest is SHA-256 over this text; changing it only makes caches miss:
//!
//! ```text
//! per entry, in the order of a walk:
//!   "e" length(path) path  type mode uid gid  [size sha256(content) | length(target) target | rdev]
//!   per attribute: "x" length(name) name length(value) value
//! ```

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onetag_oci::{Algorithm, Digest, Digester};
use rayon::prelude::*;
use rustix::fs::FileType;

use crate::copy::{CopyError, resolve_wildcards};
use crate::error::{At, Result as StoreResult};
use crate::tree::{Leaf, Matched, MergedDirectory, MergedTree, Metadata, Node, PathFilter};

/// What of a tree is looked at.
#[derive(Clone, Default)]
pub struct Selection {
    /// The path in the tree.
    pub path: PathBuf,
    /// Whether the path is a pattern.
    pub wildcard: bool,
    /// Whether a match that is a symlink is followed.
    pub follow_symlinks: bool,
    /// What below each match counts, by paths relative to the match.
    pub filter: Option<Arc<dyn PathFilter>>,
    /// Whether a match's own name and attributes do not count when it is a folder, because only its content is
    /// copied.
    pub contents_only: bool,
}

/// Remembers the digests of files across runs, keyed by what changes when a file does.
pub trait FileDigests: Sync {
    /// The digest of a file's content, if it is known for exactly this state of the file.
    fn get(&self, path: &Path, metadata: &Metadata) -> Option<Digest>;
    /// Takes a digest that was computed.
    fn put(&self, path: &Path, metadata: &Metadata, digest: &Digest);
}

/// Remembers nothing.
pub struct NoFileDigests;

impl FileDigests for NoFileDigests {
    fn get(&self, _: &Path, _: &Metadata) -> Option<Digest> {
        None
    }

    fn put(&self, _: &Path, _: &Metadata, _: &Digest) {}
}

/// The digest of a selection.
///
/// # Errors
/// [`CopyError::NotFound`] where the path, or any match of the pattern, is absent.
pub fn digest(tree: &MergedTree, selection: &Selection) -> Result<Digest, CopyError> {
    digest_with(tree, selection, &NoFileDigests)
}

/// As [`digest`], with a memory of files.
pub fn digest_with(tree: &MergedTree, selection: &Selection, known: &dyn FileDigests) -> Result<Digest, CopyError> {
    let not_found = || CopyError::NotFound { path: selection.path.clone() };
    let paths = match selection.wildcard {
        true => resolve_wildcards(tree, &selection.path, selection.follow_symlinks)?,
        false => vec![selection.path.clone()],
    };
    if paths.is_empty() {
        return Err(not_found());
    }
    let mut entries = Vec::new();
    for path in &paths {
        let node = tree.resolve(path, selection.follow_symlinks)?.node.ok_or_else(not_found)?;
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        let mut collector = Collector { filter: selection.filter.as_deref(), entries: &mut entries };
        match &node {
            Node::Directory(directory) => {
                if !selection.contents_only {
                    collector.push(name.clone(), &node)?;
                }
                let prefix = if selection.contents_only { PathBuf::new() } else { name };
                collector.directory(directory, &prefix, Path::new(""))?;
            }
            Node::Leaf(_) => collector.push(name, &node)?,
        }
    }
    let contents = contents(&entries, known)?;
    let mut digester = Digester::new(Algorithm::Sha256);
    for (entry, content) in entries.iter().zip(contents) {
        digester.update(&entry.encode(content.as_ref()));
    }
    Ok(digester.finish())
}

/// An entry to be hashed.
struct Entry {
    path: PathBuf,
    metadata: Metadata,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    target: Option<PathBuf>,
    file: Option<Leaf>,
}

struct Collector<'a> {
    filter: Option<&'a dyn PathFilter>,
    entries: &'a mut Vec<Entry>,
}

impl Collector<'_> {
    fn push(&mut self, path: PathBuf, node: &Node) -> StoreResult<()> {
        let metadata = node.metadata()?;
        let mut entry = Entry { path, metadata, xattrs: node.xattrs()?, target: None, file: None };
        if let Node::Leaf(leaf) = node {
            match metadata.file_type {
                FileType::Symlink => entry.target = Some(leaf.read_link()?),
                FileType::RegularFile => entry.file = Some(leaf.clone()),
                _ => {}
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Takes what is in a folder. Gives whether anything was taken.
    fn directory(&mut self, directory: &MergedDirectory, path: &Path, relative: &Path) -> StoreResult<bool> {
        let before = self.entries.len();
        for name in directory.names()? {
            let Some(child) = directory.child(&name)? else { continue };
            let (path, relative) = (path.join(&name), relative.join(&name));
            let below = child.as_directory();
            let matched = match self.filter {
                Some(filter) => filter.matched(&relative, below.is_some()),
                None => Matched::Included,
            };
            match (matched, below) {
                (Matched::Excluded, _) | (Matched::Descend, None) => {}
                (Matched::Included, _) => {
                    self.push(path.clone(), &child)?;
                    if let Some(below) = below {
                        self.directory(below, &path, &relative)?;
                    }
                }
                (Matched::Descend, Some(below)) => {
                    // The folder counts only where something in it does.
                    let position = self.entries.len();
                    if self.directory(below, &path, &relative)? {
                        self.push(path, &child)?;
                        self.entries[position..].rotate_right(1);
                    }
                }
            }
        }
        Ok(self.entries.len() > before)
    }
}

impl Entry {
    fn encode(&self, content: Option<&Digest>) -> Vec<u8> {
        let mut text = vec![b'e'];
        put_bytes(&mut text, self.path.as_os_str().as_bytes());
        let metadata = &self.metadata;
        text.extend(metadata.file_type.as_raw_mode().to_le_bytes());
        for number in [metadata.mode, metadata.uid, metadata.gid] {
            text.extend(number.to_le_bytes());
        }
        if let Some(digest) = content {
            text.extend(metadata.size.to_le_bytes());
            text.extend(digest.encoded().as_bytes());
        } else if let Some(target) = &self.target {
            put_bytes(&mut text, target.as_os_str().as_bytes());
        } else {
            text.extend(metadata.rdev.to_le_bytes());
        }
        for (name, value) in &self.xattrs {
            text.push(b'x');
            put_bytes(&mut text, name);
            put_bytes(&mut text, value);
        }
        text
    }
}

fn put_bytes(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend((bytes.len() as u64).to_le_bytes());
    text.extend(bytes);
}

/// The digests of all files' contents, in parallel, each file of several names once.
fn contents(entries: &[Entry], known: &dyn FileDigests) -> StoreResult<Vec<Option<Digest>>> {
    let mut first: HashMap<(u64, u64), usize> = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if entry.file.is_some() && entry.metadata.links > 1 {
            first.entry(entry.metadata.inode).or_insert(index);
        }
    }
    let is_first = |index: usize, entry: &Entry| {
        entry.metadata.links <= 1 || first.get(&entry.metadata.inode).is_none_or(|&found| found == index)
    };
    let mut digests: Vec<Option<Digest>> = entries
        .par_iter()
        .enumerate()
        .with_min_len(16)
        .map(|(index, entry)| match &entry.file {
            Some(leaf) if is_first(index, entry) => file_digest(leaf, &entry.metadata, known).map(Some),
            _ => Ok(None),
        })
        .collect::<StoreResult<_>>()?;
    for (index, entry) in entries.iter().enumerate() {
        if entry.file.is_some() && digests[index].is_none() {
            digests[index] = first.get(&entry.metadata.inode).and_then(|&found| digests[found].clone());
        }
    }
    Ok(digests)
}

fn file_digest(leaf: &Leaf, metadata: &Metadata, known: &dyn FileDigests) -> StoreResult<Digest> {
    if let Some(digest) = known.get(leaf.path(), metadata) {
        return Ok(digest);
    }
    let mut file = leaf.open()?;
    let mut digester = Digester::new(Algorithm::Sha256);
    let capacity = usize::try_from(metadata.size).unwrap_or(usize::MAX).clamp(512, 256 << 10);
    let mut buffer = vec![0; capacity];
    loop {
        let length = file.read(&mut buffer).at("read", leaf.path())?;
        if length == 0 {
            break;
        }
        digester.update(&buffer[..length]);
    }
    let digest = digester.finish();
    known.put(leaf.path(), metadata, &digest);
    Ok(digest)
}
