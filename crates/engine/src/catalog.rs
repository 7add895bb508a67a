//! Finding images: in the local store, else in their registry. Metadata only.
//!
//! Documents are immutable by digest, so what was read once is kept in the store and never asked for again; a tag is
//! asked for once a build.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use onetag_dockerfile::resolver::ResolveMode;
use onetag_oci::{
    Descriptor, DiffId, Digest, Document, DocumentError, ImageConfig, Manifest, ManifestDocument, Platform,
    PlatformMatcher, Reference, media_type, only, select,
};
use onetag_solver::Cancellation;

use crate::Engine;
use crate::build::UsedLock;
use crate::content::{Contents, Location, Transfer};
use crate::snapshot::{ImageLayer, Layer, Snapshot};

/// Documents are not larger than this.
const DOCUMENT_LIMIT_BYTES: u64 = 4 << 20;
/// Indexes in indexes are followed this deep.
const MAXIMUM_DEPTH: usize = 8;

/// Why an image cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// The image exists, but not for this platform.
    #[error("no match for platform in manifest: not found ({reference} has no {wanted}, it has {})", list(available))]
    NoMatch {
        /// The image.
        reference: String,
        /// The platform that was wanted.
        wanted: String,
        /// The platforms that there are.
        available: Vec<String>,
    },
    /// A local index has the platform, but its content is neither here nor to be had.
    #[error("{reference}: {wanted} is in the index but its content is not here")]
    NotHere {
        /// The image, as users write it.
        reference: String,
        /// The platform.
        wanted: String,
        /// Why it could not be had.
        #[source]
        source: Box<CatalogError>,
    },
    /// There is no such image.
    #[error("{reference}: not found")]
    NotFound {
        /// The image.
        reference: String,
    },
    /// The registry did not give it.
    #[error(transparent)]
    Registry(Arc<onetag_registry::Error>),
    /// The store did not give it.
    #[error(transparent)]
    Store(Arc<onetag_store::Error>),
    /// A document cannot be used.
    #[error("{reference}: unusable {what}")]
    Document {
        /// The image.
        reference: String,
        /// Which document.
        what: &'static str,
        /// Why not.
        #[source]
        source: Arc<DocumentError>,
    },
    /// Indexes in indexes, deeper than anybody needs.
    #[error("{reference}: {digest} is nested more than {MAXIMUM_DEPTH} indexes deep")]
    TooDeep {
        /// The image.
        reference: String,
        /// The inner index.
        digest: Digest,
    },
    /// An OCI layout that cannot be read.
    #[error("cannot use {layout}")]
    Layout {
        /// What was given.
        layout: String,
        /// Why not.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The lock file has a digest that cannot be had.
    #[error("{lock} has {digest} for {reference}")]
    Locked {
        /// The image.
        reference: String,
        /// Its digest.
        digest: Digest,
        /// The lock file.
        lock: String,
        /// Why not.
        #[source]
        source: Box<CatalogError>,
    },
    /// The lock file that was asked for does not have the image.
    #[error("{reference} is not in {lock}")]
    NotLocked {
        /// The image.
        reference: String,
        /// The lock file.
        lock: String,
    },
    /// A manifest whose config tells of other layers.
    #[error("{reference}: {layers} layers in the manifest, {diff_ids} diff IDs in the config")]
    LayerCount {
        /// The image.
        reference: String,
        /// Layers of the manifest.
        layers: usize,
        /// Diff ids of the config.
        diff_ids: usize,
    },
}

impl CatalogError {
    /// What to type to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locked { lock, .. } => Some(format!("onetag pin --update --lock {lock}")),
            Self::NotLocked { lock, .. } => Some(format!("onetag pin --lock {lock}")),
            Self::NotHere { reference, wanted, .. } => Some(format!("onetag pull --platform {wanted} {reference}")),
            _ => None,
        }
    }
}

fn list(platforms: &[String]) -> String {
    if platforms.is_empty() { "none".to_owned() } else { platforms.join(", ") }
}

impl From<onetag_store::Error> for CatalogError {
    fn from(error: onetag_store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<onetag_registry::Error> for CatalogError {
    fn from(error: onetag_registry::Error) -> Self {
        Self::Registry(Arc::new(error))
    }
}

/// An image of one platform.
#[derive(Debug)]
pub(crate) struct FoundImage {
    /// What the reference points to: the index, or the manifest where there is no index.
    pub(crate) digest: Digest,
    /// The platform's manifest.
    pub(crate) manifest: Document<Manifest>,
    /// Its config.
    pub(crate) config: Document<ImageConfig>,
    /// Where its blobs come from.
    pub(crate) origin: Reference,
    /// The platform that the image says it is for, when that is not the one that was asked for.
    pub(crate) mismatch: Option<Platform>,
}

impl FoundImage {
    /// The layers, nothing of them fetched.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let layer = |(descriptor, diff_id): (&Descriptor, &DiffId)| {
            let (descriptor, diff_id) = (descriptor.clone(), diff_id.clone());
            let origin = Some(self.origin.name_only());
            Layer::Image(Box::new(ImageLayer { diff_id, descriptor, origin, made: None }))
        };
        Snapshot::new(self.manifest.layers.iter().zip(&self.config.rootfs.diff_ids).map(layer).collect())
    }
}

