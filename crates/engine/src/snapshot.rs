//! What operations make: immutable stacks of layers, and folders of the host that are only read.

use std::path::PathBuf;
use std::sync::Arc;

use onetag_oci::{Algorithm, Descriptor, DiffId, Digest, Digester, Reference};
use onetag_store::{LayerId, StepId, Store};
use serde::{Deserialize, Serialize};

use crate::context::LocalContext;

/// A layer that is an archive already: of an image that was there before the build, or of a step that another build
/// made and a cache led to. Its content is fetched and unpacked only when files are needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageLayer {
    /// The digest of its archive.
    pub(crate) diff_id: DiffId,
    /// Its blob.
    pub(crate) descriptor: Descriptor,
    /// Where the blob can be fetched from; `None` when it is in the store.
    pub(crate) origin: Option<Reference>,
    /// The step that made it; none for a layer of a base image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) made: Option<Made>,
}

/// What is known of a step whose layer came from a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// The step's name.
    pub(crate) description: String,
    /// The level that the blob is compressed with.
    pub(crate) level: i32,
    /// The OCI layout that has the blob, where no registry has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layout: Option<PathBuf>,
}

/// A layer that a step of a build made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepLayer {
    /// Its tree in the store.
    pub(crate) step: StepId,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// The step's name.
    pub(crate) description: String,
    /// The layers that it was made on, where those are not the ones below it in the snapshot: then what it holds is
    /// told from them when it is written as an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) below: Option<Vec<LayerId>>,
}

/// One layer of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layer {
    /// An archive, not necessarily here.
    Image(Box<ImageLayer>),
    /// Of a step.
    Step(Box<StepLayer>),
}

impl Layer {
    /// The layer's name in the store.
    pub(crate) fn id(&self) -> LayerId {
        match self {
            Self::Image(layer) => LayerId::Diff(layer.diff_id.clone()),
            Self::Step(layer) => LayerId::Step(layer.step.clone()),
        }
    }
}

/// An immutable file system: layers, the lowest first. Without layers it is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The layers.
    pub(crate) layers: Vec<Layer>,
}

impl Snapshot {
    /// The file system of `layers`.
    pub(crate) fn new(layers: Vec<Layer>) -> Self {
        Self { layers }
    }

    /// The file system of that name, which is its JSON, if everything that only the store has is there. Layers of
    /// caches elsewhere count as there when `with_remote` is set.
    pub(crate) fn load(name: &str, store: &Store, with_remote: bool) -> Option<Self> {
        let snapshot: Self = serde_json::from_str(name).ok()?;
        let is_there = |layer: &Layer| match layer {
            Layer::Step(_) => store.has_layer(&layer.id()),
            Layer::Image(image) => match &image.made {
                None => true,
                Some(made) => {
                    let is_elsewhere = image.origin.is_some() || made.layout.is_some();
                    (with_remote && is_elsewhere) || store.has_blob(&image.descriptor.digest)
                }
            },
        };
        snapshot.layers.iter().all(is_there).then_some(snapshot)
    }

    /// This file system with another layer on top.
    pub(crate) fn with(&self, layer: Layer) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers }
    }

    /// The layers from number `first` on, fit to be laid over something else.
    pub(crate) fn detached(&self, first: usize) -> Vec<Layer> {
        let ids = self.ids();
        let detach = |(position, layer): (usize, &Layer)| match layer {
            Layer::Step(step) if step.below.is_none() => {
                let below = Some(ids[..position].to_vec());
                Layer::Step(Box::new(StepLayer { below, ..step.as_ref().clone() }))
            }
            layer => layer.clone(),
        };
        self.layers.iter().enumerate().skip(first).map(detach).collect()
    }

    /// The names of the layers, the lowest first.
    pub(crate) fn ids(&self) -> Vec<LayerId> {
        self.layers.iter().map(Layer::id).collect()
    }

    /// What the layers are, wherever they came from.
    pub(crate) fn identity(&self) -> Digest {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(b"onetag.snapshot.1\0");
        for layer in &self.layers {
            digester.update(layer.id().to_string().as_bytes());
            digester.update(b"\0");
        }
        digester.finish()
    }
}

/// The result of an operation.
#[derive(Clone, Debug)]
pub(crate) enum Artifact {
    /// A file system.
    Snapshot(Arc<Snapshot>),
    /// A folder of the host, filtered.
    Local(Arc<LocalContext>),
}

impl Default for Artifact {
    /// An empty file system.
    fn default() -> Self {
        Self::Snapshot(Arc::default())
    }
}
