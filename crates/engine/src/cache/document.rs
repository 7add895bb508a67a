//! What a cache says: which result each cache key has, and of which layers. Pure; see `docs/cache.md` for the format.
//!
//! Everything that is read here was written by somebody else: sizes, counts and every reference are checked before
//! anything is made of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use onetag_oci::{Descriptor, DiffId, Digest, media_type};
use serde::{Deserialize, Serialize};

/// The artifact type of a cache's manifest.
pub const ARTIFACT_TYPE: &str = "application/vnd.onetag.cache.v1";
/// The media type of its config, the document itself.
pub const RECORDS_TYPE: &str = "application/vnd.onetag.cache.records.v1+json";
/// The member of an image's config that holds an inline cache.
pub const INLINE_MEMBER: &str = "onetag.cache.v1";

/// The only version there is. Another one is not read.
const VERSION: u32 = 1;
/// A larger document is not read.
pub const DOCUMENT_LIMIT_BYTES: u64 = 16 << 20;
/// So many records at most, of read and of written documents.
const RECORD_LIMIT: usize = 20_000;
/// So many layers at most: the manifest that names them stays below what registries take.
const LAYER_LIMIT: usize = 8_000;
/// So many aliases at most.
const ALIAS_LIMIT: usize = 40_000;
/// One record has so many outputs at most.
const OUTPUT_LIMIT: usize = 64;
/// One output has so many layers at most.
const STACK_LIMIT: usize = 4_000;
/// Names of steps are not longer.
const TEXT_LIMIT: usize = 64 << 10;
/// What no build confirmed for so many days is left out when a cache is written.
const KEPT_DAYS: u64 = 30;

/// Why a document is not used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not of this shape.
    #[error("the records are no document of this format")]
    Json(#[from] serde_json::Error),
    /// Written by a later program.
    #[error("the records have version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// More of something than there may be.
    #[error("the records have {count} {what}, more than {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much of it there is.
        count: usize,
        /// How much there may be.
        limit: usize,
    },
    /// A record that names a layer which the document does not have.
    #[error("the record {key} names layer number {number}, there are {count}")]
    NoSuchLayer {
        /// The record's key.
        key: Digest,
        /// The number it names.
        number: usize,
        /// How many layers there are.
        count: usize,
    },
    /// A layer that is none.
    #[error("the layer {diff_id} is unusable: {problem}")]
    Layer {
        /// Its diff ID.
        diff_id: DiffId,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A blob as the document names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CacheBlob {
    /// Its media type, which is that of a layer.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl CacheBlob {
    /// The blob that a descriptor names.
    pub fn of(descriptor: &Descriptor) -> Self {
        let Descriptor { media_type, digest, size, .. } = descriptor;
        Self { media_type: media_type.clone(), digest: digest.clone(), size: *size }
    }

    /// A descriptor of it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest.clone(), self.size)
    }
}

/// The step that made a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CacheStep {
    /// When, RFC 3339.
    pub created: String,
    /// The step's name.
    pub description: String,
    /// The level that the blob is compressed with.
    pub level: i32,
}

/// A layer of results.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CacheLayer {
    /// The digest of its archive.
    #[serde(rename = "diffId")]
    pub diff_id: DiffId,
    /// The step that made it. None for a layer of a base image: who uses the cache has that image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<CacheStep>,
    /// Its blob. None for a layer of a base image, and in an image's own config: there the image's manifest has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<CacheBlob>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    key: Digest,
    /// Where it is not the key itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<Digest>,
    /// Of each output the numbers of its layers, the lowest first. None where only the identity is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outputs: Option<Vec<Vec<usize>>>,
    #[serde(default, skip_serializing_if = "is_zero")]
    day: u64,
}

#[derive(Serialize, Deserialize)]
struct Alias {
    fast: Digest,
    key: Digest,
    #[serde(default, skip_serializing_if = "is_zero")]
    day: u64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    #[serde(default)]
    layers: Vec<CacheLayer>,
    #[serde(default)]
    records: Vec<Record>,
    #[serde(default)]
    aliases: Vec<Alias>,
}

