//! From overlayfs's upper folder to an archive, as BuildKit's differ does it in effect.
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

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::{ArchiveWriter, Output, output};
use crate::error::Error;
use crate::files;
use crate::layer::{self, EntryHeader, EntryKind, InLayer, LayerError, Ownership};
use crate::tree::{MergedDirectory, MergedTree, Metadata, Node};

/// What a written layer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DiffStatistics {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
}

type LayerResult<T> = std::result::Result<T, LayerError>;
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Writes the archive of `upper`, which changes `below`.
pub(super) fn write(
    archive: &mut ArchiveWriter,
    upper: OwnedFd,
    below: &MergedTree,
    ownership: Ownership,
    latest_mtime: Option<i64>,
) -> LayerResult<DiffStatistics> {
    let mut differ = Differ {
        output: output(archive),
        ownership,
        latest_mtime,
        links: HashMap::new(),
        statistics: DiffStatistics::default(),
        buffer: vec![0; 1 << 20],
        levels: Vec::new(),
    };
    let names = differ.names(&upper, Path::new(""))?;
    // The root itself has no entry, as in BuildKit's layers.
    let root = Level { fd: upper, path: PathBuf::new(), below: Some(below.root().clone()), names, header: None };
    differ.levels.push(root);
    differ.run()?;
    let mut buffered = differ.output.finish().map_err(LayerError::Write)?;
    std::io::Write::flush(&mut buffered).map_err(LayerError::Write)?;
    Ok(differ.statistics)
}

/// A folder being walked.
struct Level {
    fd: OwnedFd,
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
    buffer: Vec<u8>,
    levels: Vec<Level>,
}

/// An entry as the walk sees it.
struct Entry<'a> {
    path: PathBuf,
    name: &'a OsStr,
    metadata: Metadata,
    xattrs: Xattrs,
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

    fn names(&self, folder: impl AsFd, path: &Path) -> LayerResult<Vec<OsString>> {
        let mut names: Vec<OsString> =
            files::list(folder).in_layer("list", || &*path)?.into_iter().map(|(name, _)| name).collect();
        names.reverse();
        Ok(names)
    }

    fn entry(&mut self, name: &OsStr) -> LayerResult<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let path = level.path.join(name);
        let stat = files::stat(&level.fd, name).in_layer("examine", || &*path)?;
        let below = match &level.below {
            Some(below) => below.child(name).map_err(|error| in_layer(error, &path))?,
            None => None,
        };
        if files::is_whiteout(&stat) {
            return if below.is_some() { self.whiteout(&path, name) } else { Ok(()) };
        }
        match files::file_type(&stat) {
            FileType::Directory => self.directory(path, name, &stat, below),
            FileType::Socket => Ok(()),
            _ => self.leaf(path, name, &stat, below),
        }
    }

    fn directory(&mut self, path: PathBuf, name: &OsStr, stat: &Stat, below: Option<Node>) -> LayerResult<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let flags = files::FOLDER | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&level.fd, name, flags, Mode::empty()).in_layer("open", || &*path)?;
        let metadata = self.metadata(&fd, stat, &path)?;
        let xattrs = layer::read_xattrs(&fd).in_layer("read attributes of", || &*path)?;
        let opaque = layer::is_opaque(&fd).in_layer("examine", || &*path)?;
        let names = self.names(&fd, &path)?;
        let unchanged = match &below {
            Some(Node::Directory(directory)) => same_directory(&metadata, &xattrs, directory, &path)?,
            _ => false,
        };
        let hides = opaque && matches!(&below, Some(Node::Directory(_)));
        let below = match below {
            Some(Node::Directory(directory)) if !opaque => Some(directory),
            _ => None,
        };
        self.levels.push(Level { fd, path: path.clone(), below, names, header: Some((metadata, xattrs)) });
        if !unchanged || hides {
            self.write_parents()?;
        }
        if hides {
            self.marker([path.as_os_str().as_bytes(), b"/", layer::OPAQUE_WHITEOUT].concat())?;
        }
        Ok(())
    }

    fn leaf(&mut self, path: PathBuf, name: &OsStr, stat: &Stat, below: Option<Node>) -> LayerResult<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let mut metadata = Metadata::of(stat);
        let is_file = metadata.file_type == FileType::RegularFile;
        let mut file = None;
        let xattrs = if is_file {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let fd = rustix::fs::openat(&level.fd, name, flags, Mode::empty()).in_layer("open", || &*path)?;
            metadata = self.metadata(&fd, stat, &path)?;
            let xattrs = layer::read_xattrs(&fd).in_layer("read attributes of", || &*path)?;
            file = Some(File::from(fd));
            xattrs
        } else {
            (metadata.uid, metadata.gid) = self.ownership.owner_of_state((metadata.uid, metadata.gid));
            let place = files::path_through(&level.fd, name);
            layer::read_xattrs_by_path(&place).in_layer("read attributes of", || &*path)?
        };
        let entry = Entry { path, name, metadata, xattrs };
        if metadata.links <= 1
            && let Some(Node::Leaf(below)) = &below
            && self.same_leaf(&entry, file.as_ref(), below)?
        {
            return Ok(());
        }
        self.write_parents()?;
        self.write_leaf(&entry, file)
    }

    fn write_leaf(&mut self, entry: &Entry<'_>, file: Option<File>) -> LayerResult<()> {
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
        let target;
        if metadata.file_type == FileType::Symlink {
            target = self.read_link(entry)?;
            header.link = &target;
        }
        self.output.header(&header).map_err(LayerError::Write)?;
        match file {
            Some(file) => self.content(file, metadata.size, &entry.path),
            None => Ok(()),
        }
    }

    fn read_link(&self, entry: &Entry<'_>) -> LayerResult<Vec<u8>> {
        let Some(level) = self.levels.last() else { return Ok(Vec::new()) };
        rustix::fs::readlinkat(&level.fd, entry.name, Vec::new())
            .map(std::ffi::CString::into_bytes)
            .in_layer("read link", || &*entry.path)
    }

    fn content(&mut self, mut file: File, size: u64, path: &Path) -> LayerResult<()> {
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            let length = file.read(&mut self.buffer[..wanted]).in_layer("read", || &*path)?;
            if length == 0 {
                return Err(LayerError::Changed { path: path.to_owned() });
            }
            self.output.data(&self.buffer[..length]).map_err(LayerError::Write)?;
            left -= length as u64;
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
    fn same_leaf(&self, entry: &Entry<'_>, file: Option<&File>, below: &crate::tree::Leaf) -> LayerResult<bool> {
        let failed = |error| in_layer(error, &entry.path);
        let (a, b) = (&entry.metadata, below.metadata().map_err(failed)?);
        let alike = (a.file_type, a.mode, a.uid, a.gid, a.rdev, a.size, a.mtime)
            == (b.file_type, b.mode, b.uid, b.gid, b.rdev, b.size, b.mtime);
        if !alike || entry.xattrs != Node::Leaf(below.clone()).xattrs().map_err(failed)? {
            return Ok(false);
        }
        match a.file_type {
            FileType::Symlink => {
                Ok(self.read_link(entry)? == below.read_link().map_err(failed)?.as_os_str().as_bytes())
            }
            FileType::RegularFile if a.mtime.1 == 0 => match file {
                Some(file) => {
                    let below = below.open().map_err(failed)?;
                    files::same_content(file, &below).in_layer("compare", || &*entry.path)
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
        Error::Io { action, source, .. } => LayerError::Io { action, path: path.to_owned(), source },
        other => LayerError::Io { action: "read", path: path.to_owned(), source: std::io::Error::other(other) },
    }
}
