//! The solver's memory in the store's database.

use std::sync::Arc;

use onetag_oci::Digest;
use onetag_solver::{CacheRecord, CacheStorage, Claim};
use onetag_store::{Database, RecordStorage, Resource, Store};
use serde::{Deserialize, Serialize};

use crate::snapshot::{Layer, Made, Snapshot};

/// Cache keys and what they lead to. Another number is another format: old records are never read again.
const RECORDS: &str = "build-record-1";
/// Fast keys and the cache keys they lead to.
const ALIASES: &str = "build-alias-1";

/// A record as it is kept.
#[derive(Serialize, Deserialize)]
struct Stored {
    identity: Digest,
    results: Vec<String>,
}

/// See the module.
pub(crate) struct StoreCache {
    store: Store,
    database: Arc<Database>,
}

impl StoreCache {
    pub(crate) fn new(store: &Store) -> Self {
        Self { store: store.clone(), database: store.database() }
    }
}

/// The steps' trees and the blobs that a result needs; what can be fetched again is not among them.
fn resources(results: &[String]) -> Vec<Resource> {
    let snapshots = results.iter().filter_map(|text| serde_json::from_str::<Snapshot>(text).ok());
    let step = |layer: Layer| match layer {
        Layer::Step(layer) => Some(Resource::Step(layer.step.clone())),
        Layer::Image(layer) => {
            let is_here = |made: &Made| layer.origin.is_none() && made.layout.is_none();
            layer.made.as_ref().filter(|made| is_here(made)).map(|_| Resource::Blob(layer.descriptor.digest.clone()))
        }
    };
    let mut resources: Vec<Resource> = snapshots.flat_map(|snapshot| snapshot.layers).filter_map(step).collect();
    resources.sort();
    resources.dedup();
    resources
}

impl CacheStorage for StoreCache {
    fn record(&self, key: &Digest) -> Option<CacheRecord> {
        let bytes = self.database.get(RECORDS, key.as_str().as_bytes()).ok()??;
        let stored: Stored = serde_json::from_slice(&bytes).ok()?;
        Some(CacheRecord { identity: stored.identity, results: stored.results })
    }

    fn put_record(&self, key: &Digest, record: &CacheRecord) {
        let resources = resources(&record.results);
        let stored = Stored { identity: record.identity.clone(), results: record.results.clone() };
        if let Ok(bytes) = serde_json::to_vec(&stored) {
            // Without the record the step runs again next time; nothing else is lost.
            let _ = self.database.put(RECORDS, key.as_str().as_bytes(), &bytes, &resources);
        }
    }

    fn alias(&self, fast: &Digest) -> Option<Digest> {
        let bytes = self.database.get(ALIASES, fast.as_str().as_bytes()).ok()??;
        std::str::from_utf8(&bytes).ok()?.parse().ok()
    }

    fn put_alias(&self, fast: &Digest, key: &Digest) {
        let _ = self.database.put(ALIASES, fast.as_str().as_bytes(), key.as_str().as_bytes(), &[]);
    }

    fn claim(&self, key: &Digest) -> Claim {
        match self.store.claim_work(key) {
            Ok(None) => Claim::Theirs,
            Ok(Some(claim)) => Claim::Ours(Box::new(claim)),
            // Doing twice what could be done once is no failure.
            Err(_) => Claim::Ours(Box::new(())),
        }
    }
}
