//! Snapshots where overlay mounts are refused: a stack as a plain folder of its own, and the changes made to it
//! found by comparing.
//!
//! The folder is made of reflinks where the file system has them, else of copies. What a step changed is told by
//! change times, which no program can set back: a file whose inode did not change since the snapshot was complete
//! is the file below. The result is the same overlay form that a mount would have left.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::error::{At, Result};
use crate::files;
use crate::layer;
use crate::materialize;
use crate::stack::Stack;
use crate::steps::{LayerId, Upper, open_tree};
use crate::store::Store;
use crate::tree::{Leaf, MergedDirectory, MergedTree, Metadata, Node};
use crate::whiteout;

/// A stack as a folder that can be written to. Dropped without a commit, it is removed.
pub struct CopySnapshot {
    store: Store,
    upper: Upper,
    below: MergedTree,
    /// The instant after which an inode's change is the step's.
    complete: (i64, u32),
}

impl Store {
    /// A stack as a folder of its own, for a step without an overlay mount.
    pub fn copy_snapshot(&self, below: &Stack) -> Result<CopySnapshot> {
        let upper = self.new_upper(below)?;
        let tree = MergedTree::open(&below.lowers, self.ownership())?;
        let root = upper.upper();
        materialize::materialize_writable(&tree, &root, self.ownership())?;
        // The clock of the file system itself, whatever its granularity: the change time of a file made last.
        let mark = upper.work().join("complete");
        std::fs::write(&mark, b"").at("write", &mark)?;
        let stat = rustix::fs::stat(&mark).at("examine", &mark)?;
        let complete = Metadata::of(&stat).ctime;
        Ok(CopySnapshot { store: self.clone(), upper, below: tree, complete })
    }
}

impl CopySnapshot {
    /// The folder.
    pub fn root(&self) -> PathBuf {
        self.upper.upper()
    }

    /// Finds what changed and takes that over as a layer.
    pub fn commit(self) -> Result<LayerId> {
        let root = open_tree(&self.root())?;
        let reducer = Reducer { store: &self.store, complete: self.complete };
        reducer.folder(&root, self.below.root(), Path::new(""))?;
        self.upper.commit()
    }
}

/// Turns a snapshot's folder into what differs from the stack below.
struct Reducer<'a> {
    store: &'a Store,
    complete: (i64, u32),
}

impl Reducer<'_> {
    /// Reduces a folder. Gives whether anything in it differs.
    fn folder(&self, folder: &OwnedFd, below: &MergedDirectory, path: &Path) -> Result<bool> {
        let mtime = Metadata::of(&rustix::fs::fstat(folder).at("examine", path)?).mtime;
        let present = files::list(folder).at("list", path)?;
        let mut removed = Vec::new();
        for name in below.names()? {
            let is_present = present.binary_search_by(|(known, _)| known.cmp(&name)).is_ok();
            if !is_present && below.child(&name)?.is_some() {
                removed.push(name);
            }
        }
        let mut differs = !removed.is_empty();
        for (name, _) in present {
            let other = below.child(&name)?;
            differs |= self.entry(folder, &name, other.as_ref(), &path.join(&name))?;
        }
        for name in removed {
            whiteout::make(folder, &name).at("make whiteout", &path.join(&name))?;
        }
        rustix::fs::futimens(folder, &files::timestamps(mtime.0, mtime.1)).at("set time of", path)?;
        Ok(differs)
    }

    /// Removes an entry that is as below. Gives whether it stays.
    fn entry(&self, folder: &OwnedFd, name: &OsStr, other: Option<&Node>, path: &Path) -> Result<bool> {
        let stat = files::stat(folder, name).at("examine", path)?;
        let metadata = Metadata::of(&stat);
        match (metadata.is_directory(), other) {
            (true, Some(Node::Directory(below))) => {
                let flags = files::FOLDER | OFlags::NOFOLLOW;
                let child = rustix::fs::openat(folder, name, flags, Mode::empty()).at("open", path)?;
                let same = self.same_attributes(&child, &metadata, below, path)?;
                if self.folder(&child, below, path)? || !same {
                    return Ok(true);
                }
                rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR).at("remove", path)?;
                Ok(false)
            }
            (false, Some(Node::Leaf(below))) if self.same_leaf(folder, name, &metadata, below, path)? => {
                rustix::fs::unlinkat(folder, name, AtFlags::empty()).at("remove", path)?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    fn same_attributes(
        &self,
        folder: &OwnedFd,
        metadata: &Metadata,
        below: &MergedDirectory,
        path: &Path,
    ) -> Result<bool> {
        let other = below.metadata()?;
        let owner = self.store.ownership().owner(folder, (metadata.uid, metadata.gid)).at("examine", path)?;
        let xattrs = layer::read_xattrs(folder).at("read attributes of", path)?;
        let same = (metadata.mode, owner) == (other.mode, (other.uid, other.gid));
        Ok(same && xattrs == Node::Directory(below.clone()).xattrs()?)
    }

    fn same_leaf(
        &self,
        folder: &OwnedFd,
        name: &OsStr,
        metadata: &Metadata,
        below: &Leaf,
        path: &Path,
    ) -> Result<bool> {
        if metadata.ctime < self.complete {
            return Ok(true);
        }
        let other = below.state();
        let alike = |one: &Metadata| (one.file_type, one.mode, one.uid, one.gid, one.size, one.rdev, one.mtime);
        if metadata.links > other.links || alike(metadata) != alike(&other) {
            return Ok(false);
        }
        match metadata.file_type {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new()).at("read link", path)?;
                Ok(target.as_bytes() == below.read_link()?.as_os_str().as_bytes())
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(folder, name, flags, Mode::empty()).at("open", path)?;
                let xattrs = layer::read_xattrs(&file).at("read attributes of", path)?;
                let same = files::same_content(&File::from(file), &below.open()?).at("compare", path)?;
                Ok(same && xattrs == Node::Leaf(below.clone()).xattrs()?)
            }
            _ => Ok(true),
        }
    }
}
