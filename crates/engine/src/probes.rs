//! What probes of emulators found out, kept in the store's database from one command to the next.

use std::sync::Weak;

use onetag_sandbox::ProbeMemory;
use onetag_store::{Database, RecordStorage};

use crate::engine::Inner;

/// Another number is another format: old records are never read again.
const PROBES: &str = "emulator-probe-1";

/// The memory of an engine's sandbox. Where there is no store nothing is kept, and none is made for it.
#[derive(Debug)]
pub(crate) struct StoredProbes(pub(crate) Weak<Inner>);

impl StoredProbes {
    fn database(&self) -> Option<std::sync::Arc<Database>> {
        let inner = self.0.upgrade()?;
        if !inner.options.root.join("oci-layout").exists() {
            return None;
        }
        Some(inner.store().ok()?.database())
    }
}

impl ProbeMemory for StoredProbes {
    fn recall(&self, key: &str) -> Option<Vec<u8>> {
        self.database()?.get(PROBES, key.as_bytes()).ok()?
    }

    fn keep(&self, key: &str, record: &[u8]) {
        if let Some(database) = self.database() {
            // Not kept is found out again.
            let _ = database.put(PROBES, key.as_bytes(), record, &[]);
        }
    }
}
