//! From overlayfs's upper folder, or one in memory, to an archive, as BuildKit's differ does it in effect.
//!
//! Entries come in byte order of names, a folder before what is in it. Left out are sockets, removals of what the
//! layers below do not have, and files and folders that look as below; the parents of everything that is written
//! are written, too. Modification times are whole seconds.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::{ArchiveWriter, Output};
use crate::checksum::sum_of;
use crate::error::Error;
use crate::files;
use crate::layer::{self, EntryHeader, EntryKind, InLayer, LayerError, Ownership, TarWriter};
use crate::tree::{FrozenContent, FrozenDirectory, FrozenFile, FrozenNode, sum_of_context};
use crate::tree::{MergedDirectory, MergedTree, Metadata, Node, Xattrs};
use crate::whiteout;

/// What a written layer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DiffStatistics {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
}

type LayerResult<T> = std::result::Result<T, LayerError>;

/// A folder of the layer.
#[derive(Clone)]
pub(super) enum Upper {
    /// In overlay form on disk.
    Folder(Arc<OwnedFd>),
    /// In memory.
    Frozen(Arc<FrozenDirectory>),
}

/// Writes the archive of `upper`, which changes `below`.
pub(super) fn write(
    archive: &mut ArchiveWriter,
    upper: Upper,
    below: &MergedTree,
    ownership: Ownership,
    latest_mtime: Option<i64>,
) -> LayerResult<DiffStatistics> {
    let mut differ = Differ {
        output: TarWriter::new(archive),
        ownership,
        latest_mtime,
        links: HashMap::new(),
        statistics: DiffStatistics::default(),
        levels: Vec::new(),
    };
    let names = differ.names(&upper, Path::new(""))?;
    // The root itself has no entry, as in BuildKit's layers.
    let root = Level { upper, path: PathBuf::new(), below: Some(below.root().clone()), names, header: None };
    differ.levels.push(root);
    differ.run()?;
    differ.output.finish().map_err(LayerError::Write)?;
    Ok(differ.statistics)
}

/// A folder being walked.
struct Level {
    upper: Upper,
    path: PathBuf,
    below: Option<MergedDirectory>,
    /// What is left, the next name last.
    names: Vec<OsString>,
    /// The folder's own entry as long as it is not written.
    header: Option<(Metadata, Xattrs)>,
}

struct Differ<'a> {
    output: Output<'a>,
    ownership: Ownership,
    latest_mtime: Option<i64>,
    links: HashMap<(u64, u64), Vec<u8>>,
    statistics: DiffStatistics,
    levels: Vec<Level>,
}

/// An entry as the walk sees it.
struct Entry {
    path: PathBuf,
    metadata: Metadata,
    xattrs: Xattrs,
    /// What a symlink names.
    target: Vec<u8>,
    /// A file's content.
    file: Option<Content>,
}

/// The content of a file, opened.
struct Content {
    file: File,
    /// Where it lies, where that is not the layer itself.
    frozen: Option<Arc<FrozenFile>>,
}

/// An entry of a folder before it is told what it is.
enum Found {
    Disk(Arc<OwnedFd>, Stat),
    Memory(FrozenNode),
}

