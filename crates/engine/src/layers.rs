//! From snapshots to stacks that can be mounted and read: fetching and unpacking what is not there yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use onetag_oci::{Descriptor, Reference};
use onetag_registry::BlobSink;
use onetag_store::tree::MergedTree;
use onetag_store::{BlobWriter, LayerId, Stack, Store};
use rayon::prelude::*;

use crate::Engine;
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
}

impl Layers {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, stacks: Mutex::default() }
    }

    /// The folders of a snapshot, unpacked. `sink` hears of each layer that was not here or not unpacked.
    pub(crate) fn stack(&self, snapshot: &Snapshot, sink: &LayerSink<'_>) -> Result<Arc<Stack>, LayerError> {
        let ids = snapshot.ids();
        if let Some(stack) = self.known().get(&ids) {
            return Ok(Arc::clone(stack));
        }
        let store = self.engine.store()?;
        let missing: Vec<&ImageLayer> = snapshot
            .layers
            .iter()
            .filter_map(|layer| match layer {
                Layer::Image(layer) if store.unpacked_layer(&layer.diff_id).is_none() => Some(layer.as_ref()),
                _ => None,
            })
            .collect();
        missing.par_iter().try_for_each(|layer| self.unpack(store, layer, sink))?;
        let stack = Arc::new(store.stack(&ids)?);
        self.known().insert(ids, Arc::clone(&stack));
        Ok(stack)
    }

    /// The files of a snapshot as one tree.
    pub(crate) fn tree(&self, snapshot: &Snapshot, sink: &LayerSink<'_>) -> Result<MergedTree, LayerError> {
        let stack = self.stack(snapshot, sink)?;
        Ok(MergedTree::open(&stack.lowers, self.engine.store()?.ownership())?)
    }

    /// Brings an image layer's blob into the store.
    pub(crate) fn fetch(&self, layer: &ImageLayer, sink: &LayerSink<'_>) -> Result<(), LayerError> {
        let store = self.engine.store()?;
        if store.has_blob(&layer.descriptor.digest) {
            return Ok(());
        }
        let origin = origin(layer)?;
        sink(LayerEvent::Fetching, &layer.descriptor);
        fetch_blob(&self.engine, store, origin, &layer.descriptor)?;
        sink(LayerEvent::Fetched, &layer.descriptor);
        Ok(())
    }

    fn unpack(&self, store: &Store, layer: &ImageLayer, sink: &LayerSink<'_>) -> Result<(), LayerError> {
        self.fetch(layer, sink)?;
        sink(LayerEvent::Extracting, &layer.descriptor);
        store.ensure_layer(&layer.diff_id, &layer.descriptor.digest, &layer.descriptor.media_type)?;
        sink(LayerEvent::Extracted, &layer.descriptor);
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
    let mut sink = StoreSink(store.blob_writer()?);
    engine.client()?.fetch_blob(origin, descriptor, &mut sink)?;
    sink.0.finish(Some(&descriptor.digest), Some(descriptor.size))?;
    Ok(())
}

/// Fetched bytes on their way into the store, which verifies them.
struct StoreSink(BlobWriter);

impl BlobSink for StoreSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::Write::write_all(&mut self.0, bytes)
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.0.restart().map_err(std::io::Error::other)
    }

    fn verifies(&self) -> bool {
        true
    }
}
