//! The workspace's folder: an upper folder that is written without a mount.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::MakeFile;
use super::error::{CopyError, Result};
use crate::error::{At, Error};
use crate::files;
use crate::layer::{self, Ownership};
use crate::stack::Stack;
use crate::steps::{LayerId, Upper, open_tree};
use crate::store::Store;
use crate::tree::{MergedDirectory, MergedTree, Metadata, Node};
use crate::whiteout;

/// Changes on top of a stack. Dropped without a commit, it leaves nothing behind.
pub struct Workspace {
    store: Store,
    upper: Upper,
    root: Arc<OwnedFd>,
    below: MergedTree,
    merged: MergedTree,
    now: (i64, u32),
    /// The modification times that folders of the upper folder are to have, whatever is put into them.
    times: BTreeMap<PathBuf, (i64, u32)>,
}

/// A folder of the workspace, present in the upper folder.
#[derive(Clone)]
pub(super) struct Place {
    pub fd: Arc<OwnedFd>,
    /// Relative to the root, without symlinks.
    pub path: PathBuf,
    /// What shows through from below.
    pub below: Option<MergedDirectory>,
    /// Whether this workspace made it empty, so that a name is only there if it was put there since.
    pub fresh: bool,
}

/// What stands at a name of the workspace.
pub(super) enum Existing {
    /// Nothing.
    Nothing,
    /// Something in the upper folder or below it.
    Something(Metadata),
}

/// How a new folder looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewDirectory {
    pub mode: u32,
    pub owner: Option<(u32, u32)>,
    pub mtime: Option<(i64, u32)>,
}

impl Store {
    /// A workspace on top of `below`.
    pub fn workspace(&self, below: &Stack) -> crate::error::Result<Workspace> {
        let upper = self.new_upper(below)?;
        let root = Arc::new(open_tree(&upper.upper())?);
        let lower = MergedTree::open(&below.lowers, self.ownership())?;
        let mut folders = vec![upper.upper()];
        folders.extend(below.lowers.iter().cloned());
        let merged = MergedTree::open(&folders, self.ownership())?;
        let now = files::instant();
        let times = BTreeMap::from([(PathBuf::new(), lower.root_metadata()?.mtime)]);
        Ok(Workspace { store: self.clone(), upper, root, below: lower, merged, now, times })
    }
}

impl Workspace {
    /// The tree as it is with all changes so far.
    pub fn tree(&self) -> &MergedTree {
        &self.merged
    }

    /// Takes the changes over as a layer.
    pub fn commit(self) -> Result<LayerId> {
        for (path, mtime) in self.times.iter().rev() {
            let folder = match files::open_in_root(&*self.root, path, files::FOLDER | OFlags::NOFOLLOW) {
                Ok(folder) => folder,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(error).at("open", path).map_err(CopyError::Store),
            };
            rustix::fs::futimens(&folder, &files::timestamps(mtime.0, mtime.1)).at("set time of", path)?;
        }
        Ok(self.upper.commit()?)
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn ownership(&self) -> Ownership {
        self.store.ownership()
    }

    /// One instant for everything that this workspace makes without a time of its own.
    pub(super) fn now(&self) -> (i64, u32) {
        self.now
    }

    pub(super) fn root(&self) -> Place {
        let below = Some(self.below.root().clone());
        Place { fd: Arc::clone(&self.root), path: PathBuf::new(), below, fresh: false }
    }

    /// The folder at a path without symlinks, brought into the upper folder.
    pub(super) fn existing(&mut self, path: &Path) -> Result<Place> {
        let mut place = self.root();
        for component in path.components() {
            place = self.enter(&place, component.as_os_str())?;
        }
        Ok(place)
    }

    /// A folder that is there, brought into the upper folder with its attributes.
    pub(super) fn enter(&mut self, place: &Place, name: &OsStr) -> Result<Place> {
        let path = place.path.join(name);
        match files::stat(&*place.fd, name) {
            Ok(stat) if files::file_type(&stat) == FileType::Directory => {
                let fd = open_child(place, name).at("open", &path)?;
                let below = match layer::is_opaque(&fd).at("examine", &path)? {
                    true => None,
                    false => self.directory_below(place, name)?,
                };
                self.times.entry(path.clone()).or_insert(Metadata::of(&stat).mtime);
                Ok(Place { fd: Arc::new(fd), path, below, fresh: false })
            }
            Ok(stat) if whiteout::is_whiteout(&*place.fd, name, &stat) => Err(CopyError::NotFound { path }),
            Ok(_) => Err(CopyError::NotADirectory { path }),
            Err(Errno::NOENT) => match self.node_below(place, name)? {
                Some(Node::Directory(directory)) => self.take_over(place, name, directory),
                Some(Node::Leaf(_)) => Err(CopyError::NotADirectory { path }),
                None => Err(CopyError::NotFound { path }),
            },
            Err(error) => Err(Error::Io { action: "examine", path, source: error.into() }.into()),
        }
    }

    /// Makes a folder of the layers below appear in the upper folder, attributes and all.
    fn take_over(&mut self, place: &Place, name: &OsStr, below: MergedDirectory) -> Result<Place> {
        let path = place.path.join(name);
        let metadata = below.metadata()?;
        rustix::fs::mkdirat(&*place.fd, name, Mode::from_raw_mode(0o700)).at("make folder", &path)?;
        let fd = open_child(place, name).at("open", &path)?;
        self.ownership().set(&fd, metadata.uid, metadata.gid, true).at("set owner of", &path)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(metadata.mode)).at("set mode of", &path)?;
        let xattrs = Node::Directory(below.clone()).xattrs()?;
        layer::set_xattrs(&fd, &xattrs).at("set attributes of", &path)?;
        self.times.insert(path.clone(), metadata.mtime);
        Ok(Place { fd: Arc::new(fd), path, below: Some(below), fresh: false })
    }