type Memo<K, V> = Mutex<HashMap<K, Arc<OnceLock<Result<V, CatalogError>>>>>;

/// Finds images for one build; equal questions are asked once.
pub(crate) struct Catalog {
    engine: Engine,
    lock: Option<UsedLock>,
    imports: Memo<String, Digest>,
    tops: Memo<(String, bool), Arc<ManifestDocument>>,
    images: Memo<(Digest, String), Arc<FoundImage>>,
}

fn once<K: std::hash::Hash + Eq, V: Clone>(
    memo: &Memo<K, V>,
    key: K,
    find: impl FnOnce() -> Result<V, CatalogError>,
) -> Result<V, CatalogError> {
    let cell = Arc::clone(memo.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
    cell.get_or_init(find).clone()
}

impl Catalog {
    /// A catalogue over the engine's store and registries.
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, lock: None, imports: Mutex::default(), tops: Mutex::default(), images: Mutex::default() }
    }

    /// Tags stand for what the lock file says.
    pub(crate) fn with_lock(mut self, lock: Option<UsedLock>) -> Self {
        self.lock = lock;
        self
    }

    /// The lock file, where there is one and it does not say what a reference stands for.
    pub(crate) fn lock_without(&self, reference: &Reference) -> Option<&Path> {
        let lock = self.lock.as_ref().filter(|_| reference.digest().is_none())?;
        lock.lock.get(reference).is_none().then_some(lock.path.as_path())
    }

    /// Brings an image of an OCI layout (`oci-layout://PATH[:NAME][@DIGEST]`) into the store, where it is then found by
    /// its digest.
    pub(crate) fn import(&self, layout: &str) -> Result<Digest, CatalogError> {
        once(&self.imports, layout.to_owned(), || {
            let imported = self.import_once(layout).map_err(Arc::from);
            imported.map_err(|source| CatalogError::Layout { layout: layout.to_owned(), source })
        })
    }

    fn import_once(&self, layout: &str) -> Result<Digest, Box<dyn std::error::Error + Send + Sync>> {
        let location = Location::parse(layout)?;
        let contents = Contents::new(&self.engine);
        let found = contents.find(&location)?;
        let digest = found.descriptor.digest.clone();
        // Nothing gets this name: content is addressed by its digest.
        let place = Location::parse("store:context")?;
        let cancellation = Cancellation::new();
        Transfer::new(contents, &location, &place, &cancellation, &|_| {}).tree(&found, &|_| true)?;
        Ok(digest)
    }

    /// The image of a platform. The platform of an image that is not in an index is not enforced; see
    /// [`FoundImage::mismatch`].
    pub(crate) fn find(
        &self,
        reference: &Reference,
        platform: &Platform,
        mode: ResolveMode,
    ) -> Result<Arc<FoundImage>, CatalogError> {
        let top = self.points_to(reference, mode)?;
        let key = (top.digest().clone(), platform.format_all());
        once(&self.images, key, || self.image(reference, &top, platform).map(Arc::new))
    }

    /// A layer of the images that were found so far.
    pub(crate) fn layer(&self, diff_id: &DiffId) -> Option<ImageLayer> {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let found = images.values().filter_map(|cell| cell.get()?.as_ref().ok());
        let mut layers = found.flat_map(|image| image.snapshot().layers);
        layers.find_map(|layer| match layer {
            Layer::Image(layer) if layer.diff_id == *diff_id => Some(*layer),
            _ => None,
        })
    }

    /// What a reference points to.
    pub(crate) fn points_to(
        &self,
        reference: &Reference,
        mode: ResolveMode,
    ) -> Result<Arc<ManifestDocument>, CatalogError> {
        let pull = mode == ResolveMode::ForcePull;
        once(&self.tops, (reference.to_string(), pull), || self.top(reference, pull))
    }

    fn top(&self, reference: &Reference, pull: bool) -> Result<Arc<ManifestDocument>, CatalogError> {
        if let Some(digest) = reference.digest() {
            return self.document(reference, digest, None).map(Arc::new);
        }
        if let Some(used) = &self.lock {
            let (name, lock) = (reference.to_string(), used.path.display().to_string());
            match used.lock.get(reference) {
                Some(image) => {
                    let digest = image.digest.clone();
                    let document = self.document(reference, &digest, None).map(Arc::new);
                    return document.map_err(|source| CatalogError::Locked {
                        reference: name,
                        digest,
                        lock,
                        source: Box::new(source),
                    });
                }
                None if used.is_strict => return Err(CatalogError::NotLocked { reference: name, lock }),
                None => {}
            }
        }
        let store = self.engine.store()?;
        let local = if pull { None } else { store.reference(&reference.to_string())? };
        if let Some(descriptor) = local
            && store.has_blob(&descriptor.digest)
        {
            return self.document(reference, &descriptor.digest, Some(&descriptor.media_type)).map(Arc::new);
        }
        let document = self.engine.client()?.manifest(reference)?;
        store.put_document(document.bytes())?;
        Ok(Arc::new(document))
    }

    fn document(
        &self,
        reference: &Reference,
        digest: &Digest,
        media_type: Option<&str>,
    ) -> Result<ManifestDocument, CatalogError> {
        let store = self.engine.store()?;
        if store.has_blob(digest) {
            let bytes = store.read_blob(digest, DOCUMENT_LIMIT_BYTES)?;
            return ManifestDocument::parse(bytes, media_type).map_err(|source| CatalogError::Document {
                reference: reference.to_string(),
                what: "manifest",
                source: Arc::new(source),
            });
        }
        let document = self.engine.client()?.manifest(&reference.with_digest(digest.clone()))?;
        store.put_document(document.bytes())?;
        Ok(document)
    }

    fn image(
        &self,
        reference: &Reference,
        top: &ManifestDocument,
        platform: &Platform,
    ) -> Result<FoundImage, CatalogError> {
        let found = self.manifest(reference, top, platform);
        let (manifest, is_bare) = found.map_err(|error| self.not_had(reference, top, platform, error))?;
        let config = self.config(reference, &manifest.config)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(CatalogError::LayerCount { reference: reference.to_string(), layers, diff_ids });
        }
        let actual = config.platform();
        let mismatch = (is_bare && !only(platform).matches(&actual)).then_some(actual);
        Ok(FoundImage { digest: top.digest().clone(), manifest, config, origin: reference.clone(), mismatch })
    }

    /// What is to be told when a registry does not give a manifest: of a local image, that it is not here.
    fn not_had(
        &self,
        reference: &Reference,
        top: &ManifestDocument,
        platform: &Platform,
        error: CatalogError,
    ) -> CatalogError {
        let local = self.engine.store().ok().and_then(|store| store.reference(&reference.to_string()).ok().flatten());
        match local {
            Some(local) if local.digest == *top.digest() && matches!(error, CatalogError::Registry(_)) => {
                let (reference, wanted) = (reference.familiar(), platform.format_all());
                CatalogError::NotHere { reference, wanted, source: Box::new(error) }
            }
            _ => error,
        }
    }

    /// The manifest for a platform, through indexes in indexes, and whether nothing above it tells its platform.
    fn manifest(
        &self,
        reference: &Reference,
        top: &ManifestDocument,
        platform: &Platform,
    ) -> Result<(Document<Manifest>, bool), CatalogError> {
        let mut document = top.clone();
        let mut is_bare = true;
        for _ in 0..=MAXIMUM_DEPTH {
            let index = match document {
                ManifestDocument::Manifest(manifest) => return Ok((manifest, is_bare)),
                ManifestDocument::Index(index) => index,
            };
            let descriptor = choose(reference, &index.manifests, platform)?;
            is_bare = descriptor.platform.is_none();
            document = self.document(reference, &descriptor.digest, Some(&descriptor.media_type))?;
        }
        Err(CatalogError::TooDeep { reference: reference.to_string(), digest: document.digest().clone() })
    }

    fn config(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Document<ImageConfig>, CatalogError> {
        let store = self.engine.store()?;
        let bytes = if store.has_blob(&descriptor.digest) {
            store.read_blob(&descriptor.digest, DOCUMENT_LIMIT_BYTES)?
        } else {
            let mut bytes: Vec<u8> = Vec::new();
            self.engine.client()?.fetch_blob(reference, descriptor, &mut bytes)?;
            store.put_document(&bytes)?;
            bytes
        };
        Document::parse(bytes).map_err(|source| CatalogError::Document {
            reference: reference.to_string(),
            what: "config",
            source: Arc::new(source),
        })
    }
}

/// The manifest of an index that serves a platform best.
fn choose<'d>(
    reference: &Reference,
    manifests: &'d [Descriptor],
    platform: &Platform,
) -> Result<&'d Descriptor, CatalogError> {
    let candidates: Vec<&Descriptor> = manifests
        .iter()
        .filter(|descriptor| !descriptor.is_attestation())
        .filter(|descriptor| {
            media_type::is_manifest(&descriptor.media_type) || media_type::is_index(&descriptor.media_type)
        })
        .collect();
    let position = select(&only(platform), &candidates, |descriptor| descriptor.platform.as_ref());
    position.map(|position| candidates[position]).ok_or_else(|| {
        let platforms = candidates.iter().filter_map(|descriptor| descriptor.platform.as_ref());
        CatalogError::NoMatch {
            reference: reference.to_string(),
            wanted: platform.format_all(),
            available: platforms.map(Platform::format_all).collect(),
        }
    })
}