impl Differ<'_> {
    fn run(&mut self) -> LayerResult<()> {
        while let Some(level) = self.levels.last_mut() {
            match level.names.pop() {
                Some(name) => self.entry(&name)?,
                None => drop(self.levels.pop()),
            }
        }
        Ok(())
    }

    fn names(&self, folder: &Upper, path: &Path) -> LayerResult<Vec<OsString>> {
        Ok(match folder {
            Upper::Frozen(frozen) => frozen.children.keys().rev().cloned().collect(),
            Upper::Folder(fd) => {
                let listed = files::list(&**fd).in_layer("list", || path)?;
                listed.into_iter().map(|(name, _)| name).rev().collect()
            }
        })
    }

    fn entry(&mut self, name: &OsStr) -> LayerResult<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let path = level.path.join(name);
        let found = match &level.upper {
            Upper::Folder(fd) => Found::Disk(Arc::clone(fd), files::stat(&**fd, name).in_layer("examine", || &*path)?),
            Upper::Frozen(frozen) => match frozen.children.get(name) {
                Some(node) => Found::Memory(node.clone()),
                None => return Ok(()),
            },
        };
        let below = match &level.below {
            Some(below) => below.child(name).map_err(|error| in_layer(error, &path))?,
            None => None,
        };
        match found {
            Found::Memory(FrozenNode::Directory(frozen)) => {
                let (metadata, xattrs) = (frozen.metadata, frozen.xattrs.clone());
                self.directory(path, Upper::Frozen(frozen), metadata, xattrs, below, false)
            }
            Found::Memory(FrozenNode::Leaf(leaf)) => {
                let (target, file) = match &leaf.content {
                    FrozenContent::Nothing => (Vec::new(), None),
                    FrozenContent::Link(target) => (target.as_os_str().as_bytes().to_vec(), None),
                    FrozenContent::File(frozen) => (Vec::new(), Some(frozen)),
                };
                let file = match file {
                    Some(frozen) => {
                        let file = frozen.open().map_err(|error| in_layer(error, &path))?;
                        Some(Content { file, frozen: Some(Arc::clone(frozen)) })
                    }
                    None => None,
                };
                let entry = Entry { path, metadata: leaf.metadata, xattrs: leaf.xattrs.clone(), target, file };
                self.leaf(entry, below)
            }
            Found::Disk(folder, stat) if whiteout::is_whiteout(&*folder, name, &stat) => match below {
                Some(_) => self.whiteout(&path, name),
                None => Ok(()),
            },
            Found::Disk(folder, stat) => match files::file_type(&stat) {
                FileType::Directory => {
                    let flags = files::FOLDER | OFlags::NOFOLLOW;
                    let fd = rustix::fs::openat(&*folder, name, flags, Mode::empty()).in_layer("open", || &*path)?;
                    let metadata = self.metadata(&fd, &stat, &path)?;
                    let xattrs = layer::read_xattrs(&fd).in_layer("read attributes of", || &*path)?;
                    let opaque = layer::is_opaque(&fd).in_layer("examine", || &*path)?;
                    self.directory(path, Upper::Folder(Arc::new(fd)), metadata, xattrs, below, opaque)
                }
                FileType::Socket => Ok(()),
                _ => {
                    let entry = self.entry_on_disk(&folder, name, &stat, path)?;
                    self.leaf(entry, below)
                }
            },
        }
    }

    fn directory(
        &mut self,
        path: PathBuf,
        upper: Upper,
        metadata: Metadata,
        xattrs: Xattrs,
        below: Option<Node>,
        opaque: bool,
    ) -> LayerResult<()> {
        let names = self.names(&upper, &path)?;
        let unchanged = match &below {
            Some(Node::Directory(directory)) => same_directory(&metadata, &xattrs, directory, &path)?,
            _ => false,
        };
        let hides = opaque && matches!(&below, Some(Node::Directory(_)));
        let below = match below {
            Some(Node::Directory(directory)) if !opaque => Some(directory),
            _ => None,
        };
        self.levels.push(Level { upper, path: path.clone(), below, names, header: Some((metadata, xattrs)) });
        if !unchanged || hides {
            self.write_parents()?;
        }
        if hides {
            self.marker([path.as_os_str().as_bytes(), b"/", layer::OPAQUE_WHITEOUT].concat())?;
        }
        Ok(())
    }

    /// A file, link, pipe or device of the layer's own folder.
    fn entry_on_disk(&self, folder: &OwnedFd, name: &OsStr, stat: &Stat, path: PathBuf) -> LayerResult<Entry> {
        let mut entry =
            Entry { path, metadata: Metadata::of(stat), xattrs: Vec::new(), target: Vec::new(), file: None };
        let path = entry.path.as_path();
        if entry.metadata.file_type == FileType::RegularFile {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let fd = rustix::fs::openat(folder, name, flags, Mode::empty()).in_layer("open", || path)?;
            entry.metadata = self.metadata(&fd, stat, path)?;
            entry.xattrs = layer::read_xattrs(&fd).in_layer("read attributes of", || path)?;
            entry.file = Some(Content { file: File::from(fd), frozen: None });
            return Ok(entry);
        }
        if entry.metadata.file_type == FileType::Symlink {
            entry.target = rustix::fs::readlinkat(folder, name, Vec::new())
                .map(std::ffi::CString::into_bytes)
                .in_layer("read link", || path)?;
        }
        let owner = (entry.metadata.uid, entry.metadata.gid);
        (entry.metadata.uid, entry.metadata.gid) = self.ownership.owner_of_state(owner);
        let place = files::path_through(folder, name);
        entry.xattrs = layer::read_xattrs_by_path(&place).in_layer("read attributes of", || path)?;
        Ok(entry)
    }

    fn leaf(&mut self, entry: Entry, below: Option<Node>) -> LayerResult<()> {
        if entry.metadata.links <= 1
            && let Some(Node::Leaf(below)) = &below
            && self.same_leaf(&entry, below)?
        {
            return Ok(());
        }
        self.write_parents()?;
        self.write_leaf(entry)
    }

    fn write_leaf(&mut self, entry: Entry) -> LayerResult<()> {
        let metadata = &entry.metadata;
        let path = entry.path.as_os_str().as_bytes();
        let mut header = header(path, metadata, &entry.xattrs, self.mtime(metadata.mtime.0));
        if metadata.links > 1 {
            if let Some(first) = self.links.get(&metadata.inode).cloned() {
                header.kind = EntryKind::HardLink;
                header.link = &first;
                header.size = 0;
                self.statistics.entries += 1;
                return self.output.header(&header).map_err(LayerError::Write);
            }
            self.links.insert(metadata.inode, path.to_vec());
        }
        self.statistics.entries += 1;
        header.link = &entry.target;
        self.output.header(&header).map_err(LayerError::Write)?;
        match entry.file {
            Some(content) => self.content(&content, metadata.size, &entry.path),
            None => Ok(()),
        }
    }

    fn content(&mut self, content: &Content, size: u64, path: &Path) -> LayerResult<()> {
        let mut context = match &content.frozen {
            Some(frozen) if frozen.needs_sum() => Some(digest::Context::new(&digest::SHA256)),
            _ => None,
        };
        let mut left = size;
        let mut file = &content.file;
        while left > 0 {
            // Straight into the block that is compressed next.
            let compressor = &mut self.output.output().compressor;
            let space = compressor.space();
            let wanted = usize::try_from(left).map_or(space.len(), |left| left.min(space.len()));
            let length = file.read(&mut space[..wanted]).in_layer("read", || path)?;
            if length == 0 {
                return Err(LayerError::Changed { path: path.to_owned() });
            }
            if let Some(context) = &mut context {
                context.update(&space[..length]);
            }
            compressor.advance(length).map_err(LayerError::Write)?;
            left -= length as u64;
        }
        if let Some(frozen) = &content.frozen {
            let sum = || Ok(context.map(sum_of_context).unwrap_or_default());
            frozen.confirm(&content.file, sum).map_err(|error| in_layer(error, path))?;
        }
        self.statistics.bytes += size;
        self.output.pad(size).map_err(LayerError::Write)
    }

    /// Writes the entries of the open folders that have none yet.
    fn write_parents(&mut self) -> LayerResult<()> {
        for index in 0..self.levels.len() {
            let level = &mut self.levels[index];
            let Some((metadata, xattrs)) = level.header.take() else { continue };
            let path = [level.path.as_os_str().as_bytes(), b"/"].concat();
            let mtime = self.mtime(metadata.mtime.0);
            self.output.header(&header(&path, &metadata, &xattrs, mtime)).map_err(LayerError::Write)?;
            self.statistics.entries += 1;
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &Path, name: &OsStr) -> LayerResult<()> {
        self.write_parents()?;
        let parent = path.parent().unwrap_or(Path::new("")).join("");
        let marker = [parent.as_os_str().as_bytes(), layer::WHITEOUT_PREFIX, name.as_bytes()].concat();
        self.marker(marker)
    }

    /// Writes an empty file whose name is a message. Its time is fixed, or the bytes would tell when it was written.
    fn marker(&mut self, path: Vec<u8>) -> LayerResult<()> {
        self.statistics.entries += 1;
        let header = EntryHeader {
            kind: EntryKind::File,
            path: &path,
            link: b"",
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: self.latest_mtime.unwrap_or(0).max(0),
            device: (0, 0),
            xattrs: &[],
        };
        self.output.header(&header).map_err(LayerError::Write)
    }

    fn metadata(&self, fd: impl AsFd, stat: &Stat, path: &Path) -> LayerResult<Metadata> {
        let mut metadata = Metadata::of(stat);
        (metadata.uid, metadata.gid) =
            self.ownership.owner(fd, (metadata.uid, metadata.gid)).in_layer("read owner of", || &*path)?;
        Ok(metadata)
    }

    fn mtime(&self, seconds: i64) -> i64 {
        self.latest_mtime.map_or(seconds, |latest| seconds.min(latest))
    }

    /// Whether a file was copied up without being changed.
    fn same_leaf(&self, entry: &Entry, below: &crate::tree::Leaf) -> LayerResult<bool> {
        let failed = |error| in_layer(error, &entry.path);
        let (a, b) = (&entry.metadata, below.metadata().map_err(failed)?);
        let alike = (a.file_type, a.mode, a.uid, a.gid, a.rdev, a.size, a.mtime)
            == (b.file_type, b.mode, b.uid, b.gid, b.rdev, b.size, b.mtime);
        if !alike || entry.xattrs != Node::Leaf(below.clone()).xattrs().map_err(failed)? {
            return Ok(false);
        }
        match a.file_type {
            FileType::Symlink => Ok(entry.target == below.read_link().map_err(failed)?.as_os_str().as_bytes()),
            FileType::RegularFile if a.mtime.1 == 0 => match &entry.file {
                Some(content) => {
                    let other = below.open().map_err(failed)?;
                    let is_same = files::same_content(&content.file, &other).in_layer("compare", || &*entry.path)?;
                    let sum = |file: &File| sum_of(file, a.size);
                    if let Some(frozen) = &content.frozen {
                        frozen.confirm(&content.file, || sum(&content.file)).map_err(failed)?;
                    }
                    below.confirm(&other, || sum(&other)).map_err(failed)?;
                    Ok(is_same)
                }
                None => Ok(false),
            },
            // A time with nanoseconds was set by a write; the same one means that none happened since.
            _ => Ok(true),
        }
    }
}

