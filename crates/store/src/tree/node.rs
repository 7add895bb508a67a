//! Entries of a merged tree.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::View;
use super::filter::Matched;
use crate::error::{At, Result};
use crate::files;
use crate::layer;

/// Attributes of an entry, owners as the image has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The type of file.
    pub file_type: FileType,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Bytes of content.
    pub size: u64,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// A device's number.
    pub rdev: u64,
    /// Device and inode of the file that really holds it: equal for hard links of one layer.
    pub inode: (u64, u64),
    /// Names that the inode has.
    pub links: u64,
    /// Change time of the inode, for caches: seconds and nanoseconds.
    pub ctime: (i64, u32),
}

impl Metadata {
    /// The attributes of a state, owners as the file system has them.
    #[allow(clippy::unnecessary_cast, reason = "the fields have other widths on other architectures")]
    pub(crate) fn of(stat: &Stat) -> Metadata {
        Metadata {
            file_type: files::file_type(stat),
            mode: files::permissions(stat),
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime as i64, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            rdev: stat.st_rdev as u64,
            inode: (stat.st_dev as u64, stat.st_ino as u64),
            links: stat.st_nlink as u64,
            ctime: (stat.st_ctime as i64, u32::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        }
    }

    /// Whether it is a folder.
    pub fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }
}

/// An entry: a folder, or anything else.
#[derive(Clone)]
pub enum Node {
    /// A folder with what the layers below add to it.
    Directory(MergedDirectory),
    /// A file, link, pipe, socket or device.
    Leaf(Leaf),
}

impl Node {
    /// The entry's attributes.
    pub fn metadata(&self) -> Result<Metadata> {
        match self {
            Node::Directory(directory) => directory.metadata(),
            Node::Leaf(leaf) => leaf.metadata(),
        }
    }

    /// The folder, where it is one.
    pub fn as_directory(&self) -> Option<&MergedDirectory> {
        match self {
            Node::Directory(directory) => Some(directory),
            Node::Leaf(_) => None,
        }
    }

    /// Extended attributes that belong to the image, sorted by name.
    pub fn xattrs(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match self {
            Node::Directory(directory) => match directory.parts.first() {
                Some(top) => layer::read_xattrs(&**top).at("read attributes of", &directory.path),
                None => Ok(Vec::new()),
            },
            Node::Leaf(leaf) => leaf.xattrs(),
        }
    }
}

/// An entry that is not a folder.
#[derive(Clone)]
pub struct Leaf {
    folder: Arc<OwnedFd>,
    name: OsString,
    path: PathBuf,
    stat: Box<Stat>,
    view: Arc<View>,
}

impl Leaf {
    /// The path inside the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn stat(&self) -> &Stat {
        &self.stat
    }

    /// The attributes.
    pub fn metadata(&self) -> Result<Metadata> {
        let mut metadata = Metadata::of(&self.stat);
        (metadata.uid, metadata.gid) = match self.view.owner {
            Some(owner) => owner,
            None if metadata.file_type == FileType::RegularFile && self.view.ownership.is_recorded() => {
                let file = self.open()?;
                self.view.ownership.owner(&file, (metadata.uid, metadata.gid)).at("read owner of", &self.path)?
            }
            None => self.view.ownership.owner_of_state((metadata.uid, metadata.gid)),
        };
        Ok(metadata)
    }

    /// Opens a regular file for reading.
    pub fn open(&self) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::openat(&*self.folder, &self.name, flags, Mode::empty()).at("open", &self.path)?;
        Ok(File::from(fd))
    }

    /// What a symlink names.
    pub fn read_link(&self) -> Result<PathBuf> {
        let target = rustix::fs::readlinkat(&*self.folder, &self.name, Vec::new()).at("read link", &self.path)?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Makes another name of this very file.
    pub(crate) fn link_to(&self, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::linkat(&*self.folder, &self.name, folder, name, AtFlags::empty())?)
    }

    fn xattrs(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match files::file_type(&self.stat) {
            FileType::RegularFile => layer::read_xattrs(self.open()?).at("read attributes of", &self.path),
            _ => {
                let place = files::path_through(&*self.folder, &self.name);
                layer::read_xattrs_by_path(&place).at("read attributes of", &self.path)
            }
        }
    }
}

/// A folder that several layers may contribute to.
#[derive(Clone)]
pub struct MergedDirectory {
    /// The contributing folders, the topmost first. An empty tree has none.
    parts: Vec<Arc<OwnedFd>>,
    path: PathBuf,
    view: Arc<View>,
}

impl MergedDirectory {
    pub(super) fn root(parts: Vec<Arc<OwnedFd>>, view: View) -> MergedDirectory {
        let mut directory = MergedDirectory { parts: Vec::new(), path: PathBuf::new(), view: Arc::new(view) };
        for part in parts {
            let opaque = directory.view.overlay && layer::is_opaque(&*part).unwrap_or(false);
            directory.parts.push(part);
            if opaque {
                break;
            }
        }
        directory
    }

