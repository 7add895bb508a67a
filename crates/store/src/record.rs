//! `record.json` beside every tree: what the tree holds beyond its files, and whether it can be believed. The first
//! line is JSON, the second the SHA-256 of the first in hexadecimal.

use std::path::Path;
use std::sync::Arc;

use onetag_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::layer::Applied;
use crate::steps::LayerId;
use crate::store::Store;

/// The record's form; another one is not believed.
const VERSION: u32 = 1;

/// What is known about a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeRecord {
    version: u32,
    /// The boot in which the tree was written, until it is synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    /// What the tree was unpacked with.
    #[serde(default)]
    pub applied: Applied,
    /// The layers that a chain was made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<LayerId>,
}

impl TreeRecord {
    /// The record of a tree that this boot wrote and nothing synced.
    pub fn unsynced(store: &Store) -> TreeRecord {
        let boot = Some(store.boot_id().to_owned());
        TreeRecord { version: VERSION, boot, applied: Applied::default(), layers: Vec::new() }
    }

    /// The same record with what the tree was unpacked with.
    pub fn with_applied(mut self, applied: Applied) -> TreeRecord {
        self.applied = applied;
        self
    }

    /// The same record with the layers that a chain was made of.
    pub fn with_layers(mut self, layers: &[&LayerId]) -> TreeRecord {
        self.layers = layers.iter().map(|&layer| layer.clone()).collect();
        self
    }

    /// Whether the tree survived in any case.
    pub fn is_synced(&self) -> bool {
        self.boot.is_none()
    }

    /// Writes the record into the folder that holds the tree.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join("record.json");
        let mut content = serde_json::to_vec(self).map_err(|source| Error::Encode { path: path.clone(), source })?;
        let digest = Digest::sha256(&content);
        content.extend_from_slice(format!("\n{}\n", digest.encoded()).as_bytes());
        let temporary = folder.join("record.json.new");
        std::fs::write(&temporary, content).at("write", &temporary)?;
        std::fs::rename(&temporary, &path).at("name", &path)
    }
}

/// The record of a tree that can be believed: complete, and synced or written since the machine started.
pub(crate) fn read_valid(store: &Store, folder: &Path) -> Option<TreeRecord> {
    let record = read(folder)?;
    let survived = record.boot.as_deref().is_none_or(|boot| boot == store.boot_id());
    (record.version == VERSION && survived).then_some(record)
}

/// As [`read_valid`] for a tree that this store holds, so that nobody else removes it: read once by this process.
pub(crate) fn read_held(store: &Store, folder: &Path) -> Option<Arc<TreeRecord>> {
    if let Some(known) = store.records().get(folder) {
        return Some(Arc::clone(known));
    }
    let record = Arc::new(read_valid(store, folder)?);
    store.records().insert(folder.to_owned(), Arc::clone(&record));
    Some(record)
}

/// The layers that a chain was made of, or `None` where its record cannot be read.
pub(crate) fn layers_of(folder: &Path) -> Option<Vec<LayerId>> {
    Some(read(folder)?.layers)
}

/// A record whose second line is the digest of its first.
fn read(folder: &Path) -> Option<TreeRecord> {
    let content = std::fs::read_to_string(folder.join("record.json")).ok()?;
    let (text, digest) = content.strip_suffix('\n')?.split_once('\n')?;
    (Digest::sha256(text.as_bytes()).encoded() == digest).then(|| serde_json::from_str(text).ok())?
}

/// Marks all trees as surviving after the file system was synced. `folders` hold trees with records.
pub(crate) fn mark_synced<'a>(store: &Store, folders: impl IntoIterator<Item = &'a Path>) -> Result<u64> {
    let mut marked = 0;
    for folder in folders {
        if let Some(mut record) = read_valid(store, folder).filter(|record| !record.is_synced()) {
            record.boot = None;
            record.write(folder)?;
            marked += 1;
        }
    }
    Ok(marked)
}
