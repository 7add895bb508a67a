//! Where caches are: reading what is there, writing anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use onetag_oci::{Descriptor, DiffId, Digest, Document, Manifest, ManifestDocument, Reference, media_type};
use onetag_registry::BlobSource;
use serde::Deserialize;

use super::document::{ARTIFACT_TYPE, CacheBlob, CacheLayer, DOCUMENT_LIMIT_BYTES, INLINE_MEMBER, RECORDS_TYPE, Table};
use super::options::CachePlace;
use super::{CacheError, Result};
use crate::Engine;
use crate::content::layout;

/// BuildKit's config of a cache.
const BUILDKIT_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Images of an index that are looked into for their inline caches.
const IMAGE_LIMIT: usize = 64;
/// Configs of images are not larger.
const CONFIG_LIMIT_BYTES: u64 = 4 << 20;
/// The content of the one layer of a manifest that has none.
const EMPTY: &[u8] = b"{}";

/// A cache that was found.
#[derive(Debug)]
pub(super) struct FoundCache {
    /// The manifest or index that its name means.
    pub(super) digest: Digest,
    /// What it says. Every layer of a step has a blob.
    pub(super) table: Table,
    /// Whether it is nothing but a cache, which may be replaced by one that says more.
    pub(super) is_own: bool,
}

/// A place, opened.
pub(super) struct Place<'a> {
    engine: &'a Engine,
    place: &'a CachePlace,
}

/// The part of an image's config that says something of caches.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    rootfs: RootFs,
    #[serde(rename = "onetag.cache.v1", default)]
    cache: Option<serde_json::Value>,
    #[serde(rename = "moby.buildkit.cache.v0", default)]
    buildkit: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<DiffId>>,
}

impl<'a> Place<'a> {
    pub(super) fn new(engine: &'a Engine, place: &'a CachePlace) -> Self {
        Self { engine, place }
    }

    /// What is there, if anything is.
    pub(super) fn read(&self) -> Result<Option<FoundCache>> {
        let Some(document) = self.document()? else { return Ok(None) };
        let digest = document.digest().clone();
        let is_own = document.as_manifest().is_some_and(|manifest| is_cache(manifest));
        let table = match &document {
            ManifestDocument::Manifest(manifest) => self.manifest(manifest)?,
            ManifestDocument::Index(index) => {
                if index.manifests.iter().any(|entry| entry.media_type == BUILDKIT_TYPE) {
                    return Err(CacheError::BuildKit { place: self.place.to_string() });
                }
                let is_image = |entry: &&Descriptor| media_type::is_manifest(&entry.media_type);
                let images = index.manifests.iter().filter(|entry| !entry.is_attestation()).filter(is_image);
                let mut table = Table::default();
                let mut refused = None;
                for entry in images.take(IMAGE_LIMIT) {
                    let bytes = self.blob_or_manifest(entry)?;
                    match Document::<Manifest>::parse(bytes).map_err(CacheError::from).and_then(|m| self.manifest(&m)) {
                        Ok(found) => table.merge(&found),
                        Err(error @ (CacheError::NoCache { .. } | CacheError::BuildKit { .. })) => {
                            refused = Some(error)
                        }
                        Err(error) => return Err(error),
                    }
                }
                match refused {
                    Some(error) if table.is_empty() => return Err(error),
                    _ => table,
                }
            }
        };
        Ok(Some(FoundCache { digest, table, is_own }))
    }

