//! Images from results: layers written as archives, configs finished, manifests and the index made.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use onetag_dockerfile::Lowered;
use onetag_dockerfile::export::{ConfigPlan, LayerRecord, config};
use onetag_oci::{
    Compression, Descriptor, DiffId, Digest, Document, Index, Manifest, ManifestDocument, Platform, Reference,
    media_type,
};
use onetag_solver::SolveRecord;
use onetag_store::layer::CompressionOptions;
use onetag_store::{GrowingBlob, LayerId, LayerOptions};
use serde_json::Value;

use super::upload::Uploads;
use super::{ExportError, ExportOptions};
use crate::Engine;
use crate::cache::document::INLINE_MEMBER;
use crate::cache::inline;
use crate::flags::{Annotation, AnnotationTarget};
use crate::layers::{Layers, unheard};
use crate::progress::Activity;
use crate::provenance::{AttestationTarget, ProvenanceError, ProvenanceVersion, attestation};
use crate::snapshot::{ImageLayer, Layer, Made, Snapshot};

/// The result of one platform.
pub(crate) struct Part<'a> {
    /// What the Dockerfile says of the image.
    pub(crate) lowered: &'a Lowered,
    /// Its files.
    pub(crate) snapshot: Arc<Snapshot>,
}

impl BuiltPlatform {
    /// The image as what a statement is about.
    pub(crate) fn attestation_target<'n>(&'n self, names: &'n [Reference]) -> AttestationTarget<'n> {
        let kind = self.manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
        let manifest = Descriptor::new(kind, self.manifest.digest().clone(), self.manifest.size());
        AttestationTarget { manifest, platform: &self.platform, names }
    }
}

impl<'a> Part<'a> {
    pub(crate) fn new(lowered: &'a Lowered, snapshot: &Arc<Snapshot>) -> Self {
        Self { lowered, snapshot: Arc::clone(snapshot) }
    }
}

/// A layer of an image.
#[derive(Clone, Debug)]
pub(crate) struct BuiltLayer {
    /// Its blob.
    pub(crate) descriptor: Descriptor,
    /// The digest of its archive.
    pub(crate) diff_id: DiffId,
    /// Where the blob comes from when it is not in the store.
    pub(crate) image: Option<ImageLayer>,
}

/// The image of one platform.
pub(crate) struct BuiltPlatform {
    /// The platform.
    pub(crate) platform: Platform,
    /// Its manifest.
    pub(crate) manifest: Document<Manifest>,
    /// The bytes of its config.
    pub(crate) config: Vec<u8>,
    /// Its layers, the lowest first.
    pub(crate) layers: Vec<BuiltLayer>,
    /// The image that this is an attestation of; none for an image.
    pub(crate) subject: Option<Digest>,
}

/// Makes statements about images.
pub(crate) struct Attest<'a> {
    /// The predicate about the image at a position, given its layers.
    #[allow(clippy::type_complexity, reason = "what is asked and what is answered")]
    pub(crate) predicate: Box<dyn Fn(usize, &Snapshot, &[BuiltLayer]) -> Result<Value, ProvenanceError> + Sync + 'a>,
    /// The format of the predicate.
    pub(crate) version: ProvenanceVersion,
    /// Whether the statements are in the index.
    pub(crate) is_in_index: bool,
}

/// An image of one or several platforms.
pub(crate) struct BuiltImage {
    /// The images of the platforms and after them their attestations, in the order of the index.
    pub(crate) platforms: Vec<BuiltPlatform>,
    /// The index; none for a single platform.
    pub(crate) index: Option<Document<Index>>,
    /// Annotations of the descriptor that a layout's own index has of it.
    pub(crate) annotations: BTreeMap<String, String>,
}

impl BuiltImage {
    /// The document that names mean.
    pub(crate) fn top(&self) -> ManifestDocument {
        match (&self.index, self.platforms.first()) {
            (None, Some(only)) => ManifestDocument::Manifest(only.manifest.clone()),
            (Some(index), _) => ManifestDocument::Index(index.clone()),
            (None, None) => ManifestDocument::Index(Document::from_value_indented(Index::new(Vec::new()))),
        }
    }

