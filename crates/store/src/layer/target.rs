//! A folder that is being filled, addressed by paths of an archive and never left.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::{InLayer, LayerError};
use super::limits::Limits;
use crate::files;
use crate::whiteout;

/// A path of an archive as components: no empty ones, no `.`, no `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LayerPath(Vec<u8>);

impl LayerPath {
    /// Cleans a path as Go's `path.Clean("/" + path)` does, except that leaving the root is an error.
    pub fn parse(path: &[u8], limits: &Limits) -> Result<LayerPath, LayerError> {
        let invalid = |reason| LayerError::InvalidPath { path: PathBuf::from(OsStr::from_bytes(path)), reason };
        if path.len() > limits.path_length {
            return Err(invalid("is longer than the limit"));
        }
        if path.contains(&0) {
            return Err(invalid("holds a zero byte"));
        }
        let mut clean: Vec<&[u8]> = Vec::new();
        for component in path.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    clean.pop().ok_or_else(|| invalid("leaves the layer"))?;
                }
                name if name.len() > 255 => return Err(invalid("has a component longer than 255 bytes")),
                name => clean.push(name),
            }
        }
        if clean.len() > limits.depth {
            return Err(invalid("is deeper than the limit"));
        }
        Ok(LayerPath(clean.join(&b'/')))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn to_path_buf(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.0))
    }

    /// The parent and the last name; the root has none.
    pub fn split(&self) -> Option<(LayerPath, OsString)> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|&byte| byte == b'/');
        let parent = slash.map_or_else(Vec::new, |slash| self.0[..slash].to_vec());
        let name = &self.0[slash.map_or(0, |slash| slash + 1)..];
        Some((LayerPath(parent), OsStr::from_bytes(name).to_owned()))
    }

    /// This path and a name below it.
    pub fn join(&self, name: &[u8]) -> LayerPath {
        if self.0.is_empty() { LayerPath(name.to_vec()) } else { LayerPath([&self.0, &b"/"[..], name].concat()) }
    }
}

/// Whether a path can be one of a layer.
///
/// # Errors
/// [`LayerError::InvalidPath`].
pub fn validate_path(path: &[u8], limits: &Limits) -> Result<(), LayerError> {
    LayerPath::parse(path, limits).map(drop)
}

/// The folder with a memory of the parent used last: archives write one folder's files in a row.
pub(super) struct Target {
    root: Rc<OwnedFd>,
    last: Option<(LayerPath, Rc<OwnedFd>)>,
}

impl Target {
    pub fn new(root: OwnedFd) -> Target {
        Target { root: Rc::new(root), last: None }
    }

    pub fn root(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.root)
    }

    /// Forgets opened folders; needed when one may have been replaced.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// Opens a folder of the layer, following links inside it, or `None` where it is absent.
    pub fn open(&mut self, path: &LayerPath) -> Result<Option<Rc<OwnedFd>>, LayerError> {
        if path.is_root() {
            return Ok(Some(self.root()));
        }
        if let Some((known, fd)) = &self.last
            && known == path
        {
            return Ok(Some(Rc::clone(fd)));
        }
        match files::open_in_root(&*self.root, &path.to_path_buf(), files::FOLDER) {
            Ok(fd) => {
                let fd = Rc::new(fd);
                self.last = Some((path.clone(), Rc::clone(&fd)));
                Ok(Some(fd))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).in_layer("open folder", || path.to_path_buf()),
        }
    }

    /// Opens a folder of the layer and makes it with its parents where absent. `made` hears of each made one,
    /// parents first.
    pub fn open_or_make(
        &mut self,
        path: &LayerPath,
        made: &mut dyn FnMut(LayerPath),
    ) -> Result<Rc<OwnedFd>, LayerError> {
        if let Some(fd) = self.open(path)? {
            return Ok(fd);
        }
        let mut current = LayerPath(Vec::new());
        let mut fd = self.root();
        for name in path.bytes().split(|&byte| byte == b'/') {
            current = current.join(name);
            if let Some(found) = self.open(&current)? {
                fd = found;
                continue;
            }
            let at = || current.to_path_buf();
            let name = OsStr::from_bytes(name);
            if let Ok(stat) = files::stat(&*fd, name)
                && whiteout::is_whiteout(&*fd, name, &stat)
            {
                // The layer removed the lower folder and then began a new one in its place.
                rustix::fs::unlinkat(&*fd, name, rustix::fs::AtFlags::empty()).in_layer("make folder", at)?;
                rustix::fs::mkdirat(&*fd, name, Mode::from_raw_mode(0o700)).in_layer("make folder", at)?;
                let opened = self.open(&current)?.ok_or(Errno::NOENT).in_layer("make folder", at)?;
                whiteout::make_opaque(&*opened).in_layer("make folder", at)?;
            } else {
                rustix::fs::mkdirat(&*fd, name, Mode::from_raw_mode(0o700)).in_layer("make folder", at)?;
            }
            made(current.clone());
            fd = self.open(&current)?.ok_or(Errno::NOENT).in_layer("make folder", at)?;
        }
        Ok(fd)
    }
}

/// Opens a folder by name without following a link in its place.
pub(super) fn open_folder_at(parent: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, files::FOLDER | OFlags::NOFOLLOW, Mode::empty())
}

/// The type of what stands at a name, or `None`.
pub(super) fn occupant(parent: impl AsFd, name: &OsStr) -> rustix::io::Result<Option<(FileType, bool)>> {
    match files::stat(&parent, name) {
        Ok(stat) => Ok(Some((files::file_type(&stat), whiteout::is_whiteout(parent, name, &stat)))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