    /// What stands at a name, links not followed.
    pub(super) fn examine(&self, place: &Place, name: &OsStr) -> Result<Existing> {
        let path = place.path.join(name);
        match files::stat(&*place.fd, name) {
            Ok(stat) if whiteout::is_whiteout(&*place.fd, name, &stat) => Ok(Existing::Nothing),
            Ok(stat) => Ok(Existing::Something(Metadata::of(&stat))),
            Err(Errno::NOENT) => match self.node_below(place, name)? {
                Some(node) => Ok(Existing::Something(node.metadata()?)),
                None => Ok(Existing::Nothing),
            },
            Err(error) => Err(Error::Io { action: "examine", path, source: error.into() }.into()),
        }
    }

    fn node_below(&self, place: &Place, name: &OsStr) -> Result<Option<Node>> {
        match &place.below {
            Some(below) => Ok(below.child(name)?),
            None => Ok(None),
        }
    }

    fn directory_below(&self, place: &Place, name: &OsStr) -> Result<Option<MergedDirectory>> {
        Ok(self.node_below(place, name)?.and_then(|node| node.as_directory().cloned()))
    }

    /// Makes a folder where none is. What the layers below had under the name stays hidden.
    pub(super) fn make_folder(&mut self, place: &Place, name: &OsStr, new: &NewDirectory) -> Result<Place> {
        let made = self.make_bare_folder(place, name)?;
        let (uid, gid) = new.owner.unwrap_or((0, 0));
        self.ownership().set(&*made.fd, uid, gid, true).at("set owner of", &made.path)?;
        rustix::fs::fchmod(&*made.fd, Mode::from_raw_mode(new.mode)).at("set mode of", &made.path)?;
        self.times.insert(made.path.clone(), new.mtime.unwrap_or(self.now));
        Ok(made)
    }