    /// The path inside the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's attributes: those of the topmost layer that has it.
    pub fn metadata(&self) -> Result<Metadata> {
        let Some(top) = self.parts.first() else {
            return Ok(EMPTY_ROOT);
        };
        let stat = rustix::fs::fstat(&**top).at("examine", &self.path)?;
        let mut metadata = Metadata::of(&stat);
        (metadata.uid, metadata.gid) = match self.view.owner {
            Some(owner) => owner,
            None => self.view.ownership.owner(&**top, (metadata.uid, metadata.gid)).at("read owner of", &self.path)?,
        };
        Ok(metadata)
    }

    /// The entry of a name, or `None`.
    pub fn child(&self, name: &OsStr) -> Result<Option<Node>> {
        self.child_from(0, name)
    }

    /// As [`MergedDirectory::child`] where the topmost contributing folders are known not to have the name.
    pub(super) fn child_from(&self, first: usize, name: &OsStr) -> Result<Option<Node>> {
        let path = self.path.join(name);
        let mut merged: Vec<Arc<OwnedFd>> = Vec::new();
        for part in self.parts.iter().skip(first) {
            let stat = match files::stat(&**part, name) {
                Ok(stat) => stat,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(error) => return Err(error).at("examine", &path),
            };
            if files::file_type(&stat) != FileType::Directory {
                if merged.is_empty() && !(self.view.overlay && files::is_whiteout(&stat)) {
                    let leaf = self.leaf(part, name, path, stat);
                    return Ok(self.view.shows(&leaf.path).then_some(Node::Leaf(leaf)));
                }
                break;
            }
            let folder =
                rustix::fs::openat(&**part, name, files::FOLDER | OFlags::NOFOLLOW, Mode::empty()).at("open", &path)?;
            let opaque = self.view.overlay && layer::is_opaque(&folder).at("examine", &path)?;
            merged.push(Arc::new(folder));
            if opaque {
                break;
            }
        }
        if merged.is_empty() {
            return Ok(None);
        }
        let directory = MergedDirectory { parts: merged, path, view: Arc::clone(&self.view) };
        Ok(directory.is_shown()?.then_some(Node::Directory(directory)))
    }

    /// The names in byte order. A name that a whiteout or a filter hides may be among them; it has no child.
    pub fn names(&self) -> Result<Vec<OsString>> {
        Ok(self.names_with_first()?.into_iter().map(|(name, _)| name).collect())
    }

    /// The names in byte order, each with the first contributing folder that has it.
    pub(super) fn names_with_first(&self) -> Result<Vec<(OsString, usize)>> {
        let mut names: Vec<(OsString, usize)> = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            names.extend(files::list(&**part).at("list", &self.path)?.into_iter().map(|(name, _)| (name, index)));
        }
        if self.parts.len() > 1 {
            names.sort_unstable();
            names.dedup_by(|later, earlier| later.0 == earlier.0);
        }
        Ok(names)
    }

    /// Whether any contributing folder removes a name from the ones below it.
    pub(crate) fn has_whiteout(&self, name: &OsStr) -> Result<bool> {
        for part in &self.parts {
            match files::stat(&**part, name) {
                Ok(stat) if self.view.overlay && files::is_whiteout(&stat) => return Ok(true),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error).at("examine", &self.path.join(name)),
            }
        }
        Ok(false)
    }

    /// Whether the lowest contributing folder hides what would be below it.
    pub(crate) fn is_opaque(&self) -> Result<bool> {
        match self.parts.last() {
            Some(lowest) if self.view.overlay => layer::is_opaque(&**lowest).at("examine", &self.path),
            _ => Ok(false),
        }
    }

    /// Whether nothing in the folder is to be seen.
    pub fn is_empty(&self) -> Result<bool> {
        for (name, first) in self.names_with_first()? {
            if self.child_from(first, &name)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn leaf(&self, part: &Arc<OwnedFd>, name: &OsStr, path: PathBuf, stat: Stat) -> Leaf {
        let (folder, view) = (Arc::clone(part), Arc::clone(&self.view));
        Leaf { folder, name: name.to_owned(), path, stat: Box::new(stat), view }
    }

    /// Whether the filter lets the folder through, for its own sake or for something below it.
    fn is_shown(&self) -> Result<bool> {
        let Some(filter) = &self.view.filter else { return Ok(true) };
        match filter.matched(&self.path, true) {
            Matched::Included => Ok(true),
            Matched::Excluded => Ok(false),
            Matched::Descend => Ok(!self.is_empty()?),
        }
    }
}

impl View {
    fn shows(&self, path: &Path) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matched(path, false) == Matched::Included)
    }
}

/// The root of a tree that has no layer.
const EMPTY_ROOT: Metadata = Metadata {
    file_type: FileType::Directory,
    mode: 0o755,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: (0, 0),
    rdev: 0,
    inode: (0, 0),
    links: 1,
    ctime: (0, 0),
};