fn is_zero(day: &u64) -> bool {
    *day == 0
}

/// What is known under a cache key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The identity of the results.
    pub identity: Digest,
    /// The layers of each output, the lowest first; none where only the identity is known.
    pub outputs: Option<Vec<Vec<Arc<CacheLayer>>>>,
    /// The last day, counted from 1970, on which a build made or found it; 0 where that is not told.
    pub day: u64,
}

/// Records and aliases by key: what a document says, in the form that it is worked with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Records by their cache keys.
    pub records: BTreeMap<Digest, Entry>,
    /// Cache keys by the fast keys that lead to them, with the day as of a record.
    pub aliases: BTreeMap<Digest, (Digest, u64)>,
}

impl Table {
    /// Reads a document.
    ///
    /// # Errors
    /// It is not of this format, too large, or names what it does not have.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() as u64 > DOCUMENT_LIMIT_BYTES {
            let limit = usize::try_from(DOCUMENT_LIMIT_BYTES).unwrap_or(usize::MAX);
            return Err(DocumentError::TooMany { what: "bytes", count: bytes.len(), limit });
        }
        let document: Document = serde_json::from_slice(bytes)?;
        if document.version != VERSION {
            return Err(DocumentError::Version(document.version));
        }
        within("layers", document.layers.len(), LAYER_LIMIT)?;
        within("records", document.records.len(), RECORD_LIMIT)?;
        within("aliases", document.aliases.len(), ALIAS_LIMIT)?;
        document.layers.iter().try_for_each(check_layer)?;
        // Records share layers: a short list of numbers must not become a long list of copies.
        let layers: Vec<Arc<CacheLayer>> = document.layers.into_iter().map(Arc::new).collect();
        let mut table = Self::default();
        for record in document.records {
            let outputs = match &record.outputs {
                Some(outputs) => Some(read_outputs(&record.key, outputs, &layers)?),
                None => None,
            };
            let identity = record.identity.unwrap_or_else(|| record.key.clone());
            table.records.insert(record.key, Entry { identity, outputs, day: record.day });
        }
        table.aliases.extend(document.aliases.into_iter().map(|alias| (alias.fast, (alias.key, alias.day))));
        Ok(table)
    }

    /// The document's bytes: equal tables give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        onetag_oci::go_json(&self.document())
    }

    /// The document as a value, for an image's config.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self.document()).unwrap_or_default()
    }

    /// The blobs of all layers, each once, in the order of their digests.
    pub fn blobs(&self) -> Vec<CacheBlob> {
        let blobs: BTreeMap<&Digest, &CacheBlob> =
            self.layers().filter_map(|layer| layer.blob.as_ref()).map(|blob| (&blob.digest, blob)).collect();
        blobs.into_values().cloned().collect()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.aliases.is_empty()
    }

    /// Every day told as `day`.
    pub fn dated(mut self, day: u64) -> Self {
        self.records.values_mut().for_each(|entry| entry.day = day);
        self.aliases.values_mut().for_each(|alias| alias.1 = day);
        self
    }

    /// Takes in what another build knows. Of two records under one key with one identity the present one stays, so
    /// that builds which found the same change nothing; another identity tells of a later, deliberate execution and
    /// replaces it.
    pub fn merge(&mut self, other: &Table) {
        for (key, theirs) in &other.records {
            match self.records.get_mut(key) {
                Some(ours) if ours.identity == theirs.identity || theirs.outputs.is_none() => {
                    ours.day = ours.day.max(theirs.day);
                    if ours.outputs.is_none() && ours.identity == theirs.identity {
                        ours.outputs.clone_from(&theirs.outputs);
                    }
                }
                _ => {
                    self.records.insert(key.clone(), theirs.clone());
                }
            }
        }
        for (fast, (key, day)) in &other.aliases {
            let known = self.aliases.entry(fast.clone()).or_insert_with(|| (key.clone(), *day));
            let latest = known.1.max(*day);
            *known = (key.clone(), latest);
        }
    }

    /// Leaves out what no build confirmed for a month, and of more than there may be what is oldest.
    pub fn trim(&mut self, today: u64) {
        let is_fresh = |day: u64| day + KEPT_DAYS >= today;
        self.records.retain(|_, entry| is_fresh(entry.day));
        self.aliases.retain(|_, alias| is_fresh(alias.1));
        while self.records.len() > RECORD_LIMIT || self.layers().collect::<BTreeSet<_>>().len() > LAYER_LIMIT {
            let mut by_age: Vec<(u64, Digest)> =
                self.records.iter().map(|(key, entry)| (entry.day, key.clone())).collect();
            by_age.sort();
            by_age.truncate(by_age.len().div_ceil(8));
            by_age.iter().for_each(|(_, key)| drop(self.records.remove(key)));
        }
        if self.aliases.len() > ALIAS_LIMIT {
            let mut by_age: Vec<(u64, Digest)> =
                self.aliases.iter().map(|(fast, alias)| (alias.1, fast.clone())).collect();
            by_age.sort();
            by_age.truncate(self.aliases.len() - ALIAS_LIMIT);
            by_age.iter().for_each(|(_, fast)| drop(self.aliases.remove(fast)));
        }
    }

    fn layers(&self) -> impl Iterator<Item = &CacheLayer> {
        self.records.values().filter_map(|entry| entry.outputs.as_ref()).flatten().flatten().map(AsRef::as_ref)
    }

    fn document(&self) -> Document {
        let layers: Vec<CacheLayer> = self.layers().collect::<BTreeSet<_>>().into_iter().cloned().collect();
        let numbers: HashMap<&CacheLayer, usize> =
            layers.iter().enumerate().map(|(number, layer)| (layer, number)).collect();
        let numbered = |outputs: &Vec<Vec<Arc<CacheLayer>>>| {
            let number = |layer: &Arc<CacheLayer>| numbers.get(layer.as_ref()).copied();
            outputs.iter().map(|layers| layers.iter().filter_map(number).collect()).collect()
        };
        let record = |(key, entry): (&Digest, &Entry)| Record {
            key: key.clone(),
            identity: Some(entry.identity.clone()).filter(|identity| identity != key),
            outputs: entry.outputs.as_ref().map(numbered),
            day: entry.day,
        };
        let alias =
            |(fast, (key, day)): (&Digest, &(Digest, u64))| Alias { fast: fast.clone(), key: key.clone(), day: *day };
        let records = self.records.iter().map(record).collect();
        let aliases = self.aliases.iter().map(alias).collect();
        Document { version: VERSION, records, aliases, layers: layers.clone() }
    }
}