    /// The digest that the name means now.
    pub(super) fn current(&self) -> Result<Option<Digest>> {
        match self.place {
            CachePlace::Registry(reference) => match self.engine.client()?.resolve(reference) {
                Ok(descriptor) => Ok(Some(descriptor.digest)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            },
            _ => Ok(self.document()?.map(|document| document.digest().clone())),
        }
    }

    /// Brings a layer's blob there.
    pub(super) fn put_layer(&self, blob: &Descriptor, source: &dyn BlobSource, near: &[Reference]) -> Result<()> {
        match self.place {
            CachePlace::Registry(reference) => {
                let repository = reference.name_only();
                let is_mountable =
                    |other: &&Reference| other.domain() == repository.domain() && other.path() != repository.path();
                let near: Vec<Reference> = near.iter().filter(is_mountable).cloned().collect();
                self.engine.client()?.push_blob(&repository, blob, source, &near)?;
            }
            CachePlace::Local { folder, .. } => {
                if !layout::blob_path(folder, &blob.digest).exists() {
                    let mut content = source.open(0).map_err(CacheError::Source)?;
                    layout::write(folder, &blob.digest, &mut content)?;
                }
            }
            CachePlace::Inline => {}
        }
        Ok(())
    }

    /// Puts a cache there; its layers MUST be there. Gives the digest that the name then means.
    pub(super) fn write(&self, table: &Table, unless: impl FnOnce() -> Result<bool>) -> Result<Option<Digest>> {
        let records = table.to_bytes();
        let config = Descriptor::new(RECORDS_TYPE, Digest::sha256(&records), records.len() as u64);
        let mut layers: Vec<Descriptor> = table.blobs().iter().map(CacheBlob::descriptor).collect();
        self.put_layer(&config, &records, &[])?;
        if layers.is_empty() {
            let empty = Descriptor::new(media_type::EMPTY, Digest::sha256(EMPTY), EMPTY.len() as u64);
            self.put_layer(&empty, &EMPTY.to_vec(), &[])?;
            layers.push(empty);
        }
        let mut manifest = Manifest::new(config, layers);
        manifest.artifact_type = Some(ARTIFACT_TYPE.to_owned());
        let manifest = Document::from_value(manifest);
        if unless()? {
            return Ok(None);
        }
        match self.place {
            CachePlace::Registry(reference) => {
                self.engine.client()?.push_manifest(reference, manifest.bytes(), media_type::OCI_MANIFEST)?;
            }
            CachePlace::Local { folder, tag, .. } => {
                layout::write(folder, manifest.digest(), &mut manifest.bytes())?;
                let mut entry = Descriptor::new(media_type::OCI_MANIFEST, manifest.digest().clone(), manifest.size());
                entry.artifact_type = Some(ARTIFACT_TYPE.to_owned());
                layout::set(folder, Some(tag), &entry)?;
            }
            CachePlace::Inline => {}
        }
        Ok(Some(manifest.digest().clone()))
    }

    fn document(&self) -> Result<Option<ManifestDocument>> {
        match self.place {
            CachePlace::Registry(reference) => match self.engine.client()?.manifest(reference) {
                Ok(document) => Ok(Some(document)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            },
            CachePlace::Local { folder, tag, digest } => {
                let found = match digest {
                    Some(digest) => layout::blob_path(folder, digest).exists().then(|| digest.clone()),
                    None => layout::find(folder, Some(tag))?.map(|entry| entry.digest),
                };
                let Some(digest) = found else { return Ok(None) };
                let bytes = self.blob(&Descriptor::new("", digest, 0), CONFIG_LIMIT_BYTES)?;
                Ok(Some(ManifestDocument::parse(bytes, None)?))
            }
            CachePlace::Inline => Ok(None),
        }
    }

    fn blob_or_manifest(&self, entry: &Descriptor) -> Result<Vec<u8>> {
        match self.place {
            CachePlace::Registry(reference) => {
                let reference = reference.name_only().with_digest(entry.digest.clone());
                Ok(self.engine.client()?.manifest(&reference)?.bytes().to_vec())
            }
            _ => self.blob(entry, CONFIG_LIMIT_BYTES),
        }
    }

    fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        let digest = || descriptor.digest.clone();
        if descriptor.size > limit {
            return Err(CacheError::TooLarge { digest: digest(), size: descriptor.size, limit });
        }
        match self.place {
            CachePlace::Registry(reference) => {
                // Nothing but what names the blob: not where else it might be.
                let plain = Descriptor::new("application/octet-stream", digest(), descriptor.size);
                let mut bytes: Vec<u8> = Vec::new();
                self.engine.client()?.fetch_blob(&reference.name_only(), &plain, &mut bytes)?;
                Ok(bytes)
            }
            CachePlace::Local { folder, .. } => {
                let path = layout::blob_path(folder, &descriptor.digest);
                let size = std::fs::metadata(&path).map_or(0, |file| file.len());
                if size > limit {
                    return Err(CacheError::TooLarge { digest: digest(), size, limit });
                }
                Ok(layout::read(folder, &descriptor.digest)?)
            }
            CachePlace::Inline => Ok(Vec::new()),
        }
    }

    fn manifest(&self, manifest: &Manifest) -> Result<Table> {
        if is_cache(manifest) {
            return self.artifact(manifest);
        }
        if manifest.config.media_type == BUILDKIT_TYPE {
            return Err(CacheError::BuildKit { place: self.place.to_string() });
        }
        if !media_type::is_config(&manifest.config.media_type) {
            return Err(CacheError::NoCache { place: self.place.to_string() });
        }
        let config: Config = serde_json::from_slice(&self.blob(&manifest.config, CONFIG_LIMIT_BYTES)?)?;
        let Some(cache) = config.cache else {
            let place = self.place.to_string();
            return Err(match config.buildkit {
                Some(_) => CacheError::BuildKit { place },
                None => CacheError::NoCache { place },
            });
        };
        let table = Table::parse(&onetag_oci::go_json(&cache))?;
        let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
        if diff_ids.len() != manifest.layers.len() {
            return Err(CacheError::NoCache { place: self.place.to_string() });
        }
        let blobs: BTreeMap<&DiffId, CacheBlob> =
            diff_ids.iter().zip(manifest.layers.iter().map(CacheBlob::of)).collect();
        Ok(with_blobs(table, &blobs))
    }

    fn artifact(&self, manifest: &Manifest) -> Result<Table> {
        let table = Table::parse(&self.blob(&manifest.config, DOCUMENT_LIMIT_BYTES)?)?;
        // What the manifest does not name, the registry does not keep.
        let kept: BTreeSet<(&Digest, u64)> = manifest.layers.iter().map(|layer| (&layer.digest, layer.size)).collect();
        if let Some(blob) = table.blobs().iter().find(|blob| !kept.contains(&(&blob.digest, blob.size))) {
            return Err(CacheError::UnknownBlob { digest: blob.digest.clone() });
        }
        Ok(with_blobs(table, &BTreeMap::new()))
    }
}

fn is_cache(manifest: &Manifest) -> bool {
    manifest.artifact_type.as_deref() == Some(ARTIFACT_TYPE) && manifest.config.media_type == RECORDS_TYPE
}

/// The table with a blob for every layer of a step; what needs one that is not there has no results.
fn with_blobs(mut table: Table, blobs: &BTreeMap<&DiffId, CacheBlob>) -> Table {
    let fill = |layer: &mut Arc<CacheLayer>| -> bool {
        if layer.step.is_none() || layer.blob.is_some() {
            return true;
        }
        let Some(blob) = blobs.get(&layer.diff_id) else { return false };
        *layer = Arc::new(CacheLayer { blob: Some(blob.clone()), ..layer.as_ref().clone() });
        true
    };
    for entry in table.records.values_mut() {
        let is_whole = entry.outputs.as_mut().is_none_or(|outputs| outputs.iter_mut().flatten().all(fill));
        if !is_whole {
            entry.outputs = None;
        }
    }
    table
}

/// A blob of the store on its way into a cache; fetched first where it is not here.
pub(super) struct StoreBlob<'a> {
    pub(super) engine: &'a Engine,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Brings the blob into the store.
    pub(super) fetch: Box<dyn Fn() -> std::io::Result<()> + Send + Sync + 'a>,
}