    /// As [`Workspace::make_folder`], its attributes left for later.
    pub(super) fn make_bare_folder(&mut self, place: &Place, name: &OsStr) -> Result<Place> {
        let path = place.path.join(name);
        let mut hides = false;
        match rustix::fs::mkdirat(&*place.fd, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // Only a whiteout can stand here: whatever is visible was removed before.
                rustix::fs::unlinkat(&*place.fd, name, AtFlags::empty()).at("replace", &path)?;
                rustix::fs::mkdirat(&*place.fd, name, Mode::from_raw_mode(0o700)).at("make folder", &path)?;
                hides = true;
            }
            Err(error) => return Err(Error::Io { action: "make folder", path, source: error.into() }.into()),
        }
        let fd = open_child(place, name).at("open", &path)?;
        if hides {
            whiteout::make_opaque(&fd).at("mark as opaque", &path)?;
        }
        Ok(Place { fd: Arc::new(fd), path, below: None, fresh: true })
    }

    /// Makes a folder and its parents where they are absent. The path has no symlinks.
    pub(super) fn make_all(&mut self, path: &Path, new: &NewDirectory) -> Result<()> {
        self.folder(path, new).map(drop)
    }

    /// As [`Workspace::make_all`], giving the folder.
    pub(super) fn folder(&mut self, path: &Path, new: &NewDirectory) -> Result<Place> {
        let mut place = self.root();
        for component in path.components() {
            let name = component.as_os_str();
            place = match self.examine(&place, name)? {
                Existing::Nothing => self.make_folder(&place, name, new)?,
                Existing::Something(_) => self.enter(&place, name)?,
            };
        }
        Ok(place)
    }

    /// Makes room for a new leaf: removes what the upper folder has under the name, a whiteout too.
    pub(super) fn clear(&mut self, place: &Place, name: &OsStr) -> Result<()> {
        if place.fresh && place.below.is_none() {
            match rustix::fs::unlinkat(&*place.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(_) => {}
            }
        }
        let path = place.path.join(name);
        files::remove_tree(&*place.fd, name).at("replace", &path)?;
        self.forget(&path);
        Ok(())
    }

    /// Removes what is to be seen under a name.
    pub(super) fn remove_entry(&mut self, place: &Place, name: &OsStr) -> Result<()> {
        self.clear(place, name)?;
        if self.node_below(place, name)?.is_some() {
            whiteout::make(&*place.fd, name).at("make whiteout", &place.path.join(name))?;
        }
        Ok(())
    }

    fn forget(&mut self, path: &Path) {
        if self.times.range(path.to_owned()..).next().is_some_and(|(known, _)| known.starts_with(path)) {
            self.times.retain(|known, _| !known.starts_with(path));
        }
    }

    /// Sets the time that a folder gets in the end.
    pub(super) fn set_time(&mut self, path: &Path, mtime: (i64, u32)) {
        self.times.insert(path.to_owned(), mtime);
    }

    pub(super) fn write_file(&mut self, place: &Place, name: &OsStr, content: &[u8], options: &MakeFile) -> Result<()> {
        let path = place.path.join(name);
        let mut file = create_file(place, name).at("create file", &path)?;
        file.write_all(content).at("write", &path)?;
        let (uid, gid) = options.owner.unwrap_or((0, 0));
        self.ownership().set(&file, uid, gid, true).at("set owner of", &path)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(options.mode & 0o777)).at("set mode of", &path)?;
        let (seconds, nanoseconds) = options.mtime.unwrap_or(self.now);
        Ok(rustix::fs::futimens(&file, &files::timestamps(seconds, nanoseconds)).at("set time of", &path)?)
    }

    pub(super) fn write_symlink(
        &mut self,
        place: &Place,
        name: &OsStr,
        target: &Path,
        owner: (u32, u32),
        mtime: (i64, u32),
    ) -> Result<()> {
        let path = place.path.join(name);
        rustix::fs::symlinkat(target, &*place.fd, name).at("make symbolic link", &path)?;
        self.ownership().set_at(&*place.fd, name, owner.0, owner.1).at("set owner of", &path)?;
        let times = files::timestamps(mtime.0, mtime.1);
        Ok(rustix::fs::utimensat(&*place.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW).at("set time of", &path)?)
    }
}

/// Creates a file where none is.
pub(super) fn create_file(place: &Place, name: &OsStr) -> rustix::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&*place.fd, name, flags, Mode::from_raw_mode(0o600)).map(File::from)
}

fn open_child(place: &Place, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(&*place.fd, name, files::FOLDER | OFlags::NOFOLLOW, Mode::empty())
}

/// A path's folder and last name.
pub(super) fn split(path: &Path) -> Result<(PathBuf, OsString)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent.to_owned(), name.to_owned())),
        _ => Err(CopyError::IsADirectory { path: path.to_owned() }),
    }
}
