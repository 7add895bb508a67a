//! Entries of a merged tree.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::View;
use super::filter::Matched;
use super::frozen::{
    ConfirmedReader, ContentSum, FrozenContent, FrozenDirectory, FrozenFile, FrozenLeaf, FrozenNode, Seen,
};
use crate::error::{At, Result};
use crate::files;
use crate::layer;
use crate::whiteout;

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
    /// An entry that is held in memory, outside of any tree.
    pub(crate) fn frozen(node: &FrozenNode, ownership: layer::Ownership) -> Node {
        let view = Arc::new(View { overlay: true, ownership, owner: None, filter: None });
        let path = PathBuf::new();
        match node {
            FrozenNode::Directory(directory) => {
                Node::Directory(MergedDirectory { parts: vec![Part::Frozen(Arc::clone(directory))], path, view })
            }
            FrozenNode::Leaf(leaf) => Node::Leaf(Leaf { path, place: Place::Memory(Arc::clone(leaf)), view }),
        }
    }

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
                Some(Part::Folder { fd, .. }) => layer::read_xattrs(&**fd).at("read attributes of", &directory.path),
                Some(Part::Frozen(frozen)) => Ok(frozen.xattrs.clone()),
                None => Ok(Vec::new()),
            },
            Node::Leaf(leaf) => leaf.xattrs(),
        }
    }
}

/// An entry that is not a folder.
#[derive(Clone)]
pub struct Leaf {
    path: PathBuf,
    place: Place,
    view: Arc<View>,
}

/// Where an entry is.
#[derive(Clone)]
enum Place {
    /// On disk.
    Disk(Box<DiskPlace>),
    /// In memory.
    Memory(Arc<FrozenLeaf>),
}

#[derive(Clone)]
struct DiskPlace {
    folder: Arc<OwnedFd>,
    /// The root of the layer that the folder belongs to.
    root: Arc<OwnedFd>,
    name: OsString,
    stat: Stat,
}

impl Leaf {
    /// The path inside the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The attributes, owners as the file system has them.
    pub(crate) fn state(&self) -> Metadata {
        match &self.place {
            Place::Disk(disk) => Metadata::of(&disk.stat),
            Place::Memory(leaf) => leaf.metadata,
        }
    }

