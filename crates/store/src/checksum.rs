//! Digests of parts of a tree: what a cached COPY depends on.
//!
//! Names, types, permission bits, owners, content, link targets, device numbers and extended attributes count;
//! times, inodes and the names of the tree's folders on disk do not. A hard link counts as its content.
//!
//! What is digested is *captured*: the same names and attributes are then copied, and of each file that others may
//! change is known what was seen of it. What is copied is so what was digested, or an error.
//!
//! The digest is SHA-256 over this text; changing it only makes caches miss:
//!
//! ```text
//! per match:  "c" sha256(text of the folder), where only a folder's content counts, else an entry
//! per folder, its entries in byte order of names:
//!   "e" length(name) name  type mode uid gid
//!       [size sha256(content) | length(target) target | rdev | sha256(text of the folder)]
//!   per attribute: "x" length(name) name length(value) value
//! ```

mod capture;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use onetag_oci::Digest;
use rayon::prelude::*;

use crate::copy::{CopyError, resolve_wildcards};
use crate::tree::{ContentSum, FrozenContent, FrozenDirectory, FrozenNode, MergedTree, Metadata, PathFilter};
use capture::Capturer;
pub(crate) use capture::sum_of;

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

/// Remembers the digests of files across runs, keyed by what changes when a file does. Only files without extended
/// attributes are remembered.
pub trait FileDigests: Sync {
    /// The SHA-256 of a file's content, if it is known for exactly this state of the file.
    fn get(&self, path: &Path, state: &Metadata) -> Option<ContentSum>;
    /// Takes a digest that was computed of a file in this state. Every later change shows in the state.
    fn put(&self, path: &Path, state: &Metadata, sum: &ContentSum);
}

/// Remembers nothing.
pub struct NoFileDigests;

impl FileDigests for NoFileDigests {
    fn get(&self, _: &Path, _: &Metadata) -> Option<ContentSum> {
        None
    }

    fn put(&self, _: &Path, _: &Metadata, _: &ContentSum) {}
}

/// A selection as it was seen.
pub struct Captured {
    /// The path of each match, and what stood there.
    pub(crate) sources: Vec<(PathBuf, FrozenNode)>,
    digest: Option<Digest>,
}

impl Captured {
    /// The digest of the selection; none where only names and attributes were asked for.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether all that was selected are folders.
    pub fn is_folders(&self) -> bool {
        self.sources.iter().all(|(_, node)| matches!(node, FrozenNode::Directory(_)))
    }
}

/// The digest of a selection.
///
/// # Errors
/// [`CopyError::NotFound`] where the path is absent. A pattern that matches nothing selects nothing, as in BuildKit; the
/// copy itself says whether that will do.
pub fn digest(tree: &MergedTree, selection: &Selection) -> Result<Digest, CopyError> {
    let sources = sources(tree, selection, &Capturer::new(selection, Some(&NoFileDigests), false))?;
    Ok(digest_of(&sources, selection))
}

/// Captures a selection of a folder that others may change, and digests it, with a memory of files.
///
/// # Errors
/// As [`digest`].
pub fn capture(tree: &MergedTree, selection: &Selection, known: &dyn FileDigests) -> Result<Captured, CopyError> {
    let sources = sources(tree, selection, &Capturer::new(selection, Some(known), true))?;
    let digest = Some(digest_of(&sources, selection));
    Ok(Captured { sources, digest })
}

/// Captures a selection of a tree that nobody changes, without reading any file.
///
/// # Errors
/// As [`digest`].
pub fn capture_names(tree: &MergedTree, selection: &Selection) -> Result<Captured, CopyError> {
    let sources = sources(tree, selection, &Capturer::new(selection, None, false))?;
    Ok(Captured { sources, digest: None })
}

