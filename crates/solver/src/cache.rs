//! What one solve leaves for the next.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use onetag_oci::Digest;

/// What is known under a cache key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRecord {
    /// The identity of the results; what depends on them is looked up by it.
    pub identity: Digest,
    /// The worker's name for each output, as its `save` gave it.
    pub results: Vec<String>,
}

/// Who makes what a cache key stands for.
pub enum Claim {
    /// This solve: as long as the value lives, others are told [`Claim::Theirs`].
    Ours(Box<dyn Send>),
    /// Another solve, which leaves a record when it is done, unless it fails or dies.
    Theirs,
}

/// The memory between solves. A record MUST be readable only when its results are: storages that share a machine with
/// others write the result before the record. Reading something that is gone or unreadable is a miss, not an error;
/// failing to write costs time later, nothing else.
pub trait CacheStorage: Send + Sync {
    /// The record of a cache key.
    fn record(&self, key: &Digest) -> Option<CacheRecord>;
    /// Keeps a record, in place of the one that was there.
    fn put_record(&self, key: &Digest, record: &CacheRecord);
    /// The cache key that a fast key led to before.
    fn alias(&self, fast: &Digest) -> Option<Digest>;
    /// Remembers where a fast key leads.
    fn put_alias(&self, fast: &Digest, key: &Digest);

    /// Claims the making of what a key stands for, without waiting. A claim MUST end with the process that has it.
    /// Storages that nobody shares need no claims.
    fn claim(&self, _key: &Digest) -> Claim {
        Claim::Ours(Box::new(()))
    }
}

#[derive(Default)]
struct Tables {
    records: HashMap<Digest, CacheRecord>,
    aliases: HashMap<Digest, Digest>,
}

/// A storage that forgets everything with the process.
#[derive(Default)]
pub struct MemoryCache {
    tables: Mutex<Tables>,
}

impl MemoryCache {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheStorage for MemoryCache {
    fn record(&self, key: &Digest) -> Option<CacheRecord> {
        self.tables().records.get(key).cloned()
    }

    fn put_record(&self, key: &Digest, record: &CacheRecord) {
        self.tables().records.insert(key.clone(), record.clone());
    }

    fn alias(&self, fast: &Digest) -> Option<Digest> {
        self.tables().aliases.get(fast).cloned()
    }

    fn put_alias(&self, fast: &Digest, key: &Digest) {
        self.tables().aliases.insert(fast.clone(), key.clone());
    }
}