impl BlobSource for StoreBlob<'_> {
    fn open(&self, offset_bytes: u64) -> std::io::Result<Box<dyn Read + Send>> {
        (self.fetch)()?;
        let store = self.engine.store().map_err(std::io::Error::other)?;
        let mut file: File = store.open_blob(&self.digest).map_err(std::io::Error::other)?;
        file.seek(SeekFrom::Start(offset_bytes))?;
        Ok(Box::new(file))
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// Held while a cache is read, merged and written: builds on one machine do it one after the other.
pub(super) fn lock(engine: &Engine, place: &CachePlace) -> Result<File> {
    let path: PathBuf = match place {
        CachePlace::Local { folder, .. } => {
            std::fs::create_dir_all(folder).map_err(|source| CacheError::Folder { path: folder.clone(), source })?;
            folder.clone()
        }
        _ => {
            let name = Digest::sha256(place.to_string().as_bytes());
            let path = engine.store()?.root().join("locks").join(format!("cache-{}", &name.encoded()[..16]));
            File::create(&path).map_err(|source| CacheError::Folder { path: path.clone(), source })?;
            path
        }
    };
    let file = File::open(&path).map_err(|source| CacheError::Folder { path: path.clone(), source })?;
    file.lock().map_err(|source| CacheError::Folder { path, source })?;
    Ok(file)
}

// The attribute of `Config` is a literal.
const _: () = assert!(matches!(INLINE_MEMBER.as_bytes(), b"onetag.cache.v1"));