    /// All layers, each once.
    pub(crate) fn layers(&self) -> Vec<&BuiltLayer> {
        let mut seen = std::collections::HashSet::new();
        let layers = self.platforms.iter().flat_map(|platform| &platform.layers);
        layers.filter(|layer| seen.insert(&layer.descriptor.digest)).collect()
    }
}

/// What made a layer, without where that stood: `[stage-1 3/4] RUN x` as `RUN x`. The place is that of the build that made
/// it, which another build that finds the same step need not share; an image is to say the same whoever made its layers.
fn without_place(description: &str) -> String {
    let rest = description.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    rest.map_or(description, |(_, rest)| rest).to_owned()
}

/// A layer that is written, by what it is, what is below it and how it is written.
type LayerKey = (Vec<LayerId>, CompressionOptions, Option<i64>);
type Exported = Arc<OnceLock<Result<BuiltLayer, Arc<ExportError>>>>;

/// Makes images. Layers that platforms or outputs share are written once.
pub(crate) struct Assembler<'a> {
    engine: &'a Engine,
    layers: &'a Layers,
    exported: Mutex<HashMap<LayerKey, Exported>>,
    /// What the images say of the solver's records, where they carry an inline cache.
    inline: Option<&'a [SolveRecord]>,
    attest: Option<Attest<'a>>,
    /// Whether one platform alone gets an index as well.
    is_index: bool,
}

impl<'a> Assembler<'a> {
    pub(crate) fn new(engine: &'a Engine, layers: &'a Layers) -> Self {
        Self { engine, layers, exported: Mutex::default(), inline: None, attest: None, is_index: false }
    }

    /// The same; several platforms were asked for, so that the image is an index whatever came of them.
    pub(crate) fn with_index(mut self, is_index: bool) -> Self {
        self.is_index = is_index;
        self
    }

    /// Puts an inline cache of these records into the images, or none.
    pub(crate) fn with_inline_cache(mut self, records: Option<&'a [SolveRecord]>) -> Self {
        self.inline = records;
        self
    }

    /// Makes statements about the images.
    pub(crate) fn with_attestations(mut self, attest: Option<Attest<'a>>) -> Self {
        self.attest = attest;
        self
    }

