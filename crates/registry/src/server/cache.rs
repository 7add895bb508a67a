//! Manifests kept in memory, because most requests of a registry are for the same few.
//!
//! An entry is used only while the stamp of its record is the one it was read under, so that another process on the same storage
//! (the collection of garbage) is noticed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use onetag_oci::Digest;

use super::storage::Stamp;

/// Bytes of manifests kept at most.
const LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// A manifest as it is served.
#[derive(Debug)]
pub(crate) struct CachedManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

#[derive(Default)]
pub(crate) struct ManifestCache {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<String, (Stamp, Arc<CachedManifest>)>,
    total_bytes: usize,
}

impl ManifestCache {
    /// The manifest read under that key and stamp.
    pub(crate) fn get(&self, key: &str, stamp: Stamp) -> Option<Arc<CachedManifest>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, manifest) = entries.by_key.get(key)?;
        (*found == stamp).then(|| manifest.clone())
    }

    /// Keeps a manifest; everything else goes when there is no more room, which is rare and simple.
    pub(crate) fn insert(&self, key: String, stamp: Stamp, manifest: Arc<CachedManifest>) {
        let size = manifest.bytes.len() + key.len() + 256;
        if size > LIMIT_BYTES / 4 {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.total_bytes + size > LIMIT_BYTES {
            entries.by_key.clear();
            entries.total_bytes = 0;
        }
        if entries.by_key.insert(key, (stamp, manifest)).is_none() {
            entries.total_bytes += size;
        }
    }

    /// Forgets one key.
    pub(crate) fn forget(&self, key: &str) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, manifest)) = entries.by_key.remove(key) {
            entries.total_bytes = entries.total_bytes.saturating_sub(manifest.bytes.len() + key.len() + 256);
        }
    }
}