fn sources(
    tree: &MergedTree,
    selection: &Selection,
    capturer: &Capturer<'_>,
) -> Result<Vec<(PathBuf, FrozenNode)>, CopyError> {
    let not_found = || CopyError::NotFound { path: selection.path.clone() };
    let paths = match selection.wildcard {
        true => resolve_wildcards(tree, &selection.path, selection.follow_symlinks)?,
        false => vec![selection.path.clone()],
    };
    let mut sources = Vec::with_capacity(paths.len());
    for path in paths {
        let node = tree.resolve(&path, selection.follow_symlinks)?.node.ok_or_else(not_found)?;
        sources.push((path, capturer.node(&node)?));
    }
    Ok(sources)
}

fn digest_of(sources: &[(PathBuf, FrozenNode)], selection: &Selection) -> Digest {
    let mut text = Vec::new();
    for (path, node) in sources {
        match node {
            FrozenNode::Directory(directory) if selection.contents_only => {
                text.push(b'c');
                text.extend(sum_of_folder(directory));
            }
            node => put_entry(&mut text, path.file_name().unwrap_or_default(), node),
        }
    }
    Digest::sha256(&text)
}

/// The SHA-256 of the text of a folder. The folders in it are digested in parallel.
fn sum_of_folder(directory: &FrozenDirectory) -> ContentSum {
    let folders: Vec<&FrozenDirectory> = directory.children.values().filter_map(as_folder).collect();
    let sums: Vec<ContentSum> = match folders.len() {
        0 | 1 => folders.into_iter().map(sum_of_folder).collect(),
        _ => folders.into_par_iter().map(sum_of_folder).collect(),
    };
    let mut sums = sums.into_iter();
    let mut text = Vec::with_capacity(directory.children.len() * 96);
    for (name, node) in &directory.children {
        put_attributes(&mut text, name, node);
        if as_folder(node).is_some() {
            text.extend(sums.next().unwrap_or_default());
        }
        put_xattrs(&mut text, node);
    }
    sum(&text)
}

fn as_folder(node: &FrozenNode) -> Option<&FrozenDirectory> {
    match node {
        FrozenNode::Directory(directory) => Some(directory),
        FrozenNode::Leaf(_) => None,
    }
}

fn put_entry(text: &mut Vec<u8>, name: &OsStr, node: &FrozenNode) {
    put_attributes(text, name, node);
    if let FrozenNode::Directory(directory) = node {
        text.extend(sum_of_folder(directory));
    }
    put_xattrs(text, node);
}

/// All of an entry but what is in it, where it is a folder, and its extended attributes.
fn put_attributes(text: &mut Vec<u8>, name: &OsStr, node: &FrozenNode) {
    let metadata = match node {
        FrozenNode::Directory(directory) => &directory.metadata,
        FrozenNode::Leaf(leaf) => &leaf.metadata,
    };
    text.push(b'e');
    put_bytes(text, name.as_bytes());
    text.extend(metadata.file_type.as_raw_mode().to_le_bytes());
    for number in [metadata.mode, metadata.uid, metadata.gid] {
        text.extend(number.to_le_bytes());
    }
    let FrozenNode::Leaf(leaf) = node else { return };
    match &leaf.content {
        FrozenContent::File(file) => {
            text.extend(metadata.size.to_le_bytes());
            text.extend(file.sum.unwrap_or_default());
        }
        FrozenContent::Link(target) => put_bytes(text, target.as_os_str().as_bytes()),
        FrozenContent::Nothing => text.extend(metadata.rdev.to_le_bytes()),
    }
}

fn put_xattrs(text: &mut Vec<u8>, node: &FrozenNode) {
    let xattrs = match node {
        FrozenNode::Directory(directory) => &directory.xattrs,
        FrozenNode::Leaf(leaf) => &leaf.xattrs,
    };
    for (name, value) in xattrs {
        text.push(b'x');
        put_bytes(text, name);
        put_bytes(text, value);
    }
}

fn put_bytes(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend((bytes.len() as u64).to_le_bytes());
    text.extend(bytes);
}

fn sum(text: &[u8]) -> ContentSum {
    let mut sum = ContentSum::default();
    sum.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
    sum
}
