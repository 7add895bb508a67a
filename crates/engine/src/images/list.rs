//! The list of images: name, index, platforms, sizes.

use std::collections::HashMap;

use onetag_oci::{Digest, Platform};
use onetag_store::Store;

use super::Result;
use super::find::{LocalImage, all};
use super::presence::{Entry, entries};

/// An image of the list.
#[derive(Clone, Debug)]
pub struct ImageSummary {
    /// The image.
    pub image: LocalImage,
    /// Its platforms in the order of the index, attestations left out.
    pub platforms: Vec<PlatformSummary>,
    /// When the newest of the platforms here was made, RFC 3339.
    pub created: Option<String>,
    /// Bytes of its content that are here; shared content counts.
    pub size: u64,
    /// Of these, bytes that other images of the store have too.
    pub shared_size: u64,
}

/// A platform of an image.
#[derive(Clone, Debug)]
pub struct PlatformSummary {
    /// The manifest.
    pub digest: Digest,
    /// The platform; `None` when it cannot be told because its config is not here.
    pub platform: Option<Platform>,
    /// Whether all of it is here.
    pub is_here: bool,
    /// When it was made, RFC 3339, if it is here.
    pub created: Option<String>,
    /// Bytes of its config and layers that are here.
    pub size: u64,
    /// Labels of its config.
    pub labels: Vec<(String, String)>,
}

/// All images of the store.
///
/// # Errors
/// When the store cannot be read.
pub fn list(store: &Store) -> Result<Vec<ImageSummary>> {
    let images = all(store)?;
    let mut uses: HashMap<Digest, usize> = HashMap::new();
    let mut contents = Vec::with_capacity(images.len());
    for image in &images {
        let entries = entries(store, &image.descriptor)?;
        let blobs = blobs(store, image, &entries);
        for digest in blobs.keys() {
            *uses.entry(digest.clone()).or_default() += 1;
        }
        contents.push((entries, blobs));
    }
    let summaries = images.into_iter().zip(contents).map(|(image, (entries, blobs))| {
        let shared = blobs.iter().filter(|(digest, _)| uses.get(*digest).is_some_and(|uses| *uses > 1));
        let shared_size = shared.map(|(_, size)| size).sum();
        let platforms: Vec<_> =
            entries.iter().filter(|entry| !entry.is_attestation).map(|entry| platform(store, entry)).collect();
        let created = platforms.iter().filter_map(|platform| platform.created.clone()).max();
        ImageSummary { image, platforms, created, size: blobs.values().sum(), shared_size }
    });
    Ok(summaries.collect())
}

/// Sizes of all blobs of an image that are here.
fn blobs(store: &Store, image: &LocalImage, entries: &[Entry]) -> HashMap<Digest, u64> {
    let mut blobs = HashMap::new();
    let documents = entries.iter().map(|entry| &entry.descriptor.digest).chain([&image.descriptor.digest]);
    let manifests = entries.iter().filter_map(|entry| entry.manifest.as_ref());
    let contents =
        manifests.flat_map(|manifest| manifest.layers.iter().chain([&manifest.config])).map(|blob| &blob.digest);
    for digest in documents.chain(contents) {
        if let Some(size) = store.blob_size(digest) {
            blobs.insert(digest.clone(), size);
        }
    }
    blobs
}

fn platform(store: &Store, entry: &Entry) -> PlatformSummary {
    let blobs = entry.manifest.iter().flat_map(|manifest| manifest.layers.iter().chain([&manifest.config]));
    let mut sizes: HashMap<&Digest, u64> = HashMap::new();
    for blob in blobs {
        if let Some(size) = store.blob_size(&blob.digest) {
            sizes.insert(&blob.digest, size);
        }
    }
    let config = entry.config.as_ref();
    PlatformSummary {
        digest: entry.descriptor.digest.clone(),
        platform: entry.platform.as_ref().map(Platform::normalize),
        is_here: entry.is_complete(),
        created: config.and_then(|config| config.created.clone()),
        size: sizes.values().sum(),
        labels: config
            .map(|config| config.config.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
            .unwrap_or_default(),
    }
}
