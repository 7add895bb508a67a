//! From snapshots to stacks that can be mounted and read: fetching and unpacking what is not there yet.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use onetag_oci::{Descriptor, DiffId, Digest, Reference};
use onetag_registry::BlobSink;
use onetag_store::tree::MergedTree;
use onetag_store::{BlobWriter, LayerId, Stack, Store};
use rayon::prelude::*;

use crate::Engine;
use crate::content::layout;
use crate::snapshot::{ImageLayer, Layer, Snapshot};

/// Why a layer's files are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] onetag_store::Error),
    /// The registry did not give the blob.
    #[error(transparent)]
    Registry(Box<onetag_registry::Error>),
    /// The OCI layout did not give the blob.
    #[error("cannot read {path}")]
    Layout {
        /// The blob's file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The blob is not in the store, and nobody knows where else it might be.
    #[error("the layer {digest} is not in the local store and its image names no registry")]
    Missing {
        /// The blob.
        digest: onetag_oci::Digest,
    },
}

impl From<onetag_registry::Error> for LayerError {
    fn from(error: onetag_registry::Error) -> Self {
        Self::Registry(Box::new(error))
    }
}

/// What happens to a layer on its way to being readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerEvent {
    /// Its blob is about to be fetched.
    Fetching,
    /// Its blob is here.
    Fetched,
    /// It is about to be unpacked.
    Extracting,
    /// It is unpacked.
    Extracted,
}

/// Hears what happens to layers.
pub(crate) type LayerSink<'a> = dyn Fn(LayerEvent, &Descriptor) + Sync + 'a;

/// For those who do not want to hear it.
pub(crate) fn unheard(_: LayerEvent, _: &Descriptor) {}

/// Makes stacks of snapshots, each once.
pub(crate) struct Layers {
    engine: Engine,
    stacks: Mutex<HashMap<Vec<LayerId>, Arc<Stack>>>,
    /// Set when a layer that a cache promised is not to be had.
    lost: AtomicBool,
    /// Results of this build's steps that are held in memory.
    deferred: Mutex<Vec<LayerId>>,
}

impl Drop for Layers {
    fn drop(&mut self) {
        let deferred = self.deferred.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let (false, Ok(store)) = (deferred.is_empty(), self.engine.store()) {
            store.forget_deferred(deferred);
        }
    }
}

