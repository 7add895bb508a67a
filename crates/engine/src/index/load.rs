//! Everything an index names, read for templates: configs by platform, and attestations when somebody asks.

use std::collections::{BTreeMap, HashSet};

use onetag_oci::{Descriptor, Digest, Document, ImageConfig, Manifest, ManifestDocument};
use serde_json::Value;

use super::IndexError;
use crate::Engine;
use crate::content::{ContentError, Contents, Found, Location};

/// Indexes in indexes are followed this deep.
const MAXIMUM_DEPTH: usize = 8;
/// An attestation larger than this is not read, in bytes.
const ATTESTATION_LIMIT: u64 = 64 << 20;
/// Annotations that tell which image a manifest is about.
const REFERENCES: [&str; 2] = ["com.docker.reference.digest", "vnd.docker.reference.digest"];

/// The images below a name, by platform.
#[derive(Debug)]
pub struct ImageSet {
    location: Location,
    images: BTreeMap<String, Image>,
}

#[derive(Debug)]
struct Image {
    config: Document<ImageConfig>,
    attestations: Vec<Document<Manifest>>,
}

/// The attestations of one image, as far as there are any.
#[derive(Clone, Debug, Default)]
pub struct Attestations {
    /// SLSA provenance.
    pub provenance: Option<Value>,
    /// SPDX documents.
    pub spdx: Vec<Value>,
}

/// Reads the manifests and configs below a document.
///
/// # Errors
/// When one of them cannot be read.
pub fn load(engine: &Engine, location: &Location, found: &Found) -> Result<ImageSet, IndexError> {
    let contents = Contents::new(engine);
    let mut manifests = Vec::new();
    collect(&contents, location, found, 0, &mut HashSet::new(), &mut manifests)?;
    let mut abouts: Vec<(Digest, Document<Manifest>)> = Vec::new();
    let mut images: BTreeMap<String, (Digest, Document<Manifest>)> = BTreeMap::new();
    for (descriptor, manifest) in manifests {
        let subject = REFERENCES.iter().find_map(|key| descriptor.annotations.get(*key));
        match subject.and_then(|subject| subject.parse().ok()) {
            Some(subject) => abouts.push((subject, manifest)),
            None => {
                let platform = match &descriptor.platform {
                    Some(platform) => platform.normalize().to_string(),
                    None => contents.config(location, &manifest)?.platform().normalize().to_string(),
                };
                images.insert(platform, (descriptor.digest, manifest));
            }
        }
    }
    let mut set = ImageSet { location: location.clone(), images: BTreeMap::new() };
    for (platform, (digest, manifest)) in images {
        let config = contents.config(location, &manifest)?;
        let attestations =
            abouts.iter().filter(|(subject, _)| *subject == digest).map(|(_, manifest)| manifest.clone()).collect();
        set.images.insert(platform, Image { config, attestations });
    }
    Ok(set)
}

fn collect(
    contents: &Contents<'_>,
    location: &Location,
    found: &Found,
    depth: usize,
    walked: &mut HashSet<Digest>,
    out: &mut Vec<(Descriptor, Document<Manifest>)>,
) -> Result<(), IndexError> {
    if depth > MAXIMUM_DEPTH {
        return Err(ContentError::TooDeep { digest: found.descriptor.digest.clone(), limit: MAXIMUM_DEPTH }.into());
    }
    match &found.document {
        ManifestDocument::Manifest(manifest) => out.push((found.descriptor.clone(), manifest.clone())),
        ManifestDocument::Index(index) => {
            for child in &index.manifests {
                // Indexes that name each other many times are still read once.
                if walked.contains(&child.digest) {
                    continue;
                }
                let child = contents.document(location, child)?;
                collect(contents, location, &child, depth + 1, walked, out)?;
                if child.document.as_index().is_some() {
                    walked.insert(child.descriptor.digest);
                }
            }
        }
    }
    Ok(())
}

impl ImageSet {
    /// The platforms in byte order, with their configs.
    pub fn configs(&self) -> impl Iterator<Item = (&str, &Document<ImageConfig>)> {
        self.images.iter().map(|(platform, image)| (platform.as_str(), &image.config))
    }

    /// How many platforms there are.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Reads the attestations of all images, by platform; images without any have an empty entry.
    ///
    /// # Errors
    /// When one cannot be read, or is no in-toto statement.
    pub fn attestations(&self, engine: &Engine) -> Result<BTreeMap<String, Attestations>, IndexError> {
        let contents = Contents::new(engine);
        let mut all = BTreeMap::new();
        for (platform, image) in &self.images {
            let mut attestations = Attestations::default();
            for manifest in &image.attestations {
                for layer in &manifest.layers {
                    self.attestation(&contents, layer, &mut attestations)?;
                }
            }
            all.insert(platform.clone(), attestations);
        }
        Ok(all)
    }

    fn attestation(
        &self,
        contents: &Contents<'_>,
        layer: &Descriptor,
        attestations: &mut Attestations,
    ) -> Result<(), IndexError> {
        let predicate = layer.annotations.get("in-toto.io/predicate-type").map_or("", String::as_str);
        let is_spdx = predicate == "https://spdx.dev/Document";
        let is_provenance = predicate.starts_with("https://slsa.dev/provenance/");
        if layer.media_type != "application/vnd.in-toto+json" || !(is_spdx || is_provenance) {
            return Ok(());
        }
        let bytes = contents.blob(&self.location, layer, ATTESTATION_LIMIT)?;
        let mut statement: Value = serde_json::from_slice(&bytes)
            .map_err(|source| ContentError::Statement { digest: layer.digest.clone(), source })?;
        let predicate = statement.get_mut("predicate").map(Value::take).unwrap_or_default();
        if is_spdx {
            attestations.spdx.push(predicate);
        } else {
            attestations.provenance = Some(predicate);
        }
        Ok(())
    }
}
