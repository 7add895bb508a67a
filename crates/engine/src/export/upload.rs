//! Uploads of layers that are still being written.
//!
//! A layer's digest is known when its last byte is, so a registry cannot be asked first whether it has it. Only what
//! has grown beyond [`WORTHWHILE_BYTES`] is therefore sent while it grows; what is smaller is soon there whole and goes
//! the usual way. An upload that fails is no failure of the build: the blob is in the store by then, and is pushed from
//! there, which tells what is wrong.

use std::collections::HashSet;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use onetag_oci::{Digest, Reference};
use onetag_registry::GrowingSource;
use onetag_store::GrowingBlob;

use crate::Engine;

/// Blobs that end before they have this many bytes are not sent while they grow.
const WORTHWHILE_BYTES: u64 = 4 << 20;

/// What is on its way to a repository, and what has arrived there.
pub(crate) struct Uploads {
    engine: Engine,
    repository: Reference,
    running: Mutex<Vec<JoinHandle<Option<Digest>>>>,
}

impl Uploads {
    /// Uploads to a repository.
    pub(crate) fn new(engine: Engine, repository: Reference) -> Self {
        Self { engine, repository, running: Mutex::default() }
    }

    /// Begins to upload a blob, on a thread of its own.
    pub(super) fn begin(&self, blob: GrowingBlob) {
        let (engine, repository) = (self.engine.clone(), self.repository.clone());
        let upload = move || {
            if !blob.wait_for(WORTHWHILE_BYTES) {
                return None;
            }
            let pushed = engine.client().ok()?.push_growing(&repository, &Source(blob));
            pushed.ok().map(|(digest, _)| digest)
        };
        let started = std::thread::Builder::new().name("upload".to_owned()).spawn(upload);
        // Without a thread the blob is pushed when it is complete.
        self.running.lock().unwrap_or_else(PoisonError::into_inner).extend(started);
    }

    /// Waits for all uploads; gives what has arrived in which repository.
    pub(crate) fn finish(self) -> (Reference, HashSet<Digest>) {
        let running = self.running.into_inner().unwrap_or_else(PoisonError::into_inner);
        let arrived = running.into_iter().filter_map(|upload| upload.join().ok().flatten()).collect();
        (self.repository, arrived)
    }
}

/// A growing blob as the client reads it.
struct Source(GrowingBlob);

impl GrowingSource for Source {
    fn open(&self, offset_bytes: u64) -> std::io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.0.reader(offset_bytes)))
    }

    fn finish(&self) -> std::io::Result<(Digest, u64)> {
        self.0.wait().ok_or_else(|| std::io::Error::other("the layer was given up"))
    }
}
