//! Which platforms of an image are in the store, whole or in part.

use std::collections::HashSet;

use onetag_oci::{
    DEFAULT_DOCUMENT_LIMIT, Descriptor, Digest, Document, ImageConfig, Manifest, ManifestDocument, Platform,
};
use onetag_store::Store;

use super::Result;
use crate::content::ContentError;

/// The annotation that tells which manifest an attestation is about.
pub(super) const ATTESTED: &str = "vnd.docker.reference.digest";

/// Indexes in indexes are followed this deep.
const MAXIMUM_DEPTH: usize = 8;

/// A manifest of an image, and how much of it is here.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The manifest's descriptor, as the index has it.
    pub descriptor: Descriptor,
    /// Its platform: from the index, else from its config; `None` when neither tells.
    pub platform: Option<Platform>,
    /// Whether it is about another entry rather than an image.
    pub is_attestation: bool,
    /// The manifest, when it is here.
    pub manifest: Option<Document<Manifest>>,
    /// The config, when it is here.
    pub config: Option<Document<ImageConfig>>,
    /// Layers that are not here.
    pub missing_layers: usize,
}

impl Entry {
    /// Whether everything needed to run it is here.
    pub fn is_complete(&self) -> bool {
        self.config.is_some() && self.missing_layers == 0
    }
}

/// All manifests of an image in the order of its index; indexes within it are followed.
///
/// # Errors
/// When a document that is here cannot be read. Absent ones are no error.
pub fn entries(store: &Store, descriptor: &Descriptor) -> Result<Vec<Entry>> {
    walk(store, descriptor).map(|(entries, _)| entries)
}

/// As [`entries`], with the digests of the indexes that led to them.
pub(super) fn walk(store: &Store, descriptor: &Descriptor) -> Result<(Vec<Entry>, HashSet<Digest>)> {
    let (mut out, mut walked) = (Vec::new(), HashSet::new());
    collect(store, descriptor, 0, &mut walked, &mut out)?;
    Ok((out, walked))
}

/// Digests of manifests with those of what is attested of them.
pub(super) fn with_attestations(entries: &[Entry], mut manifests: HashSet<Digest>) -> HashSet<Digest> {
    let attested = entries.iter().filter(|entry| {
        let subject = entry.descriptor.annotations.get(ATTESTED).and_then(|subject| subject.parse().ok());
        entry.is_attestation && subject.is_some_and(|subject| manifests.contains(&subject))
    });
    let attested: Vec<Digest> = attested.map(|entry| entry.descriptor.digest.clone()).collect();
    manifests.extend(attested);
    manifests
}

fn collect(
    store: &Store,
    descriptor: &Descriptor,
    depth: usize,
    walked: &mut HashSet<Digest>,
    out: &mut Vec<Entry>,
) -> Result<()> {
    if depth > MAXIMUM_DEPTH {
        return Err(ContentError::TooDeep { digest: descriptor.digest.clone(), limit: MAXIMUM_DEPTH }.into());
    }
    if !store.has_blob(&descriptor.digest) {
        out.push(Entry {
            platform: descriptor.platform.clone(),
            is_attestation: descriptor.is_attestation(),
            descriptor: descriptor.clone(),
            manifest: None,
            config: None,
            missing_layers: 0,
        });
        return Ok(());
    }
    match document(store, descriptor)? {
        // Indexes that name each other many times are still read once.
        ManifestDocument::Index(index) if walked.insert(index.digest().clone()) => {
            index.manifests.iter().try_for_each(|child| collect(store, child, depth + 1, walked, out))
        }
        ManifestDocument::Index(_) => Ok(()),
        ManifestDocument::Manifest(manifest) => {
            out.push(entry(store, descriptor, manifest)?);
            Ok(())
        }
    }
}

fn entry(store: &Store, descriptor: &Descriptor, manifest: Document<Manifest>) -> Result<Entry> {
    let is_attestation = descriptor.is_attestation();
    let config = match store.has_blob(&manifest.config.digest) && !is_attestation {
        true => Some(config(store, &manifest)?),
        false => None,
    };
    let missing_layers = manifest.layers.iter().filter(|layer| !store.has_blob(&layer.digest)).count();
    let platform = descriptor.platform.clone().or_else(|| config.as_ref().map(|config| config.platform()));
    let mut descriptor = descriptor.clone();
    if descriptor.media_type.is_empty() {
        descriptor.media_type = manifest.media_type.clone().unwrap_or_default();
    }
    Ok(Entry { descriptor, platform, is_attestation, manifest: Some(manifest), config, missing_layers })
}

/// Reads a stored manifest or index.
pub(super) fn document(store: &Store, descriptor: &Descriptor) -> Result<ManifestDocument> {
    let bytes = store.read_blob(&descriptor.digest, DEFAULT_DOCUMENT_LIMIT as u64)?;
    let hint = Some(descriptor.media_type.as_str()).filter(|media_type| !media_type.is_empty());
    Ok(ManifestDocument::parse(bytes, hint)
        .map_err(|source| ContentError::Document { what: descriptor.digest.to_string(), source })?)
}

fn config(store: &Store, manifest: &Manifest) -> Result<Document<ImageConfig>> {
    let bytes = store.read_blob(&manifest.config.digest, DEFAULT_DOCUMENT_LIMIT as u64)?;
    Ok(Document::parse(bytes)
        .map_err(|source| ContentError::Document { what: manifest.config.digest.to_string(), source })?)
}
