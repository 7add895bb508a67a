//! Changing a stack without mounting it: what COPY, ADD, WORKDIR and their kin do.
//!
//! A [`Workspace`] writes straight into the upper folder of a new layer, in overlay form: folders of the layers
//! below are taken over with their attributes before something is put into them, removals become whiteouts. The
//! semantics are those of BuildKit's file operations. Symlinks are resolved inside the tree they are met in.

mod copier;
mod deferred;
mod error;
mod place;
mod unpack;
mod wildcard;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

pub use deferred::DeferredCopy;
pub use error::CopyError;
pub use place::Workspace;
pub(crate) use wildcard::resolve as resolve_wildcards;

use crate::checksum::Captured;
use crate::tree::{MergedTree, Node, PathFilter};
use error::Result;
use place::NewDirectory;

/// A change of permission bits: from the source's bits and whether it is a folder to the copy's bits.
pub type ModeChange = Arc<dyn Fn(u32, bool) -> u32 + Send + Sync>;

/// How a folder is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct MakeDirectory {
    /// Permission bits.
    pub mode: u32,
    /// Whether absent parents are made alike; else an existing folder is success and an absent parent an error.
    pub parents: bool,
    /// The owner; root where absent.
    pub owner: Option<(u32, u32)>,
    /// The modification time in seconds and nanoseconds; now where absent.
    pub mtime: Option<(i64, u32)>,
}

/// How a file is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct MakeFile {
    /// Permission bits.
    pub mode: u32,
    /// The owner; root where absent.
    pub owner: Option<(u32, u32)>,
    /// The modification time in seconds and nanoseconds; now where absent.
    pub mtime: Option<(i64, u32)>,
}

/// How something is removed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Remove {
    /// Whether the path is a pattern.
    pub wildcard: bool,
    /// Whether absence is success.
    pub allow_not_found: bool,
}

/// What is copied where. The defaults copy one path as it is.
#[derive(Clone, Default)]
pub struct CopyRequest {
    /// The path in the source tree. A trailing `/` or `/.` counts.
    pub source: PathBuf,
    /// The path in the workspace. A trailing `/` or `/.` counts: then it is a folder.
    pub destination: PathBuf,
    /// Whether the source is a pattern as Go's `filepath.Match` has it.
    pub wildcard: bool,
    /// Whether a pattern that matches nothing is success.
    pub allow_empty_wildcard: bool,
    /// Whether a source that is a symlink is followed.
    pub follow_symlinks: bool,
    /// Whether a folder's content is copied instead of the folder.
    pub copy_directory_contents: bool,
    /// Whether absent folders of the destination are made.
    pub create_destination: bool,
    /// Whether archives are unpacked instead of copied, as ADD does.
    pub unpack_archives: bool,
    /// Whether what is in the way of something of another type is removed.
    pub replace_existing: bool,
    /// The owner of everything copied; that of the source where absent.
    pub owner: Option<(u32, u32)>,
    /// The permission bits of everything copied; those of the source where absent.
    pub mode: Option<ModeChange>,
    /// The permission bits of folders made on the way to the destination; 0755 where absent.
    pub parent_mode: Option<u32>,
    /// The modification time of everything copied; that of the source where absent.
    pub mtime: Option<(i64, u32)>,
    /// What is copied, by paths relative to each source.
    pub filter: Option<Arc<dyn PathFilter>>,
}

impl Workspace {
    /// Makes a folder.
    pub fn make_directory(&mut self, path: &Path, options: &MakeDirectory) -> Result<()> {
        let resolved = self.tree().resolve(path, true)?;
        let new = NewDirectory { mode: options.mode & 0o777, owner: options.owner, mtime: options.mtime };
        if options.parents {
            return self.make_all(&resolved.path, &new);
        }
        if resolved.node.is_some() {
            return Ok(());
        }
        let (parent, name) = place::split(&resolved.path)?;
        let place = self.existing(&parent)?;
        self.make_folder(&place, &name, &new).map(drop)
    }

    /// Makes a file, or replaces the content of one that is there. Its folder must be there.
    pub fn make_file(&mut self, path: &Path, content: &[u8], options: &MakeFile) -> Result<()> {
        let resolved = self.tree().resolve(path, true)?;
        if resolved.node.as_ref().is_some_and(|node| node.as_directory().is_some()) {
            return Err(CopyError::IsADirectory { path: resolved.path });
        }
        let (parent, name) = place::split(&resolved.path)?;
        let place = self.existing(&parent)?;
        self.clear(&place, &name)?;
        self.write_file(&place, &name, content, options)
    }

