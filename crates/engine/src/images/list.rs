//! The list of images: name, index, platforms, sizes.

use std::collections::{HashMap, HashSet};

use onetag_oci::{Descriptor, Digest, Platform, Reference};
use onetag_store::Store;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Result;
use super::find::{LocalImage, all};
use super::missing::{is_here, platform_of};
use super::presence::{Entry, entries};
use super::remembered::{keep, recall};

/// So many images are read by one thread before another helps.
const AT_ONCE: usize = 32;

/// An image of the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// Its names, canonical, in byte order. Several names of one digest are one image.
    pub names: Vec<String>,
    /// The index or manifest that they mean.
    pub digest: Digest,
    /// Its platforms in the order of the index, attestations left out.
    pub platforms: Vec<PlatformSummary>,
    /// What is attested of them, in the order of the index.
    pub attestations: Vec<PlatformSummary>,
    /// When the newest of the platforms here was made, RFC 3339.
    pub created: Option<String>,
    /// Bytes of its content that are here; shared content counts.
    pub size: u64,
    /// Of these, bytes that other images of the store have too.
    pub shared_size: u64,
}

/// A platform of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlatformSummary {
    /// The manifest.
    pub digest: Digest,
    /// The platform, of an attestation the one that it is about; `None` when it cannot be told.
    pub platform: Option<Platform>,
    /// Whether all of it is here.
    pub is_here: bool,
    /// When it was made, RFC 3339, if it is here.
    pub created: Option<String>,
    /// Bytes of its config and layers that are here.
    pub size: u64,
    /// Of these, bytes that other platforms, of this image or of others, have too.
    pub shared_size: u64,
    /// Labels of its config.
    pub labels: Vec<(String, String)>,
}

impl ImageSummary {
    /// The names as users write them.
    pub fn references(&self) -> impl Iterator<Item = Reference> {
        self.names.iter().filter_map(|name| Reference::parse(name).ok())
    }
}

/// All images of the store in the order of their first names.
///
/// # Errors
/// When the store cannot be read.
pub fn list(store: &Store) -> Result<Vec<ImageSummary>> {
    let state = store.state()?;
    if let Some(known) = recall(store, &state) {
        return Ok(known);
    }
    let worked_out = work_out(store)?;
    keep(store, &state, &worked_out);
    Ok(worked_out)
}

fn work_out(store: &Store) -> Result<Vec<ImageSummary>> {
    let images = all(store)?;
    let mut uses: HashMap<Digest, usize> = HashMap::new();
    let mut users: HashMap<Digest, HashSet<Digest>> = HashMap::new();
    let read = |image: &LocalImage| -> Result<_> {
        let entries = entries(store, &image.descriptor)?;
        let blobs = blobs(store, image, &entries);
        Ok((entries, blobs))
    };
    let contents = images.par_iter().with_min_len(AT_ONCE).map(read).collect::<Result<Vec<_>>>()?;
    for (entries, blobs) in &contents {
        for digest in blobs.keys() {
            *uses.entry(digest.clone()).or_default() += 1;
        }
        for entry in entries {
            for blob in content(entry) {
                users.entry(blob.digest.clone()).or_default().insert(entry.descriptor.digest.clone());
            }
        }
    }
    let summaries = images.into_iter().zip(contents).map(|(image, (entries, blobs))| {
        let shared = blobs.iter().filter(|(digest, _)| uses.get(*digest).is_some_and(|uses| *uses > 1));
        let shared_size = shared.map(|(_, size)| size).sum();
        let (attestations, platforms): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.is_attestation);
        let summary = |entry: &Entry| summary(entry, &entries, &blobs, &users);
        let platforms: Vec<_> = platforms.into_iter().map(summary).collect();
        let attestations = attestations.into_iter().map(summary).collect();
        let created = platforms.iter().filter_map(|platform| platform.created.clone()).max();
        let (names, digest, size) = (image.names, image.descriptor.digest, blobs.values().sum());
        ImageSummary { names, digest, platforms, attestations, created, size, shared_size }
    });
    Ok(summaries.collect())
}

/// Sizes of all blobs of an image that are here.
fn blobs(store: &Store, image: &LocalImage, entries: &[Entry]) -> HashMap<Digest, u64> {
    let mut blobs = HashMap::new();
    let documents = entries.iter().map(|entry| &entry.descriptor.digest).chain([&image.descriptor.digest]);
    let contents = entries.iter().flat_map(content).map(|blob| &blob.digest);
    for digest in documents.chain(contents) {
        if let Some(size) = store.blob_size(digest) {
            blobs.insert(digest.clone(), size);
        }
    }
    blobs
}

/// What an entry is made of beside its manifest.
fn content(entry: &Entry) -> impl Iterator<Item = &Descriptor> {
    entry.manifest.iter().flat_map(|manifest| manifest.layers.iter().chain([&manifest.config]))
}

fn summary(
    entry: &Entry,
    entries: &[Entry],
    blobs: &HashMap<Digest, u64>,
    users: &HashMap<Digest, HashSet<Digest>>,
) -> PlatformSummary {
    let digests: HashSet<&Digest> = content(entry).map(|blob| &blob.digest).collect();
    let sizes = digests.iter().filter_map(|digest| Some((digest, blobs.get(*digest)?)));
    let shared = sizes.clone().filter(|(digest, _)| users.get(**digest).is_some_and(|users| users.len() > 1));
    let config = entry.config.as_ref();
    let labels = config.map(|config| config.config.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    PlatformSummary {
        digest: entry.descriptor.digest.clone(),
        platform: platform_of(entry, entries),
        is_here: is_here(entry),
        created: config.and_then(|config| config.created.clone()),
        size: sizes.map(|(_, size)| size).sum(),
        shared_size: shared.map(|(_, size)| size).sum(),
        labels: labels.map(Iterator::collect).unwrap_or_default(),
    }
}
