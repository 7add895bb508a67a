//! Unpacked layers of images, each on its own and shared by every image that has it.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use onetag_oci::{DiffId, Digest};
use rustix::fs::FlockOperation;

use crate::error::{At, Error, Result};
use crate::files;
use crate::layer::{self, Applied, LayerError, TarReader, Whiteouts};
use crate::leases::Resource;
use crate::pipeline::{self, Formats};
use crate::record::{self, TreeRecord};
use crate::steps::{create_tree, open_tree};
use crate::store::Store;

/// An unpacked layer.
#[derive(Debug, Clone)]
pub struct LayerDirectory {
    /// The layer's diff ID.
    pub diff_id: DiffId,
    /// The folder of its files, in overlay form.
    pub tree: PathBuf,
    /// What it holds beyond its files.
    pub applied: Applied,
}

impl Store {
    /// Unpacks a stored layer unless it is unpacked already. The content is verified against `diff_id`; how it is
    /// compressed is seen from its bytes, `media_type` is what the manifest claims. Several threads and processes
    /// may ask for the same layer: one unpacks, the others wait.
    pub fn ensure_layer(&self, diff_id: &DiffId, blob: &Digest, media_type: &str) -> Result<LayerDirectory> {
        let _ = media_type;
        self.unpack_layer(diff_id, blob, || self.open_blob(blob))
    }

    /// As [`Store::ensure_layer`] from a stream, such as a blob that is still being written. `open` is called only
    /// if the layer is not unpacked yet; `blob` names the layer in errors.
    pub fn unpack_layer<R: Read + Send>(
        &self,
        diff_id: &DiffId,
        blob: &Digest,
        open: impl FnOnce() -> Result<R>,
    ) -> Result<LayerDirectory> {
        self.hold(&Resource::Layer(diff_id.clone()))?;
        if let Some(found) = self.unpacked_layer(diff_id) {
            return Ok(found);
        }
        let name = diff_id.0.encoded();
        let _alone = self.lock(&format!("layer-{}", &name[..name.len().min(3)]), FlockOperation::LockExclusive)?;
        if let Some(found) = self.unpacked_layer(diff_id) {
            return Ok(found);
        }
        let path = self.layer_path(diff_id);
        // What is there cannot be believed: from before a crash, or damaged.
        self.discard(&path)?;
        let temporary = self.temporary("layer")?;
        let result = self.unpack_into(diff_id, blob, open()?, &temporary).and_then(|applied| {
            self.name_layer(&temporary, &path)?;
            Ok(LayerDirectory { diff_id: diff_id.clone(), tree: path.join("tree"), applied })
        });
        if result.is_err() {
            // The first error is the one to tell; what stays is reclaimed by collection.
            let _ = self.remove_temporary(&temporary);
        }
        result
    }

    /// Gives an unpacked layer its place. Its folder is made, again where collection just removed it as empty.
    fn name_layer(&self, temporary: &Path, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(self.root());
        let mut attempts = 0;
        loop {
            files::create_folders(folder).at("make folder", folder)?;
            match std::fs::rename(temporary, path) {
                Err(error) if error.kind() == ErrorKind::NotFound && attempts < 100 => attempts += 1,
                named => return named.at("name", path),
            }
        }
    }

    /// A layer that is unpacked already, or `None`.
    pub fn unpacked_layer(&self, diff_id: &DiffId) -> Option<LayerDirectory> {
        let path = self.layer_path(diff_id);
        let record = record::read_valid(self, &path)?;
        Some(LayerDirectory { diff_id: diff_id.clone(), tree: path.join("tree"), applied: record.applied })
    }

    /// Unpacks a layer into a new folder.
    pub(crate) fn unpack_into<R: Read + Send>(
        &self,
        diff_id: &DiffId,
        blob: &Digest,
        content: R,
        folder: &Path,
    ) -> Result<Applied> {
        std::fs::create_dir(folder).at("make folder", folder)?;
        let tree = folder.join("tree");
        drop(create_tree(&tree)?);
        let target = open_tree(&tree)?;
        let limits = self.limits();
        let unpacked = pipeline::decompress(content, diff_id.0.algorithm(), Formats::Layer, limits.ratio, |stream| {
            let mut archive = TarReader::new(stream, limits.clone());
            let applied = layer::apply(&mut archive, target, self.ownership(), limits, Whiteouts::Overlay)?;
            archive.finish()?;
            Ok::<Applied, LayerError>(applied)
        });
        let (applied, actual) = unpacked.map_err(|source| Error::Unpack { blob: blob.clone(), source })?;
        if actual != diff_id.0 {
            let (expected, actual) = (diff_id.clone(), DiffId(actual));
            return Err(Error::DiffIdMismatch { blob: blob.clone(), expected, actual });
        }
        TreeRecord::unsynced(self).with_applied(applied.clone()).write(folder)?;
        Ok(applied)
    }
}
