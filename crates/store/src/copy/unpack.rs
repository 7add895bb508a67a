//! ADD's unpacking of archives.

use std::path::Path;

use rustix::fs::FileType;

use super::error::{CopyError, Result};
use super::place::{NewDirectory, Workspace};
use super::{CopyRequest, copier};
use crate::error::At;
use crate::layer::{self, Decompressor, LayerError, TarReader, Whiteouts};
use crate::steps::{create_tree, open_tree};
use crate::tree::{Leaf, MergedTree, Node};

impl Workspace {
    /// Unpacks a source that is an archive into the destination folder. Gives false where it is none.
    pub(super) fn unpack_archive(
        &mut self,
        source: &MergedTree,
        path: &Path,
        destination: &Path,
        request: &CopyRequest,
    ) -> Result<bool> {
        let Some(Node::Leaf(leaf)) = source.resolve(path, true)?.node else { return Ok(false) };
        if leaf.metadata_type() != FileType::RegularFile || !is_archive(&leaf)? {
            return Ok(false);
        }
        let resolved = self.tree().resolve(destination, true)?.path;
        let parents = NewDirectory { mode: 0o755, owner: request.owner, mtime: request.mtime };
        let place = self.folder(&resolved, &parents)?;
        let temporary = self.store().temporary("unpack")?;
        let unpacked = self.unpack_to(&leaf, path, &temporary);
        let copied = unpacked.and_then(|has_root| {
            let tree = MergedTree::unpacked(&temporary, self.ownership())?;
            let request = CopyRequest { owner: request.owner, replace_existing: true, ..CopyRequest::default() };
            copier::copy_onto(self, tree.root(), &place, &request, has_root)
        });
        // The first error is the one to tell; what stays is reclaimed by collection.
        let removed = self.store().remove_temporary(&temporary);
        copied?;
        removed?;
        Ok(true)
    }

    /// Unpacks into a folder of its own. Gives whether the archive has an entry for its root.
    fn unpack_to(&self, leaf: &Leaf, path: &Path, folder: &Path) -> Result<bool> {
        drop(create_tree(folder)?);
        let target = open_tree(folder)?;
        let limits = self.store().limits();
        let failed = |source| CopyError::Unpack { path: path.to_owned(), source };
        let stream = Decompressor::of_archive(leaf.open()?, limits.ratio).map_err(failed)?;
        let mut archive = TarReader::new(stream, limits.clone());
        let applied =
            layer::apply(&mut archive, target, self.ownership(), limits, Whiteouts::Literal).map_err(failed)?;
        if let Some(link) = applied.unresolved_links.first() {
            let reason = "the archive does not hold";
            let (link, target) = (link.path.clone(), link.target.clone());
            return Err(failed(LayerError::InvalidLink { link, target, reason }));
        }
        Ok(applied.has_root)
    }
}

/// Whether a file is an archive, compressed or not: whether its first header can be read.
fn is_archive(leaf: &Leaf) -> Result<bool> {
    let file = leaf.open()?;
    // An unreadable file is an error of the copy, not a file that is no archive.
    let mut head = [0_u8; 6];
    std::os::unix::fs::FileExt::read_at(&file, &mut head, 0).at("read", leaf.path())?;
    let Ok(stream) = Decompressor::of_archive(file, u64::MAX) else { return Ok(false) };
    let mut archive = TarReader::new(stream, layer::Limits::default());
    Ok(matches!(archive.next_entry(), Ok(Some(_))))
}
