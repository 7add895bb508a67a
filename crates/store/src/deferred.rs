//! Results of steps without a tree: held in memory by the process that made them, kept in a blob for all others.
//!
//! ```text
//! layers/steps/<id>/blob.json   the layer that the result was written as: JSON, then its SHA-256 in hexadecimal
//! layers/steps/<id>/tree/       the result's files, once somebody needed them, beside record.json
//! ```
//!
//! A step that only copies is put together in memory ([`crate::copy::DeferredCopy`]). It gets a tree when somebody
//! asks for its files, a blob when it is written as a layer, and with neither it is gone with its process: then
//! [`Store::has_layer`] denies it and it is made again. A tree that comes of a blob is what the image shows: times
//! have whole seconds, and a folder that is as below but for its time has the time from below. What `blob.json` names is durable before the file is there.

use std::path::Path;
use std::sync::Arc;

use onetag_oci::{Descriptor, DiffId, Digest};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::files;
use crate::leases::Resource;
use crate::materialize;
use crate::record::{self, TreeRecord};
use crate::steps::{LayerId, StepId};
use crate::store::Store;
use crate::tree::{FrozenDirectory, MergedTree, Metadata};

/// The layer that a step's result was written as.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepBlob {
    pub diff_id: DiffId,
    pub descriptor: Descriptor,
    /// What the layer does not say: mode, owner, group and modification time of the root folder.
    pub root: (u32, u32, u32, (i64, u32)),
}

impl StepBlob {
    pub fn new(diff_id: DiffId, descriptor: Descriptor, root: &Metadata) -> StepBlob {
        StepBlob { diff_id, descriptor, root: (root.mode, root.uid, root.gid, root.mtime) }
    }
}

impl Store {
    /// Takes a result that is held in memory over as a layer.
    pub(crate) fn defer(&self, root: Arc<FrozenDirectory>) -> Result<LayerId> {
        let step = StepId::new();
        self.hold(&Resource::Step(step.clone()))?;
        self.deferred().insert(step.clone(), root);
        Ok(LayerId::Step(step))
    }

    /// Lets results go that are only held in memory. Whoever holds a tree of them keeps it.
    pub fn forget_deferred(&self, layers: &[LayerId]) {
        let mut deferred = self.deferred();
        for layer in layers {
            if let LayerId::Step(step) = layer {
                deferred.remove(step);
            }
        }
    }

    /// Makes a result outlast this process: one that is only held in memory gets its files.
    ///
    /// # Errors
    /// [`Error::Changed`] where a file of the host is not what it was.
    pub fn persist_layer(&self, layer: &LayerId) -> Result<()> {
        match layer {
            LayerId::Step(step) if !self.has_layer(layer) => self.ensure_step_tree(step),
            _ => Ok(()),
        }
    }

    /// The tree of a stack of layers, the lowest first. Results that are held in memory are read from there; what is
    /// only in a blob is unpacked.
    pub fn view(&self, layers: &[LayerId]) -> Result<MergedTree> {
        let in_memory = |layer: &LayerId| match layer {
            LayerId::Step(step) => self.deferred().get(step).cloned(),
            LayerId::Diff(_) => None,
        };
        let first = layers.iter().position(|layer| in_memory(layer).is_some()).unwrap_or(layers.len());
        let (on_disk, rest) = layers.split_at(first);
        // A layer of an image above may need something of the layers below it on disk.
        if rest.iter().any(|layer| matches!(layer, LayerId::Diff(_))) {
            return MergedTree::open(&self.stack(layers)?.lowers, self.ownership());
        }
        let mut tree = MergedTree::open(&self.stack(on_disk)?.lowers, self.ownership())?;
        for layer in rest {
            tree = match in_memory(layer) {
                Some(root) => tree.under_frozen(root),
                None => tree.under_folder(&self.stack(std::slice::from_ref(layer))?.lowers[0])?,
            };
        }
        Ok(tree)
    }