fn within(what: &'static str, count: usize, limit: usize) -> Result<(), DocumentError> {
    if count > limit { Err(DocumentError::TooMany { what, count, limit }) } else { Ok(()) }
}

fn check_layer(layer: &CacheLayer) -> Result<(), DocumentError> {
    let failed = |problem| Err(DocumentError::Layer { diff_id: layer.diff_id.clone(), problem });
    if let Some(step) = &layer.step
        && (step.created.len() > 64 || step.description.len() > TEXT_LIMIT)
    {
        return failed("its texts are too long");
    }
    match &layer.blob {
        Some(blob) if media_type::layer_compression(&blob.media_type).is_none() => failed("its blob is no layer"),
        Some(_) if layer.step.is_none() => failed("no step made it"),
        _ => Ok(()),
    }
}

fn read_outputs(
    key: &Digest,
    outputs: &[Vec<usize>],
    layers: &[Arc<CacheLayer>],
) -> Result<Vec<Vec<Arc<CacheLayer>>>, DocumentError> {
    within("outputs of one record", outputs.len(), OUTPUT_LIMIT)?;
    let mut read = Vec::with_capacity(outputs.len());
    for numbers in outputs {
        within("layers of one output", numbers.len(), STACK_LIMIT)?;
        let layer = |&number: &usize| {
            let count = layers.len();
            layers.get(number).cloned().ok_or_else(|| DocumentError::NoSuchLayer { key: key.clone(), number, count })
        };
        read.push(numbers.iter().map(layer).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