impl Layers {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, stacks: Mutex::default(), lost: AtomicBool::new(false), deferred: Mutex::default() }
    }

    /// Notes a result that is held in memory, until the build is over.
    pub(crate) fn note_deferred(&self, layer: LayerId) {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner).push(layer);
    }

    /// The folders of a snapshot, unpacked. `sink` hears of each layer that was not here or not unpacked.
    pub(crate) fn stack(&self, snapshot: &Snapshot, sink: &LayerSink<'_>) -> Result<Arc<Stack>, LayerError> {
        let ids = snapshot.ids();
        if let Some(stack) = self.known().get(&ids) {
            return Ok(Arc::clone(stack));
        }
        let store = self.engine.store()?;
        self.unpack_images(store, snapshot, sink)?;
        let stack = Arc::new(store.stack(&ids)?);
        self.known().insert(ids, Arc::clone(&stack));
        Ok(stack)
    }

    fn unpack_images(&self, store: &Store, snapshot: &Snapshot, sink: &LayerSink<'_>) -> Result<(), LayerError> {
        let missing: Vec<&ImageLayer> = snapshot
            .layers
            .iter()
            .filter_map(|layer| match layer {
                Layer::Image(layer) if store.unpacked_layer(&layer.diff_id).is_none() => Some(layer.as_ref()),
                _ => None,
            })
            .collect();
        missing.par_iter().try_for_each(|layer| self.unpack(store, layer, sink))
    }

    /// The files of a snapshot as one tree. Results that are held in memory stay there.
    pub(crate) fn tree(&self, snapshot: &Snapshot, sink: &LayerSink<'_>) -> Result<MergedTree, LayerError> {
        let store = self.engine.store()?;
        self.unpack_images(store, snapshot, sink)?;
        Ok(store.view(&snapshot.ids())?)
    }

    /// Brings an image layer's blob into the store.
    pub(crate) fn fetch(&self, layer: &ImageLayer, sink: &LayerSink<'_>) -> Result<(), LayerError> {
        let store = self.engine.store()?;
        if store.has_blob(&layer.descriptor.digest) {
            return Ok(());
        }
        sink(LayerEvent::Fetching, &layer.descriptor);
        let fetched = match layer.made.as_ref().and_then(|made| made.layout.as_ref()) {
            Some(layout) => copy_blob(store, layout, &layer.descriptor),
            None => origin(layer).and_then(|origin| fetch_blob(&self.engine, store, origin, &layer.descriptor)),
        };
        if fetched.is_err() && layer.made.is_some() {
            self.lost.store(true, Ordering::Relaxed);
        }
        fetched?;
        sink(LayerEvent::Fetched, &layer.descriptor);
        Ok(())
    }

    /// Whether a layer that a cache promised was not to be had.
    pub(crate) fn is_cache_broken(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn unpack(&self, store: &Store, layer: &ImageLayer, sink: &LayerSink<'_>) -> Result<(), LayerError> {
        let is_in_registry = layer.made.as_ref().is_none_or(|made| made.layout.is_none());
        if let (Some(origin), true, false) = (&layer.origin, is_in_registry, store.has_blob(&layer.descriptor.digest)) {
            let unpacked = self.unpack_from(store, origin, layer, sink);
            if unpacked.is_err() && layer.made.is_some() {
                self.lost.store(true, Ordering::Relaxed);
            }
            return unpacked;
        }
        self.fetch(layer, sink)?;
        sink(LayerEvent::Extracting, &layer.descriptor);
        let unpacked = store.ensure_layer(&layer.diff_id, &layer.descriptor.digest, &layer.descriptor.media_type);
        if unpacked.is_err() && layer.made.is_some() {
            self.lost.store(true, Ordering::Relaxed);
        }
        unpacked?;
        sink(LayerEvent::Extracted, &layer.descriptor);
        Ok(())
    }

    /// Unpacks a layer while its blob comes from a registry.
    fn unpack_from(
        &self,
        store: &Store,
        origin: &Reference,
        layer: &ImageLayer,
        sink: &LayerSink<'_>,
    ) -> Result<(), LayerError> {
        let blob = &layer.descriptor;
        sink(LayerEvent::Fetching, blob);
        fetch_unpacking(store, &layer.diff_id, blob, |writer| {
            fetch_into(&self.engine, origin, blob, writer)?;
            sink(LayerEvent::Fetched, blob);
            sink(LayerEvent::Extracting, blob);
            Ok::<(), LayerError>(())
        })?;
        sink(LayerEvent::Extracted, blob);
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<LayerId>, Arc<Stack>>> {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn origin(layer: &ImageLayer) -> Result<&Reference, LayerError> {
    layer.origin.as_ref().ok_or_else(|| LayerError::Missing { digest: layer.descriptor.digest.clone() })
}

/// Fetches a blob into the store.
pub(crate) fn fetch_blob(
    engine: &Engine,
    store: &Store,
    origin: &Reference,
    descriptor: &Descriptor,
) -> Result<(), LayerError> {
    fetch_into(engine, origin, descriptor, store.blob_writer_with(descriptor.digest.algorithm())?)
}

fn fetch_into(
    engine: &Engine,
    origin: &Reference,
    descriptor: &Descriptor,
    mut writer: BlobWriter,
) -> Result<(), LayerError> {
    engine.client()?.fetch_blob(origin, descriptor, &mut StoreSink(&mut writer))?;
    writer.finish(Some(&descriptor.digest), Some(descriptor.size))?;
    Ok(())
}

/// Unpacks a layer while `fetch` writes its blob: one stream is digested, decompressed, held to the diff ID and applied.
pub(crate) fn fetch_unpacking<E: From<onetag_store::Error>>(
    store: &Store,
    diff_id: &DiffId,
    blob: &Descriptor,
    fetch: impl FnOnce(BlobWriter) -> Result<(), E>,
) -> Result<(), E> {
    let writer = store.blob_writer_with(blob.digest.algorithm())?;
    let growing = writer.growing();
    std::thread::scope(|scope| {
        let unpacking = scope.spawn(|| store.unpack_layer(diff_id, &blob.digest, || Ok(growing.reader(0))));
        // a blob that does not come explains why it could not be unpacked
        fetch(writer)?;
        match unpacking.join() {
            // what was read turned out to be wrong, and what came then is in the store
            Ok(Err(_)) if growing.was_restarted() => {
                store.unpack_layer(diff_id, &blob.digest, || store.open_blob(&blob.digest))?;
                Ok(())
            }
            Ok(unpacked) => unpacked.map(drop).map_err(E::from),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Copies a blob of an OCI layout into the store.
fn copy_blob(store: &Store, layout: &Path, descriptor: &Descriptor) -> Result<(), LayerError> {
    let path = layout::blob_path(layout, &descriptor.digest);
    let failed = |source| LayerError::Layout { path: path.clone(), source };
    let mut file = std::fs::File::open(&path).map_err(failed)?;
    let mut writer = store.blob_writer()?;
    std::io::copy(&mut file, &mut writer).map_err(failed)?;
    writer.finish(Some(&descriptor.digest), Some(descriptor.size))?;
    Ok(())
}

/// Fetched bytes on their way into the store, which verifies them.
pub(crate) struct StoreSink<'a>(pub(crate) &'a mut BlobWriter);

impl BlobSink for StoreSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::Write::write_all(self.0, bytes)
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.0.restart().map_err(std::io::Error::other)
    }

    fn digest(&self) -> Option<Digest> {
        Some(self.0.digest())
    }
}
