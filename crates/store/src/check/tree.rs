//! Comparing an unpacked layer with its archive.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use onetag_oci::{Algorithm, DiffId, Digest, Digester};
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::archive::{Expected, expectations};
use crate::error::{At, Error, Result};
use crate::files;
use crate::layer::{Header, TarReader};
use crate::pipeline::{self, Formats};
use crate::store::Store;
use crate::tree::{MergedTree, Metadata, Node};

/// The first difference between a tree and its archive, or `None`.
pub(super) fn compare(
    store: &Store,
    diff_id: &DiffId,
    blob: &Digest,
    tree: &Path,
) -> Result<Option<(PathBuf, String)>> {
    let limits = store.limits();
    let content = store.open_blob(blob)?;
    let read = pipeline::decompress(content, diff_id.0.algorithm(), Formats::Layer, limits.ratio, |stream| {
        let mut archive = TarReader::new(stream, limits.clone());
        let expected = expectations(&mut archive)?;
        archive.finish()?;
        Ok(expected)
    });
    let (expected, actual) = match read {
        Ok(read) => read,
        // The archive is damaged, which is found where blobs are hashed; it says nothing about the tree.
        Err(_) => return Ok(None),
    };
    if actual != diff_id.0 {
        return Ok(None);
    }
    Comparison { view: MergedTree::unpacked(tree, store.ownership())?, tree, expected }.run()
}

struct Comparison<'a> {
    view: MergedTree,
    tree: &'a Path,
    expected: BTreeMap<PathBuf, Expected>,
}

impl Comparison<'_> {
    fn run(&self) -> Result<Option<(PathBuf, String)>> {
        for (path, expected) in &self.expected {
            let reason = match self.entry(path, expected) {
                Ok(None) => continue,
                Ok(Some(reason)) => reason,
                Err(Error::Io { source, .. }) => source.to_string(),
                Err(error) => return Err(error),
            };
            return Ok(Some((path.clone(), reason)));
        }
        for entry in self.view.walk(Path::new(""))? {
            let entry = entry?;
            let is_known = self.expected.contains_key(&entry.path) || entry.path.as_os_str().is_empty();
            // Folders without an entry were made on the way; a link on the way gives a path other names.
            if !is_known && entry.node.as_directory().is_none() && !self.has_links() {
                return Ok(Some((entry.path, "does not belong to it".to_owned())));
            }
        }
        Ok(None)
    }

    /// Whether the archive holds symlinks, through which its own entries may have been written.
    fn has_links(&self) -> bool {
        self.expected.values().any(|expected| matches!(expected, Expected::Symlink(_)))
    }

    fn entry(&self, path: &Path, expected: &Expected) -> Result<Option<String>> {
        if let Expected::Whiteout = expected {
            return self.whiteout(path);
        }
        let found = self.view.resolve(path, false)?.node;
        let Some(node) = found else {
            let optional = matches!(expected, Expected::Special | Expected::HardLink(_));
            return Ok((!optional).then(|| "is missing".to_owned()));
        };
        let metadata = node.metadata()?;
        match (expected, &node) {
            (Expected::Directory(header), Node::Directory(_)) => Ok(attributes(header, &metadata)),
            (Expected::Symlink(header), Node::Leaf(leaf)) if metadata.file_type == FileType::Symlink => {
                let same = leaf.read_link()?.as_os_str().as_bytes() == header.link;
                Ok((!same).then(|| "names something else".to_owned()))
            }
            (Expected::File(header, digest), Node::Leaf(leaf)) if metadata.file_type == FileType::RegularFile => {
                if metadata.size != header.size {
                    return Ok(Some("has another size".to_owned()));
                }
                if let Some(reason) = attributes(header, &metadata) {
                    return Ok(Some(reason));
                }
                let same = content(&mut leaf.open()?).at("read", path)? == *digest;
                Ok((!same).then(|| "has other content".to_owned()))
            }
            (Expected::HardLink(target), Node::Leaf(_)) => {
                let is_here = matches!(self.expected.get(target), Some(Expected::File(..)));
                let other = if is_here { self.view.lookup(target)? } else { None };
                let same = match other {
                    Some(other) => other.metadata()?.inode == metadata.inode,
                    None => true,
                };
                Ok((!same).then(|| "is another file than the one it links to".to_owned()))
            }
            (Expected::Special, Node::Leaf(_)) => Ok(None),
            _ => Ok(Some("is of another type".to_owned())),
        }
    }

    fn whiteout(&self, path: &Path) -> Result<Option<String>> {
        let root = files::open_folder(self.tree).at("open", self.tree)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let folder = match files::open_in_root(&root, parent, files::FOLDER | OFlags::NOFOLLOW) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Some("is missing".to_owned())),
            Err(error) => return Err(error).at("open", parent),
        };
        let name = path.file_name().unwrap_or_default();
        match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(None),
            Err(_) => Ok(Some("is no longer removed".to_owned())),
        }
    }
}

fn attributes(header: &Header, metadata: &Metadata) -> Option<String> {
    let same = (header.mode, header.uid, header.gid) == (metadata.mode, metadata.uid, metadata.gid);
    (!same).then(|| "has another mode or owner".to_owned())
}

fn content(file: &mut std::fs::File) -> std::io::Result<Digest> {
    let mut digester = Digester::new(Algorithm::Sha256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digester.finish()),
            length => digester.update(&buffer[..length]),
        }
    }
}
