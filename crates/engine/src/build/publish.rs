//! From what was solved to where it should be: images and files exported, caches written, statements made.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use onetag_dockerfile::Lowered;
use onetag_dockerfile::resolver::ResolveMode;
use onetag_llb::OpKind;
use onetag_oci::{Descriptor, Platform, Reference};
use onetag_solver::{Cancellation, SolveRecord};
use onetag_store::LayerId;

use super::definition::Definition;
use super::outcome::BuildOutcome;
use super::request::BuildRequest;
use super::solve::Solved;
use super::{Build, BuildError};
use crate::Engine;
use crate::cache::{BuildCache, CacheError, CachePlace, CacheWriter, Imported};
use crate::check::check_locally;
use crate::export::{
    Assembler, Attest, BuiltImage, BuiltLayer, ExportError, ExportOptions, Part, Target, Uploads, load, push,
    repositories, write_archive, write_files,
};
use crate::flags::Annotation;
use crate::layers::Layers;
use crate::progress::{Activity, Event, Sink};
use crate::provenance::{self, AttestationPlace, Facts, VertexLayers};
use crate::snapshot::{Layer, Snapshot};

impl Engine {
    /// Makes the results outlast this process, where no output did so: the next build finds them in the cache.
    fn persist(&self, parts: &[Part<'_>]) -> Result<(), BuildError> {
        for layer in parts.iter().flat_map(|part| &part.snapshot.layers) {
            if let Layer::Step(_) = layer {
                self.store()?.persist_layer(&layer.id()).map_err(unsynced)?;
            }
        }
        Ok(())
    }

    /// Warns of images that are labelled with another platform than that of their programs.
    fn report_lies(&self, parts: &[Part<'_>], definition: &Definition, sink: &Sink<'_>) -> Result<(), BuildError> {
        let store = self.store()?;
        for part in parts {
            let image = &part.lowered.image;
            let platform = image.platform();
            for problem in check_locally(store, &part.snapshot, image, &platform) {
                let message = format!("{}: {problem}", platform.format_all());
                sink(Event::Warning { vertex: definition.vertex(), message });
            }
        }
        Ok(())
    }

    fn export(
        &self,
        request: &BuildRequest,
        parts: &[Part<'_>],
        assembler: &Assembler<'_>,
        layers: &Layers,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<BuildOutcome, BuildError> {
        let mut outcome = BuildOutcome::new(parts);
        // Layers and documents of all outputs reach the disk together, before a name in the store needs them.
        let batch = self.store()?.batch();
        let annotations = crate::flags::parse_annotations(&request.annotations, &Platform::host());
        let annotations = annotations.map_err(|source| BuildError::Flag(Box::new(source)))?;
        for options in &request.outputs {
            if cancellation.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            let mut options = options.clone();
            if options.names.is_empty() {
                options.names.clone_from(&request.tags);
            }
            let activity = Activity::start(activity_name(&options.target), sink);
            let exporter = Exporter { engine: self, assembler, layers, cancellation, activity: &activity };
            let result = exporter.export(parts, &options, &annotations);
            let image = activity.finish(result).map_err(|error| BuildError::Export(Box::new(error)))?;
            if let Some(image) = &image {
                outcome.set_image(image, &options);
            }
        }
        batch.close().map_err(unsynced)?;
        Ok(outcome)
    }
}

impl Build<'_> {
    /// Brings what was made where it should go.
    pub(super) fn publish(
        &self,
        solved: &Solved,
        layers: &Arc<Layers>,
        imported: &Imported,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<BuildOutcome, BuildError> {
        let Self { engine, request, definition, catalog, .. } = self;
        let made = self.lowered.iter().zip(solved.snapshots.results());
        let made: Vec<(&Lowered, &Arc<Snapshot>)> =
            made.filter_map(|(lowered, snapshot)| Some((lowered, snapshot.as_ref()?))).collect();
        let parts: Vec<Part<'_>> = made.iter().map(|(lowered, snapshot)| Part::new(lowered, snapshot)).collect();
        let lowered: Vec<&Lowered> = made.iter().map(|(lowered, _)| *lowered).collect();
        engine.report_lies(&parts, definition, sink)?;
        let is_inline = request.cache_to.iter().any(|export| export.place == CachePlace::Inline);
        let facts = Facts {
            request,
            dockerfile: &definition.name,
            lowered: &lowered,
            pins: &solved.pins,
            started: self.started,
            finished: SystemTime::now(),
        };
        let known = |snapshot: &Snapshot, built: &[BuiltLayer]| self.vertex_layers(&solved.records, snapshot, built);
        let assembler = Assembler::new(engine, layers)
            .with_index(request.platforms.len() > 1)
            .with_inline_cache(is_inline.then_some(solved.records.as_slice()))
            .with_attestations(attest(&facts, &known));
        let mut outcome = engine.export(request, &parts, &assembler, layers, cancellation, sink)?;
        engine.persist(&parts)?;
        if let Some(mode) = request.recorded_provenance {
            let layers = BTreeMap::new();
            outcome.provenance =
                (0..lowered.len()).map(|position| provenance::recorded(&facts, position, mode, &layers)).collect();
        }
        self.export_caches(solved, layers, &assembler, cancellation, sink)?;
        BuildCache::new(engine.store()?, imported, catalog).adopt(&solved.imported);
        Ok(outcome)
    }

    /// The layers of the vertices whose results are in an image.
    fn vertex_layers(&self, records: &[SolveRecord], snapshot: &Snapshot, built: &[BuiltLayer]) -> VertexLayers {
        let blobs: HashMap<LayerId, &Descriptor> =
            snapshot.ids().into_iter().zip(built.iter().map(|layer| &layer.descriptor)).collect();
        let descriptors = |snapshot: &Snapshot| {
            snapshot.ids().iter().map(|id| blobs.get(id).map(|blob| (*blob).clone())).collect::<Option<Vec<_>>>()
        };
        let mut known = VertexLayers::new();
        for record in records {
            let first = record.record.results.first();
            let snapshot = first.and_then(|text| serde_json::from_str::<Snapshot>(text).ok());
            if let Some(layers) = snapshot.and_then(|snapshot| descriptors(&snapshot)) {
                known.insert(record.vertex.clone(), layers);
            }
        }
        for vertex in self.lowered.iter().flat_map(|lowered| lowered.graph.vertices()) {
            let OpKind::Source(source) = &vertex.op.kind else { continue };
            let Some(name) = source.identifier.strip_prefix("docker-image://") else { continue };
            let (Ok(reference), Some(platform)) = (Reference::parse(name), &vertex.op.platform) else { continue };
            // Found before, so nothing is asked for.
            if let Ok(image) = self.catalog.find(&reference, platform, ResolveMode::Default)
                && let Some(layers) = descriptors(&image.snapshot())
            {
                known.insert(vertex.digest.clone(), layers);
            }
        }
        known
    }

    fn export_caches(
        &self,
        solved: &Solved,
        layers: &Layers,
        assembler: &Assembler<'_>,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<(), BuildError> {
        let request = self.request;
        let names = |options: &ExportOptions| match (&options.target, options.names.is_empty()) {
            (Target::Push, true) => request.tags.clone(),
            (Target::Push, false) => options.names.clone(),
            _ => Vec::new(),
        };
        let writer = CacheWriter {
            engine: self.engine,
            layers,
            assembler,
            records: &solved.records,
            finals: solved.snapshots.results().iter().flatten().cloned().collect(),
            pushed: request.outputs.iter().flat_map(names).map(|name| name.name_only()).collect(),
        };
        for export in request.cache_to.iter().filter(|export| export.place != CachePlace::Inline) {
            let name = format!("exporting cache to {}", export.place);
            let activity = Activity::start(&name, sink);
            let result = writer.write(export, cancellation, &activity);
            match activity.finish(result) {
                Err(error) if export.ignore_error => {
                    let message = format!("{name} failed: {}", crate::progress::chain(&error));
                    sink(Event::Warning { vertex: Activity::vertex(&name), message });
                }
                Err(CacheError::Cancelled) => return Err(BuildError::Cancelled),
                result => result.map_err(|error| BuildError::CacheExport {
                    place: export.place.to_string(),
                    source: Box::new(error),
                })?,
            }
        }
        Ok(())
    }
}

/// What makes statements about the images, where they are asked for.
fn attest<'a>(
    facts: &'a Facts<'a>,
    layers: &'a (dyn Fn(&Snapshot, &[BuiltLayer]) -> VertexLayers + Sync),
) -> Option<Attest<'a>> {
    let options = facts.request.provenance.as_ref().filter(|options| !options.inline_only)?;
    Some(Attest {
        predicate: Box::new(move |position, snapshot, built| {
            provenance::predicate(facts, position, options, &layers(snapshot, built))
        }),
        version: options.version,
        is_in_index: facts.request.attestation_place == AttestationPlace::Index,
    })
}

/// Brings a result where one output wants it.
struct Exporter<'a> {
    engine: &'a Engine,
    assembler: &'a Assembler<'a>,
    layers: &'a Layers,
    cancellation: &'a Cancellation,
    activity: &'a Activity<'a>,
}

impl Exporter<'_> {
    /// The image, where the output is one.
    fn export(
        &self,
        parts: &[Part<'_>],
        options: &ExportOptions,
        annotations: &[Annotation],
    ) -> Result<Option<BuiltImage>, ExportError> {
        let (engine, layers, activity) = (self.engine, self.layers, self.activity);
        match &options.target {
            Target::CacheOnly => return Ok(None),
            Target::Files(_) => {
                activity.part("copying files", || write_files(layers, parts, options, self.assembler.attest()))?;
                return Ok(None);
            }
            Target::Tar(_) => {
                activity.part("sending tarball", || write_files(layers, parts, options, self.assembler.attest()))?;
                return Ok(None);
            }
            Target::Push | Target::Store | Target::Oci { .. } | Target::Docker(_) => {}
        }
        let uploads = match (&options.target, repositories(&options.names).into_iter().next()) {
            (Target::Push, Some(repository)) => Some(Uploads::new(engine.clone(), repository)),
            _ => None,
        };
        let image = self.assembler.assemble(parts, options, annotations, uploads.as_ref(), activity)?;
        let archive = |destination, docker, tar| {
            activity
                .part("sending tarball", || write_archive(engine, layers, &image, options, destination, docker, tar))
        };
        match &options.target {
            Target::Push => {
                push(engine, layers, &image, options, uploads, self.cancellation, activity)?;
                self.push_referrers(parts, &image, options)?;
            }
            Target::Store => load(engine, layers, &image, options, self.cancellation, activity)?,
            Target::Oci { destination, tar } => archive(destination, false, *tar)?,
            Target::Docker(destination) => archive(destination, true, true)?,
            Target::CacheOnly | Target::Files(_) | Target::Tar(_) => {}
        }
        Ok(Some(image))
    }

    /// Statements that go beside the images rather than into their index.
    fn push_referrers(
        &self,
        parts: &[Part<'_>],
        image: &BuiltImage,
        options: &ExportOptions,
    ) -> Result<(), ExportError> {
        let Some(attest) = self.assembler.attest().filter(|attest| !attest.is_in_index) else { return Ok(()) };
        for (position, (part, built)) in parts.iter().zip(&image.platforms).enumerate() {
            let predicate = (attest.predicate)(position, &part.snapshot, &built.layers)?;
            let target = built.attestation_target(&options.names);
            let mut repositories: Vec<Reference> = options.names.iter().map(Reference::name_only).collect();
            repositories.dedup();
            for repository in repositories {
                let digest = provenance::push_referrer(self.engine, &target, attest.version, &predicate, &repository)?;
                self.activity.note(&format!("pushing attestation {repository}@{digest}"));
            }
        }
        Ok(())
    }
}

/// The store could not keep what was made.
fn unsynced(error: onetag_store::Error) -> BuildError {
    BuildError::Export(Box::new(error.into()))
}

fn activity_name(target: &Target) -> &'static str {
    match target {
        Target::Push | Target::Store => "exporting to image",
        Target::Oci { .. } => "exporting to oci image format",
        Target::Docker(_) => "exporting to docker image format",
        Target::Files(_) => "exporting to client directory",
        Target::Tar(_) => "exporting to client tarball",
        Target::CacheOnly => "exporting nothing",
    }
}
