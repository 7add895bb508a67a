//! Finding what is needed.

use std::collections::HashSet;

use onetag_oci::{Digest, ImageConfig, ManifestDocument};

use super::usage::{Usage, UsageKind};
use crate::error::Result;
use crate::leases::{Living, Resource};
use crate::record;
use crate::store::Store;

/// The largest document that is looked into, in bytes.
const MAX_DOCUMENT: u64 = 4 << 20;

/// Everything that names, living processes and cache records lead to. Records that need one of `dropped` count as
/// gone. `with_layers` tells whether an image needs its layers unpacked.
pub(super) fn mark(
    store: &Store,
    living: &Living,
    dropped: &HashSet<Resource>,
    with_layers: bool,
) -> Result<HashSet<Resource>> {
    let mut marker = Marker { store, needed: HashSet::new(), todo: Vec::new(), with_layers };
    for entry in store.read_index()?.manifests {
        marker.need(Resource::Blob(entry.digest));
    }
    for resource in &living.held {
        marker.need(resource.clone());
    }
    for (resource, _) in store.database().kept_resources()? {
        if !dropped.contains(&resource) {
            marker.need(resource);
        }
    }
    Ok(marker.all())
}

/// Everything that what living processes hold leads to.
pub(super) fn held(store: &Store, living: &Living) -> HashSet<Resource> {
    let mut marker = Marker { store, needed: HashSet::new(), todo: Vec::new(), with_layers: false };
    living.held.iter().for_each(|resource| marker.need(resource.clone()));
    marker.all()
}

struct Marker<'a> {
    store: &'a Store,
    needed: HashSet<Resource>,
    todo: Vec<Digest>,
    with_layers: bool,
}

impl Marker<'_> {
    fn all(mut self) -> HashSet<Resource> {
        while let Some(digest) = self.todo.pop() {
            self.document(&digest);
        }
        self.needed
    }

    fn need(&mut self, resource: Resource) {
        if let Resource::Blob(digest) = &resource
            && !self.needed.contains(&resource)
        {
            self.todo.push(digest.clone());
        }
        // What a step's result may have to be unpacked from; a layer is no document to look into.
        if let Resource::Step(step) = &resource
            && let Some(blob) = self.store.step_blob(step)
        {
            self.needed.insert(Resource::Blob(blob.descriptor.digest));
        }
        self.needed.insert(resource);
    }

    /// Follows what a document names. Content that is no document, damaged or absent leads nowhere.
    fn document(&mut self, digest: &Digest) {
        if self.store.blob_size(digest).is_none_or(|size| size > MAX_DOCUMENT) {
            return;
        }
        let Ok(content) = self.store.read_blob(digest, MAX_DOCUMENT) else { return };
        if content.first() != Some(&b'{') {
            return;
        }
        match ManifestDocument::parse(content, None) {
            Ok(ManifestDocument::Index(index)) => {
                let named = index.manifests.iter().map(|entry| entry.digest.clone());
                named.for_each(|digest| self.need(Resource::Blob(digest)));
            }
            Ok(ManifestDocument::Manifest(manifest)) => {
                let named = manifest.layers.iter().map(|layer| layer.digest.clone());
                named.for_each(|digest| {
                    // Layers are no documents: they are needed, but not looked into.
                    self.needed.insert(Resource::Blob(digest));
                });
                let config = manifest.config.digest.clone();
                self.needed.insert(Resource::Blob(config.clone()));
                if self.with_layers {
                    self.config(&config);
                }
            }
            Err(_) => {}
        }
    }

    fn config(&mut self, digest: &Digest) {
        let Ok(content) = self.store.read_blob(digest, MAX_DOCUMENT) else { return };
        if let Ok(config) = serde_json::from_slice::<ImageConfig>(&content) {
            self.needed.extend(config.rootfs.diff_ids.into_iter().map(Resource::Layer));
        }
    }
}

/// Whether a chain belongs to layers that are needed; it costs work to make again.
pub(super) fn is_kept_chain(item: &Usage, needed: &HashSet<Resource>) -> bool {
    if item.kind != UsageKind::Chain {
        return false;
    }
    record::layers_of(&item.path).is_some_and(|layers| layers.iter().all(|layer| needed.contains(&layer.resource())))
}