fn header<'a>(path: &'a [u8], metadata: &Metadata, xattrs: &'a [(Vec<u8>, Vec<u8>)], mtime: i64) -> EntryHeader<'a> {
    let kind = match metadata.file_type {
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::CharacterDevice => EntryKind::CharacterDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Fifo => EntryKind::Fifo,
        _ => EntryKind::File,
    };
    let device = (rustix::fs::major(metadata.rdev), rustix::fs::minor(metadata.rdev));
    let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
    EntryHeader {
        kind,
        path,
        link: b"",
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        size: if kind == EntryKind::File { metadata.size } else { 0 },
        mtime,
        device: if is_device { device } else { (0, 0) },
        xattrs,
    }
}

fn same_directory(metadata: &Metadata, xattrs: &Xattrs, below: &MergedDirectory, path: &Path) -> LayerResult<bool> {
    let other = below.metadata().map_err(|error| in_layer(error, path))?;
    if (metadata.mode, metadata.uid, metadata.gid) != (other.mode, other.uid, other.gid) {
        return Ok(false);
    }
    let others = Node::Directory(below.clone()).xattrs().map_err(|error| in_layer(error, path))?;
    Ok(*xattrs == others)
}

/// An error of the store about a path, as a layer's one.
fn in_layer(error: Error, path: &Path) -> LayerError {
    match error {
        Error::Changed { path } => LayerError::Changed { path },
        Error::Io { action, source, .. } => LayerError::Io { action, path: path.to_owned(), source },
        other => LayerError::Io { action: "read", path: path.to_owned(), source: std::io::Error::other(other) },
    }
}