    /// Makes a symlink at `path` that names `target`. Its folder must be there, nothing may stand in its place.
    pub fn make_symlink(
        &mut self,
        target: &Path,
        path: &Path,
        owner: Option<(u32, u32)>,
        mtime: Option<(i64, u32)>,
    ) -> Result<()> {
        let resolved = self.tree().resolve(path, false)?;
        if resolved.node.is_some() {
            return Err(CopyError::Exists { path: resolved.path });
        }
        let (parent, name) = place::split(&resolved.path)?;
        let place = self.existing(&parent)?;
        self.clear(&place, &name)?;
        self.write_symlink(&place, &name, target, owner.unwrap_or((0, 0)), mtime.unwrap_or(self.now()))
    }

    /// Removes a path and all below it.
    pub fn remove(&mut self, path: &Path, options: &Remove) -> Result<()> {
        let paths = match options.wildcard {
            true => wildcard::resolve(self.tree(), path, false)?,
            false => vec![path.to_owned()],
        };
        for path in paths {
            self.remove_one(&path, options.allow_not_found)?;
        }
        Ok(())
    }

    fn remove_one(&mut self, path: &Path, allow_not_found: bool) -> Result<()> {
        let resolved = self.tree().resolve(path, false)?;
        if resolved.path.as_os_str().is_empty() {
            return Err(CopyError::InvalidPath { path: path.to_owned(), reason: "the root cannot be removed" });
        }
        if resolved.node.is_none() {
            return match allow_not_found {
                true => Ok(()),
                false => Err(CopyError::NotFound { path: path.to_owned() }),
            };
        }
        let (parent, name) = place::split(&resolved.path)?;
        let place = self.existing(&parent)?;
        self.remove_entry(&place, &name)
    }

    /// Copies from another tree.
    ///
    /// # Errors
    /// [`CopyError::NotFound`] where the source, or a match of the pattern, is absent.
    pub fn copy(&mut self, source: &MergedTree, request: &CopyRequest) -> Result<()> {
        let destination = self.destination(request)?;
        let sources = match request.wildcard {
            true => wildcard::resolve(source, &request.source, request.follow_symlinks)?,
            false => vec![request.source.clone()],
        };
        if sources.is_empty() {
            return match request.allow_empty_wildcard {
                true => Ok(()),
                false => Err(CopyError::NotFound { path: request.source.clone() }),
            };
        }
        for path in sources {
            if request.unpack_archives && self.unpack_archive(source, &path, &destination, request)? {
                continue;
            }
            copier::copy(self, source, &path, &destination, request)?;
        }
        Ok(())
    }

    /// Copies what was captured of another tree by the request's own selection. Archives are not unpacked.
    ///
    /// # Errors
    /// A file of a folder that others may change is not what it was when it was captured.
    pub fn copy_captured(&mut self, captured: &Captured, request: &CopyRequest) -> Result<()> {
        let destination = self.destination(request)?;
        for (path, node) in &captured.sources {
            let node = Node::frozen(node, self.ownership());
            copier::copy_node(self, path, &destination, request, || Ok(node))?;
        }
        Ok(())
    }

    /// The destination of a request, which has to be there unless it is to be made.
    fn destination(&self, request: &CopyRequest) -> Result<PathBuf> {
        let destination = clean(&request.destination);
        if !request.create_destination {
            let resolved = self.tree().resolve(&destination, true)?;
            let parent = resolved.path.parent().map(Path::to_owned).unwrap_or_default();
            if self.tree().lookup(&parent)?.is_none() {
                return Err(CopyError::NotFound { path: request.destination.clone() });
            }
        }
        Ok(destination)
    }
}

/// A path from the root without `.` and `..`, with a mark of a folder at its end kept.
fn clean(path: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    let is_folder = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".";
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    if is_folder { clean.join("") } else { clean }
}

/// Whether a destination is written as a folder.
fn names_folder(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// Whether something of this type is copied as a device or pipe.
fn is_special(file_type: FileType) -> bool {
    !matches!(file_type, FileType::RegularFile | FileType::Symlink | FileType::Directory)
}
