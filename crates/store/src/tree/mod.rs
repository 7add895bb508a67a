//! Reading a stack of layers as one tree, without mounting it.
//!
//! A [`MergedTree`] sees what an overlay mount of the same folders would show: the topmost entry of a name wins,
//! folders merge, whiteouts and opaque folders hide what is below. Everything goes through folder descriptors;
//! symlinks are resolved inside the tree, as if its root were `/`.

mod filter;
mod frozen;
mod node;
mod resolve;
mod walk;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{At, Result};
use crate::files;
use crate::layer::Ownership;

pub use filter::{Matched, PathFilter};
pub(crate) use frozen::sum_of_context;
pub use frozen::{ConfirmedReader, ContentSum};
pub(crate) use frozen::{FrozenContent, FrozenDirectory, FrozenFile, FrozenLeaf, FrozenNode, Seen, Xattrs};
pub use node::{Leaf, MergedDirectory, Metadata, Node};
pub(crate) use node::{Listed, Part};
pub use resolve::Resolved;
pub use walk::{Walk, WalkEntry};

/// How entries of a tree are read.
#[derive(Clone)]
pub(crate) struct View {
    /// Whether whiteouts and opaque marks have their meaning; a plain folder has none.
    pub overlay: bool,
    /// How owners are read.
    pub ownership: Ownership,
    /// The owner that every entry has, whatever the file system says.
    pub owner: Option<(u32, u32)>,
    /// What is to be seen.
    pub filter: Option<Arc<dyn PathFilter>>,
}

/// Folders read as one tree.
#[derive(Clone)]
pub struct MergedTree {
    root: MergedDirectory,
}

impl MergedTree {
    /// The tree of a stack's folders, the topmost first. None at all is an empty tree.
    pub fn open(lowers: &[PathBuf], ownership: Ownership) -> Result<MergedTree> {
        let view = View { overlay: true, ownership, owner: None, filter: None };
        let mut parts = Vec::with_capacity(lowers.len());
        for lower in lowers {
            parts.push(Part::root(Arc::new(files::open_folder(lower).at("open", lower)?)));
        }
        Ok(MergedTree { root: MergedDirectory::root(parts, view) })
    }

    /// A plain folder, such as a build context: nothing in it has an overlay's meaning, all of it belongs to
    /// `owner` where that is given, and only what `filter` lets through is there.
    pub fn plain(folder: &Path, owner: Option<(u32, u32)>, filter: Option<Arc<dyn PathFilter>>) -> Result<MergedTree> {
        let fd = files::open_folder(folder).at("open", folder)?;
        Ok(MergedTree::plain_fd(fd, owner, filter))
    }

    /// As [`MergedTree::plain`] from an open folder.
    pub fn plain_fd(folder: OwnedFd, owner: Option<(u32, u32)>, filter: Option<Arc<dyn PathFilter>>) -> MergedTree {
        // Whose files these are is said by the file system; records of the store mean nothing outside it.
        let view = View { overlay: false, ownership: Ownership::of_this_process().without_records(), owner, filter };
        MergedTree { root: MergedDirectory::root(vec![Part::root(Arc::new(folder))], view) }
    }

    /// A folder that the store unpacked without overlay marks.
    pub(crate) fn unpacked(folder: &Path, ownership: Ownership) -> Result<MergedTree> {
        let fd = files::open_folder(folder).at("open", folder)?;
        let view = View { overlay: false, ownership, owner: None, filter: None };
        Ok(MergedTree { root: MergedDirectory::root(vec![Part::root(Arc::new(fd))], view) })
    }

    /// The tree of one layer that is held in memory.
    pub(crate) fn frozen(root: Arc<FrozenDirectory>, ownership: Ownership) -> MergedTree {
        let view = View { overlay: true, ownership, owner: None, filter: None };
        MergedTree { root: MergedDirectory::root(vec![Part::Frozen(root)], view) }
    }

    /// The tree with another layer on top, which is held in memory.
    pub(crate) fn under_frozen(&self, top: Arc<FrozenDirectory>) -> MergedTree {
        MergedTree { root: self.root.under(Part::Frozen(top)) }
    }

    /// The tree with another layer on top, the folder of a step's result.
    pub(crate) fn under_folder(&self, top: &Path) -> Result<MergedTree> {
        let fd = Arc::new(files::open_folder(top).at("open", top)?);
        Ok(MergedTree { root: self.root.under(Part::root(fd)) })
    }

    /// The root folder.
    pub fn root(&self) -> &MergedDirectory {
        &self.root
    }

    /// The root folder's attributes.
    pub fn root_metadata(&self) -> Result<Metadata> {
        self.root.metadata()
    }

    /// What stands at `path` itself: a symlink in the last place is not followed, those before it are.
    pub fn lookup(&self, path: &Path) -> Result<Option<Node>> {
        Ok(self.resolve(path, false)?.node)
    }

    /// What `path` means with all symlinks followed.
    pub fn lookup_following(&self, path: &Path) -> Result<Option<Node>> {
        Ok(self.resolve(path, true)?.node)
    }

    /// Resolves a path inside the tree. See [`Resolved`].
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<Resolved> {
        resolve::resolve(&self.root, path, follow_last)
    }

    /// Everything below `path` (which is not followed in its last place) in the order of layers: a folder before
    /// what is in it, names in byte order. The entry at `path` itself comes first, with an empty relative path.
    pub fn walk(&self, path: &Path) -> Result<Walk> {
        walk::walk(self.lookup(path)?)
    }
}
