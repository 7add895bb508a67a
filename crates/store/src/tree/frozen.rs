//! Folders held in memory: what a tree showed at one moment, and results of copies that nothing was written for.
//!
//! Names and attributes are kept, content stays where it is: a file is opened again when it is needed, by its path
//! from the root of the tree that it was seen in. Where others may change that tree meanwhile, what was seen is kept
//! with it, and whoever reads the content asks afterwards whether it still was what was seen ([`FrozenFile::confirm`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustix::fs::{OFlags, ResolveFlags};

use super::node::Metadata;
use crate::error::{At, Error, Result};
use crate::files;

/// Extended attributes, sorted by name.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A folder.
#[derive(Clone)]
pub(crate) struct FrozenDirectory {
    pub metadata: Metadata,
    pub xattrs: Xattrs,
    pub children: BTreeMap<OsString, FrozenNode>,
}

/// An entry of a folder.
#[derive(Clone)]
pub(crate) enum FrozenNode {
    Directory(Arc<FrozenDirectory>),
    Leaf(Arc<FrozenLeaf>),
}

/// An entry that is no folder.
#[derive(Clone)]
pub(crate) struct FrozenLeaf {
    pub metadata: Metadata,
    pub xattrs: Xattrs,
    pub content: FrozenContent,
}

/// What is in an entry.
#[derive(Clone)]
pub(crate) enum FrozenContent {
    /// A pipe, socket or device.
    Nothing,
    /// What a symlink names.
    Link(PathBuf),
    /// A file's bytes.
    File(Arc<FrozenFile>),
}

/// The content of a file, where it lies.
pub(crate) struct FrozenFile {
    /// The root of the tree that it was seen in.
    pub root: Arc<OwnedFd>,
    /// Its path below the root, without links.
    pub path: PathBuf,
    /// The digest of its content, where that is known.
    pub sum: Option<ContentSum>,
    /// Its state when it was digested; none where nobody changes the tree.
    pub seen: Option<Seen>,
}

/// What was seen of a file that others may change.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// Its state before and after it was read.
    pub state: Metadata,
    /// Whether every later change shows in its state; not so soon after one.
    pub is_certain: bool,
}

/// The SHA-256 of a file's content.
pub type ContentSum = [u8; 32];

impl FrozenFile {
    /// Opens the file for reading.
    pub fn open(&self) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = files::open_resolving(&self.root, &self.path, flags, resolve);
        opened.map(File::from).at("open", &self.path)
    }

    /// Makes sure that what was read from `file` is what was seen. `sum` gives the digest of what was read; it is
    /// asked for only where the file's state does not tell.
    pub fn confirm(&self, file: &File, sum: impl FnOnce() -> std::io::Result<ContentSum>) -> Result<()> {
        let Some(seen) = &self.seen else { return Ok(()) };
        let now = Metadata::of(&rustix::fs::fstat(file).at("examine", &self.path)?);
        let is_same =
            now.is_state_of(&seen.state) && (seen.is_certain || Some(sum().at("read", &self.path)?) == self.sum);
        if is_same { Ok(()) } else { Err(Error::Changed { path: self.path.clone() }) }
    }

    /// Whether reading has to be accompanied by hashing.
    pub fn needs_sum(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| !seen.is_certain)
    }
}

impl Metadata {
    /// Whether two states of a file say that nothing was changed between them.
    pub(crate) fn is_state_of(&self, other: &Metadata) -> bool {
        let state = |metadata: &Metadata| (metadata.inode, metadata.size, metadata.mtime, metadata.ctime);
        state(self) == state(other)
    }
}

/// Reads a file to its end, where it fails if that was not what the tree showed.
pub struct ConfirmedReader {
    file: File,
    frozen: Option<Arc<FrozenFile>>,
    context: Option<digest::Context>,
}

impl ConfirmedReader {
    pub(super) fn new(file: File, frozen: Option<Arc<FrozenFile>>) -> ConfirmedReader {
        let needs_sum = frozen.as_ref().is_some_and(|frozen| frozen.needs_sum());
        let context = needs_sum.then(|| digest::Context::new(&digest::SHA256));
        ConfirmedReader { file, frozen, context }
    }
}

impl Read for ConfirmedReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.file.read(buffer)?;
        if let Some(context) = &mut self.context {
            context.update(&buffer[..length]);
        }
        if length == 0
            && !buffer.is_empty()
            && let Some(frozen) = self.frozen.take()
        {
            let context = self.context.take();
            let sum = || Ok(context.map(sum_of_context).unwrap_or_default());
            frozen.confirm(&self.file, sum).map_err(std::io::Error::other)?;
        }
        Ok(length)
    }
}

/// The digest that was computed piece by piece.
pub(crate) fn sum_of_context(context: digest::Context) -> ContentSum {
    let mut sum = ContentSum::default();
    sum.copy_from_slice(context.finish().as_ref());
    sum
}