    /// What makes statements about the images.
    pub(crate) fn attest(&self) -> Option<&Attest<'a>> {
        self.attest.as_ref()
    }

    /// Makes the image of all parts. Layers that have to be written go into `uploads` meanwhile.
    pub(crate) fn assemble(
        &self,
        parts: &[Part<'_>],
        options: &ExportOptions,
        annotations: &[Annotation],
        uploads: Option<&Uploads>,
        activity: &Activity<'_>,
    ) -> Result<BuiltImage, ExportError> {
        let annotations: Vec<&Annotation> = annotations.iter().chain(&options.annotations).collect();
        let layers = activity.part("exporting layers", || self.all_layers(parts, options, uploads))?;
        let mut platforms = Vec::with_capacity(parts.len());
        for (part, layers) in parts.iter().zip(layers) {
            platforms.push(self.platform(part, layers, options, &annotations, activity)?);
        }
        let attest = self.attest.as_ref().filter(|attest| attest.is_in_index);
        if let Some(attest) = attest {
            self.add_attestations(parts, &mut platforms, attest, options, activity)?;
        }
        let is_index = self.is_index || parts.len() > 1 || attest.is_some();
        check_annotations(&annotations, &platforms, is_index, options)?;
        let index = is_index.then(|| index(&platforms, options, &annotations));
        if let Some(index) = &index {
            activity.note(&format!("exporting manifest list {}", index.digest()));
        }
        let target =
            if index.is_some() { AnnotationTarget::IndexDescriptor } else { AnnotationTarget::ManifestDescriptor };
        let annotations = select(&annotations, target, None);
        Ok(BuiltImage { platforms, index, annotations })
    }

    fn add_attestations(
        &self,
        parts: &[Part<'_>],
        platforms: &mut Vec<BuiltPlatform>,
        attest: &Attest<'_>,
        options: &ExportOptions,
        activity: &Activity<'_>,
    ) -> Result<(), ExportError> {
        if !options.oci_media_types {
            return Err(ProvenanceError::DockerTypes.into());
        }
        for (position, part) in parts.iter().enumerate() {
            let built = &platforms[position];
            let predicate = (attest.predicate)(position, &part.snapshot, &built.layers)?;
            let target = built.attestation_target(&options.names);
            let made = attestation(self.engine, &target, attest.version, &predicate, options.oci_artifact)?;
            activity.note(&format!("exporting attestation manifest {}", made.manifest.digest()));
            platforms.push(made);
        }
        Ok(())
    }

    fn all_layers(
        &self,
        parts: &[Part<'_>],
        options: &ExportOptions,
        uploads: Option<&Uploads>,
    ) -> Result<Vec<Vec<BuiltLayer>>, ExportError> {
        let write = |part: &Part<'_>| self.part_layers(part, options, uploads);
        if let [only] = parts {
            return Ok(vec![write(only)?]);
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = parts.iter().map(|part| scope.spawn(move || write(part))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    fn part_layers(
        &self,
        part: &Part<'_>,
        options: &ExportOptions,
        uploads: Option<&Uploads>,
    ) -> Result<Vec<BuiltLayer>, ExportError> {
        let latest_mtime = if options.rewrite_timestamp { part.lowered.epoch } else { None };
        let layer_options = LayerOptions { compression: options.compression, latest_mtime };
        let mut layers = Vec::with_capacity(part.snapshot.layers.len());
        for position in 0..part.snapshot.layers.len() {
            let force = options.force_compression;
            let mut layer = self.layer_while(&part.snapshot, position, &layer_options, force, uploads)?;
            layer.descriptor.media_type = converted(&layer.descriptor.media_type, options.oci_media_types);
            layers.push(layer);
        }
        Ok(layers)
    }

    /// A layer of a snapshot as a blob.
    pub(crate) fn layer(
        &self,
        snapshot: &Snapshot,
        position: usize,
        options: &LayerOptions,
        force: bool,
    ) -> Result<BuiltLayer, ExportError> {
        self.layer_while(snapshot, position, options, force, None)
    }

    fn layer_while(
        &self,
        snapshot: &Snapshot,
        position: usize,
        options: &LayerOptions,
        force: bool,
        uploads: Option<&Uploads>,
    ) -> Result<BuiltLayer, ExportError> {
        match &snapshot.layers[position] {
            Layer::Image(layer) => self.image_layer(layer, options, force),
            Layer::Step(step) => {
                let below = match &step.below {
                    Some(below) => snapshot_of(snapshot, below),
                    None => Snapshot::new(snapshot.layers[..position].to_vec()),
                };
                let id = snapshot.layers[position].id();
                let mut key = below.ids();
                key.push(id.clone());
                let cell = Arc::clone(
                    self.exported
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry((key, options.compression, options.latest_mtime))
                        .or_default(),
                );
                let result = cell.get_or_init(|| self.write_layer(&id, &below, options, uploads).map_err(Arc::new));
                result.clone().map_err(|error| Arc::try_unwrap(error).unwrap_or_else(ExportError::Shared))
            }
        }
    }

    fn write_layer(
        &self,
        id: &LayerId,
        below: &Snapshot,
        options: &LayerOptions,
        uploads: Option<&Uploads>,
    ) -> Result<BuiltLayer, ExportError> {
        let store = self.engine.store()?;
        let ids = below.ids();
        let exported = match store.exported_layer(id, &ids, options)? {
            Some(exported) => exported,
            None => {
                let tree = self.layers.tree(below, &unheard)?;
                let started = |blob: GrowingBlob| {
                    if let Some(uploads) = uploads {
                        uploads.begin(blob);
                    }
                };
                store.export_layer_over(id, &ids, &tree, options, started)?
            }
        };
        Ok(BuiltLayer { descriptor: exported.descriptor, diff_id: exported.diff_id, image: None })
    }

    fn image_layer(&self, layer: &ImageLayer, options: &LayerOptions, force: bool) -> Result<BuiltLayer, ExportError> {
        if let Some(made) = &layer.made {
            return self.cached_layer(layer, made, options);
        }
        let wanted = options.compression.compression;
        if force && media_type::layer_compression(&layer.descriptor.media_type) != Some(wanted) {
            self.layers.fetch(layer, &unheard)?;
            let exported = self.engine.store()?.recompress(&layer.descriptor.digest, &options.compression)?;
            return Ok(BuiltLayer { descriptor: exported.descriptor, diff_id: exported.diff_id, image: None });
        }
        let mut descriptor = layer.descriptor.clone();
        descriptor.platform = None;
        Ok(BuiltLayer { descriptor, diff_id: layer.diff_id.clone(), image: Some(layer.clone()) })
    }

    /// A layer that a cache led to is a new one all the same: it is written as asked for, which costs nothing where it
    /// is written so already.
    fn cached_layer(&self, layer: &ImageLayer, made: &Made, options: &LayerOptions) -> Result<BuiltLayer, ExportError> {
        let wanted = options.compression;
        let is_compression = media_type::layer_compression(&layer.descriptor.media_type) == Some(wanted.compression);
        if is_compression && made.level == wanted.effective_level() && options.latest_mtime.is_none() {
            let descriptor = Descriptor { media_type: wanted.media_type().to_owned(), ..layer.descriptor.clone() };
            return Ok(BuiltLayer { descriptor, diff_id: layer.diff_id.clone(), image: Some(layer.clone()) });
        }
        self.layers.fetch(layer, &unheard)?;
        let exported = self.engine.store()?.rewrite_layer(&layer.descriptor.digest, options)?;
        Ok(BuiltLayer { descriptor: exported.descriptor, diff_id: exported.diff_id, image: None })
    }

    fn platform(
        &self,
        part: &Part<'_>,
        layers: Vec<BuiltLayer>,
        options: &ExportOptions,
        annotations: &[&Annotation],
        activity: &Activity<'_>,
    ) -> Result<BuiltPlatform, ExportError> {
        let lowered = part.lowered;
        let record = |layer: &Layer| match layer {
            Layer::Image(layer) => layer.made.as_ref().map_or_else(LayerRecord::default, |made| LayerRecord {
                description: without_place(&made.description),
                created: Some(made.created.clone()),
            }),
            Layer::Step(step) => {
                LayerRecord { description: without_place(&step.description), created: Some(step.created.clone()) }
            }
        };
        let plan = ConfigPlan {
            diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            layers: part.snapshot.layers.iter().map(record).collect(),
            epoch: lowered.epoch,
            base: lowered.base.as_ref(),
            inline_cache: self.inline.map(|records| {
                let level = options.compression.effective_level();
                let table = inline(records, &part.snapshot, &layers, level, lowered.epoch);
                (INLINE_MEMBER, table.to_value())
            }),
        };
        let config = config(&lowered.image, &plan)?;
        let platform = lowered.image.platform();
        let config_type = if options.oci_media_types { media_type::OCI_CONFIG } else { media_type::DOCKER_CONFIG };
        let config_descriptor = Descriptor::new(config_type, Digest::sha256(&config), config.len() as u64);
        let config_digest = config_descriptor.digest.clone();
        let descriptors = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let mut manifest = Manifest::new(config_descriptor, descriptors);
        if !options.oci_media_types {
            manifest.media_type = Some(media_type::DOCKER_MANIFEST.to_owned());
        }
        manifest.annotations = select(annotations, AnnotationTarget::Manifest, Some(&platform));
        let manifest = Document::from_value_indented(manifest);
        activity.note(&format!("exporting manifest {}", manifest.digest()));
        activity.note(&format!("exporting config {config_digest}"));
        Ok(BuiltPlatform { platform, manifest, config, layers, subject: None })
    }
}

/// The snapshot of some of a snapshot's layers, and of steps that are named alone.
fn snapshot_of(snapshot: &Snapshot, ids: &[LayerId]) -> Snapshot {
    let find = |id: &LayerId| snapshot.layers.iter().find(|layer| layer.id() == *id).cloned();
    Snapshot::new(ids.iter().filter_map(find).collect())
}

fn index(platforms: &[BuiltPlatform], options: &ExportOptions, annotations: &[&Annotation]) -> Document<Index> {
    let entry = |built: &BuiltPlatform| {
        let kind = if options.oci_media_types { media_type::OCI_MANIFEST } else { media_type::DOCKER_MANIFEST };
        let mut descriptor = Descriptor::new(kind, built.manifest.digest().clone(), built.manifest.size());
        match &built.subject {
            None => {
                descriptor.annotations =
                    select(annotations, AnnotationTarget::ManifestDescriptor, Some(&built.platform));
            }
            Some(subject) => {
                let about = |name: &str, value: &str| (format!("vnd.docker.reference.{name}"), value.to_owned());
                descriptor
                    .annotations
                    .extend([about("digest", subject.as_str()), about("type", "attestation-manifest")]);
            }
        }
        descriptor.with_platform(built.platform.clone())
    };
    let mut index = Index::new(platforms.iter().map(entry).collect());
    if !options.oci_media_types {
        index.media_type = Some(media_type::DOCKER_MANIFEST_LIST.to_owned());
    }
    index.annotations = select(annotations, AnnotationTarget::Index, None);
    Document::from_value_indented(index)
}

/// Annotations need a place: an index, a platform that is built, OCI's documents.
fn check_annotations(
    annotations: &[&Annotation],
    platforms: &[BuiltPlatform],
    is_index: bool,
    options: &ExportOptions,
) -> Result<(), ExportError> {
    for annotation in annotations {
        let target = annotation.target.unwrap_or(AnnotationTarget::Manifest);
        if !options.oci_media_types && target != AnnotationTarget::Manifest {
            return Err(ExportError::Annotation("cannot export annotations with \"oci-mediatypes=false\"".to_owned()));
        }
        if !is_index && matches!(target, AnnotationTarget::Index | AnnotationTarget::IndexDescriptor) {
            return Err(ExportError::Annotation(
                "index annotations not supported for single platform export".to_owned(),
            ));
        }
        if let Some(wanted) = &annotation.platform
            && !platforms.iter().any(|built| built.platform == *wanted)
        {
            let text = format!("invalid annotation: no platform {} found in source", wanted.format_all());
            return Err(ExportError::Annotation(text));
        }
    }
    Ok(())
}

fn select(
    annotations: &[&Annotation],
    target: AnnotationTarget,
    platform: Option<&Platform>,
) -> BTreeMap<String, String> {
    let fits = |annotation: &&&Annotation| {
        annotation.target.unwrap_or(AnnotationTarget::Manifest) == target
            && annotation.platform.as_ref().is_none_or(|wanted| platform.is_none_or(|platform| *wanted == *platform))
    };
    let entry = |annotation: &&Annotation| (annotation.key.clone(), annotation.value.clone());
    annotations.iter().filter(fits).map(entry).collect()
}

/// A layer's media type in OCI's or Docker's family.
fn converted(kind: &str, oci: bool) -> String {
    let Some(compression) = media_type::layer_compression(kind) else { return kind.to_owned() };
    if media_type::is_nondistributable(kind) || media_type::is_docker(kind) != oci {
        return kind.to_owned();
    }
    let converted = match (compression, oci) {
        (Compression::None, true) => media_type::OCI_LAYER,
        (Compression::Gzip, true) => media_type::OCI_LAYER_GZIP,
        (Compression::Zstd, true) => media_type::OCI_LAYER_ZSTD,
        (Compression::None, false) => media_type::DOCKER_LAYER,
        (Compression::Gzip, false) => media_type::DOCKER_LAYER_GZIP,
        (Compression::Zstd, false) => media_type::DOCKER_LAYER_ZSTD,
    };
    converted.to_owned()
}