    /// The attributes.
    pub fn metadata(&self) -> Result<Metadata> {
        let mut metadata = self.state();
        if let Place::Memory(_) = self.place {
            return Ok(metadata);
        }
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
        let disk = match &self.place {
            Place::Disk(disk) => disk,
            Place::Memory(leaf) => match &leaf.content {
                FrozenContent::File(file) => return file.open(),
                FrozenContent::Nothing | FrozenContent::Link(_) => return Err(Errno::INVAL).at("open", &self.path),
            },
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::openat(&*disk.folder, &disk.name, flags, Mode::empty()).at("open", &self.path)?;
        Ok(File::from(fd))
    }

    /// Opens a regular file to be read to its end, where reading fails if it was changed since the tree was seen.
    pub fn open_confirmed(&self) -> Result<ConfirmedReader> {
        Ok(ConfirmedReader::new(self.open()?, self.frozen_file().cloned()))
    }

    /// The content of a file that is held in memory by its place.
    pub(crate) fn frozen_file(&self) -> Option<&Arc<FrozenFile>> {
        match &self.place {
            Place::Memory(leaf) => match &leaf.content {
                FrozenContent::File(file) => Some(file),
                FrozenContent::Nothing | FrozenContent::Link(_) => None,
            },
            Place::Disk(_) => None,
        }
    }

    /// The content of a file by its place, with its digest and what was seen of it. Of a file that is held in memory
    /// already stays what was seen before.
    pub(crate) fn freeze(&self, sum: Option<ContentSum>, seen: Option<Seen>) -> FrozenContent {
        let file = match &self.place {
            Place::Memory(leaf) => match &leaf.content {
                FrozenContent::File(file) if file.sum.is_none() && sum.is_some() => {
                    FrozenFile { root: Arc::clone(&file.root), path: file.path.clone(), sum, seen: file.seen }
                }
                content => return content.clone(),
            },
            Place::Disk(disk) => FrozenFile { root: Arc::clone(&disk.root), path: self.path.clone(), sum, seen },
        };
        FrozenContent::File(Arc::new(file))
    }

    /// Makes sure that what was read from `file` is what the tree showed. `sum` is the digest of what was read.
    pub(crate) fn confirm(&self, file: &File, sum: impl FnOnce() -> io::Result<ContentSum>) -> Result<()> {
        self.frozen_file().map_or(Ok(()), |frozen| frozen.confirm(file, sum))
    }

    /// What a symlink names.
    pub fn read_link(&self) -> Result<PathBuf> {
        let disk = match &self.place {
            Place::Disk(disk) => disk,
            Place::Memory(leaf) => match &leaf.content {
                FrozenContent::Link(target) => return Ok(target.clone()),
                FrozenContent::Nothing | FrozenContent::File(_) => {
                    return Err(Errno::INVAL).at("read link", &self.path);
                }
            },
        };
        let target = rustix::fs::readlinkat(&*disk.folder, &disk.name, Vec::new()).at("read link", &self.path)?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Makes another name of this very file.
    pub(crate) fn link_to(&self, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
        match &self.place {
            Place::Disk(disk) => Ok(rustix::fs::linkat(&*disk.folder, &disk.name, folder, name, AtFlags::empty())?),
            // Where it lies it may belong to somebody else.
            Place::Memory(_) => Err(Errno::XDEV.into()),
        }
    }

    fn xattrs(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let disk = match &self.place {
            Place::Disk(disk) => disk,
            Place::Memory(leaf) => return Ok(leaf.xattrs.clone()),
        };
        match files::file_type(&disk.stat) {
            FileType::RegularFile => layer::read_xattrs(self.open()?).at("read attributes of", &self.path),
            _ => {
                let place = files::path_through(&*disk.folder, &disk.name);
                layer::read_xattrs_by_path(&place).at("read attributes of", &self.path)
            }
        }
    }
}

/// One layer's contribution to a folder.
#[derive(Clone)]
pub(crate) enum Part {
    /// On disk.
    Folder {
        /// The folder.
        fd: Arc<OwnedFd>,
        /// The root of the layer.
        root: Arc<OwnedFd>,
        /// Whether nobody has listed the folder through this descriptor, whose position all share.
        is_unread: Arc<AtomicBool>,
    },
    /// In memory.
    Frozen(Arc<FrozenDirectory>),
}

/// A name in a folder.
pub(crate) struct Listed {
    pub name: OsString,
    /// The topmost contributing folder that has it.
    first: usize,
    /// Whether it was listed there as a folder. What it is by now is looked at when it is opened.
    is_folder: bool,
}

impl Part {
    pub(super) fn root(fd: Arc<OwnedFd>) -> Part {
        Part::Folder { root: Arc::clone(&fd), fd, is_unread: Arc::default() }
    }

    /// The names of the folder on disk or in memory, in byte order.
    fn list(&self, index: usize) -> rustix::io::Result<Vec<Listed>> {
        let listed = |(name, kind)| Listed { name, first: index, is_folder: kind == FileType::Directory };
        Ok(match self {
            Part::Folder { fd, is_unread, .. } => match is_unread.swap(false, Ordering::Relaxed) {
                true => files::list_unread(&**fd)?.into_iter().map(listed).collect(),
                false => files::list(&**fd)?.into_iter().map(listed).collect(),
            },
            Part::Frozen(frozen) => {
                frozen.children.keys().map(|name| listed((name.clone(), FileType::Unknown))).collect()
            }
        })
    }

    fn is_opaque(&self) -> rustix::io::Result<bool> {
        match self {
            Part::Folder { fd, .. } => layer::is_opaque(&**fd),
            Part::Frozen(_) => Ok(false),
        }
    }
}

/// A folder that several layers may contribute to.
#[derive(Clone)]
pub struct MergedDirectory {
    /// The contributing folders, the topmost first. An empty tree has none.
    parts: Vec<Part>,
    path: PathBuf,
    view: Arc<View>,
}

impl MergedDirectory {
    pub(super) fn root(parts: Vec<Part>, view: View) -> MergedDirectory {
        let mut directory = MergedDirectory { parts: Vec::new(), path: PathBuf::new(), view: Arc::new(view) };
        for part in parts {
            let opaque = directory.view.overlay && part.is_opaque().unwrap_or(false);
            directory.parts.push(part);
            if opaque {
                break;
            }
        }
        directory
    }

    /// The same folder with another layer on top.
    pub(super) fn under(&self, top: Part) -> MergedDirectory {
        let mut parts = vec![top];
        parts.extend(self.parts.iter().cloned());
        MergedDirectory { parts, path: self.path.clone(), view: Arc::clone(&self.view) }
    }

    /// The path inside the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's attributes: those of the topmost layer that has it.
    pub fn metadata(&self) -> Result<Metadata> {
        let top = match self.parts.first() {
            Some(Part::Folder { fd, .. }) => fd,
            Some(Part::Frozen(frozen)) => return Ok(frozen.metadata),
            None => return Ok(EMPTY_ROOT),
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
        self.child_from(0, name, false)
    }

    /// As [`MergedDirectory::child`] of a name that was listed.
    pub(crate) fn listed_child(&self, listed: &Listed) -> Result<Option<Node>> {
        self.child_from(listed.first, &listed.name, listed.is_folder)
    }

    /// The entry of a name that the contributing folders above `first` do not have. Where it is probably a folder, no
    /// time is lost with asking.
    fn child_from(&self, first: usize, name: &OsStr, mut is_folder: bool) -> Result<Option<Node>> {
        let path = self.path.join(name);
        let mut merged: Vec<Part> = Vec::new();
        for part in self.parts.iter().skip(first) {
            let (fd, root) = match part {
                Part::Folder { fd, root, .. } => (fd, root),
                Part::Frozen(frozen) => match frozen.children.get(name) {
                    None => continue,
                    Some(FrozenNode::Directory(child)) => {
                        merged.push(Part::Frozen(Arc::clone(child)));
                        continue;
                    }
                    Some(FrozenNode::Leaf(leaf)) if merged.is_empty() => {
                        let (place, view) = (Place::Memory(Arc::clone(leaf)), Arc::clone(&self.view));
                        return Ok(self.view.shows(&path).then_some(Node::Leaf(Leaf { path, place, view })));
                    }
                    Some(FrozenNode::Leaf(_)) => break,
                },
            };
            let open = || rustix::fs::openat(&**fd, name, files::FOLDER | OFlags::NOFOLLOW, Mode::empty());
            if std::mem::take(&mut is_folder)
                && let Ok(folder) = open()
            {
                if merge(&mut merged, folder, root, &self.view).at("examine", &path)? {
                    break;
                }
                continue;
            }
            let stat = match files::stat(&**fd, name) {
                Ok(stat) => stat,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(error) => return Err(error).at("examine", &path),
            };
            if files::file_type(&stat) != FileType::Directory {
                if merged.is_empty() && !(self.view.overlay && whiteout::is_whiteout(&**fd, name, &stat)) {
                    if !self.view.shows(&path) {
                        return Ok(None);
                    }
                    let (folder, root) = (Arc::clone(fd), Arc::clone(root));
                    let place = Place::Disk(Box::new(DiskPlace { folder, root, name: name.to_owned(), stat }));
                    return Ok(Some(Node::Leaf(Leaf { path, place, view: Arc::clone(&self.view) })));
                }
                break;
            }
            let folder = open().at("open", &path)?;
            if merge(&mut merged, folder, root, &self.view).at("examine", &path)? {
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
        Ok(self.listed()?.into_iter().map(|listed| listed.name).collect())
    }

    /// As [`MergedDirectory::names`], with where each was found.
    pub(crate) fn listed(&self) -> Result<Vec<Listed>> {
        let mut names: Vec<Listed> = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            let listed = part.list(index).at("list", &self.path)?;
            if index == 0 { names = listed } else { names.extend(listed) }
        }
        if self.parts.len() > 1 {
            names.sort_unstable_by(|a, b| (&a.name, a.first).cmp(&(&b.name, b.first)));
            names.dedup_by(|later, earlier| later.name == earlier.name);
        }
        Ok(names)
    }

    /// Whether any contributing folder removes a name from the ones below it.
    pub(crate) fn has_whiteout(&self, name: &OsStr) -> Result<bool> {
        for part in &self.parts {
            let Part::Folder { fd, .. } = part else { continue };
            match files::stat(&**fd, name) {
                Ok(stat) if self.view.overlay && whiteout::is_whiteout(&**fd, name, &stat) => return Ok(true),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error).at("examine", &self.path.join(name)),
            }
        }
        Ok(false)
    }

    /// Whether the lowest contributing folder hides what would be below it.
    pub(crate) fn is_opaque(&self) -> Result<bool> {
        match self.parts.last() {
            Some(lowest) if self.view.overlay => lowest.is_opaque().at("examine", &self.path),
            _ => Ok(false),
        }
    }

    /// Whether nothing in the folder is to be seen.
    pub fn is_empty(&self) -> Result<bool> {
        for listed in self.listed()? {
            if self.listed_child(&listed)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
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

/// Adds a folder below those that contribute already. Gives whether it hides what is below.
fn merge(merged: &mut Vec<Part>, folder: OwnedFd, root: &Arc<OwnedFd>, view: &View) -> io::Result<bool> {
    let is_opaque = view.overlay && layer::is_opaque(&folder)?;
    let is_unread = Arc::new(AtomicBool::new(true));
    merged.push(Part::Folder { fd: Arc::new(folder), root: Arc::clone(root), is_unread });
    Ok(is_opaque)
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