    /// The blob of a step's result, if there is one and it is there.
    pub(crate) fn step_blob(&self, step: &StepId) -> Option<StepBlob> {
        let content = std::fs::read_to_string(self.step_path(step).join("blob.json")).ok()?;
        let (text, digest) = content.strip_suffix('\n')?.split_once('\n')?;
        if Digest::sha256(text.as_bytes()).encoded() != digest {
            return None;
        }
        let blob: StepBlob = serde_json::from_str(text).ok()?;
        (self.blob_size(&blob.descriptor.digest) == Some(blob.descriptor.size)).then_some(blob)
    }

    /// Notes the blob that holds all of a step's result.
    pub(crate) fn put_step_blob(&self, step: &StepId, blob: &StepBlob) -> Result<()> {
        let folder = self.step_path(step);
        let path = folder.join("blob.json");
        let text = serde_json::to_string(blob).map_err(|source| Error::Encode { path: path.clone(), source })?;
        let content = format!("{text}\n{}\n", Digest::sha256(text.as_bytes()).encoded());
        files::create_folders(&folder).at("make folder", &folder)?;
        let temporary = self.temporary("blob.json")?;
        std::fs::write(&temporary, content).at("write", &temporary)?;
        std::fs::rename(&temporary, &path).at("name", &path)
    }

    /// Gives a step's result its files, from memory or from its blob. The step MUST be held.
    ///
    /// # Errors
    /// [`Error::LayerNotFound`] where it is nowhere.
    pub(crate) fn ensure_step_tree(&self, step: &StepId) -> Result<()> {
        let folder = self.step_path(step);
        if record::read_held(self, &folder).is_some() {
            return Ok(());
        }
        let name = step.as_str();
        let _alone = self.lock(&format!("step-{}", &name[..name.len().min(2)]), FlockOperation::LockExclusive)?;
        if record::read_valid(self, &folder).is_some() {
            return Ok(());
        }
        let frozen = self.deferred().get(step).cloned();
        let temporary = self.temporary("step")?;
        let made = match (frozen, self.step_blob(step)) {
            (Some(root), _) => self.write_frozen(root, &temporary),
            (None, Some(blob)) => {
                let content = self.open_blob(&blob.descriptor.digest)?;
                self.unpack_into(&blob.diff_id, &blob.descriptor.digest, content, &temporary)
                    .and_then(|_| self.set_root(&temporary.join("tree"), &blob))
            }
            (None, None) => return Err(Error::LayerNotFound { layer: LayerId::Step(step.clone()).to_string() }),
        };
        let made = made.and_then(|()| self.place_tree(&temporary, &folder));
        // The first error is the one to tell; what stays is reclaimed by collection.
        let removed = self.remove_temporary(&temporary);
        made?;
        removed
    }

    /// Moves a tree to its step's folder; its record goes last.
    fn place_tree(&self, temporary: &Path, folder: &Path) -> Result<()> {
        files::create_folders(folder).at("make folder", folder)?;
        let tree = folder.join("tree");
        loop {
            match rustix::fs::rename(temporary.join("tree"), &tree) {
                // What is there cannot be believed: from before a crash.
                Err(Errno::NOTEMPTY | Errno::EXIST) => self.discard(&tree)?,
                named => break named.at("name", &tree)?,
            }
        }
        TreeRecord::unsynced(self).write(folder)
    }

    fn set_root(&self, tree: &Path, blob: &StepBlob) -> Result<()> {
        let (mode, uid, gid, mtime) = blob.root;
        let folder = files::open_folder(tree).at("open", tree)?;
        let root = Metadata { mode, uid, gid, mtime, ..Metadata::of(&rustix::fs::fstat(&folder).at("examine", tree)?) };
        materialize::set_directory(&folder, &root, self.ownership()).at("set attributes of", tree)
    }

    /// Carries out what is held in memory.
    fn write_frozen(&self, root: Arc<FrozenDirectory>, folder: &Path) -> Result<()> {
        std::fs::create_dir(folder).at("make folder", folder)?;
        let tree = folder.join("tree");
        std::fs::create_dir(&tree).at("make folder", &tree)?;
        let ownership = self.ownership();
        materialize::materialize_writable(&MergedTree::frozen(root, ownership), &tree, ownership)
    }
}
