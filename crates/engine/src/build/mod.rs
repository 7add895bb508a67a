//! Building images: from a Dockerfile and a context to images of several platforms.

mod check;
mod definition;
mod error;
mod lock;
mod outcome;
mod partial;
mod plan;
mod preflight;
mod remote;
mod request;
mod solve;
mod verify;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use onetag_dockerfile::resolver::ResolveMode;
use onetag_dockerfile::{Dockerfile, LowerOptions, Lowered, lower};
use onetag_llb::OpKind;
use onetag_oci::{Descriptor, Platform, Reference};
use onetag_solver::{Cancellation, SolveRecord};
pub use onetag_solver::{Class, Expectation};
use onetag_store::LayerId;

pub use check::CheckOutcome;
pub use error::BuildError;
pub use lock::LockChoice;
pub use outcome::{BuildOutcome, PlatformOutcome};
pub use partial::FailedPlatform;
pub use plan::{BuildPlan, PlannedStep};
pub use remote::is_archive;
pub use request::{BuildContext, BuildRequest, DockerfileSource};
pub use verify::{Difference, Verification};

use crate::Engine;
use crate::cache::{BuildCache, CacheError, CachePlace, CacheWriter, Imported};
use crate::catalog::Catalog;
use crate::check::check_locally;
use crate::context::ContextError;
use crate::export::{
    Assembler, Attest, BuiltImage, BuiltLayer, ExportError, ExportOptions, Part, Target, Uploads, load, push,
    repositories, write_archive, write_files,
};
use crate::flags::Annotation;
use crate::layers::Layers;
use crate::op::{KnownSources, Session};
use crate::progress::{Activity, Event, Sink};
use crate::provenance::{self, AttestationPlace, Facts, VertexLayers};
use crate::resolve::BuildResolver;
use crate::snapshot::{Layer, Snapshot};
use definition::{Definition, Text};
pub(crate) use lock::UsedLock;
use partial::Platforms;
use remote::Fetcher;
use solve::Solved;

/// The name of the main context's source.
const CONTEXT: &str = "context";

impl Engine {
    /// Builds what is asked for and brings it where it should go. Blocks; `cancellation` ends it early.
    ///
    /// # Errors
    /// The first failure. Nothing has then got a name anywhere.
    pub fn build(
        &self,
        request: &BuildRequest,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<BuildOutcome, BuildError> {
        let started = SystemTime::now();
        let sources = KnownSources::default();
        let definition = self.define(request, &sources, cancellation, sink)?;
        let catalog = self.locked_catalog(request, &definition, sink)?;
        let mut lowered = self.lower_all(request, &definition, &catalog, sink)?;
        let failed = Mutex::new(lowered.take_failed());
        let lowered = lowered.into_made();
        let imported = Imported::read(self, &request.cache_from, sink);
        let (definition, lowered, catalog) = (&definition, &lowered, &catalog);
        let build = Build { engine: self, request, definition, lowered, failed, catalog, sources: &sources, started };
        let layers = Arc::new(Layers::new(self.clone()));
        match build.run(&layers, &imported, cancellation, sink) {
            // What the cache promised is not there: the build does without it, once.
            Err(error) if layers.is_cache_broken() && !cancellation.is_cancelled() => {
                let message =
                    format!("the cache is broken, the build goes on without it: {}", crate::progress::chain(&error));
                sink(Event::Warning { vertex: definition.vertex(), message });
                build.run(&layers, &Imported::default(), cancellation, sink)
            }
            result => result,
        }
    }

    /// Reads what is to be built.
    fn define(
        &self,
        request: &BuildRequest,
        sources: &KnownSources,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<Definition, BuildError> {
        match &request.context {
            BuildContext::Local(path) if !path.is_dir() => Err(ContextError::NotFound { path: path.clone() }.into()),
            _ => Definition::read(request, self.text(request, sources, cancellation, sink)?),
        }
    }

    /// Makes the results outlast this process, where no output did so: the next build finds them in the cache.
    fn persist(&self, parts: &[Part<'_>]) -> Result<(), BuildError> {
        for layer in parts.iter().flat_map(|part| &part.snapshot.layers) {
            if let Layer::Step(_) = layer {
                let persisted = self.store()?.persist_layer(&layer.id());
                persisted.map_err(|error| BuildError::Export(Box::new(error.into())))?;
            }
        }
        Ok(())
    }

    /// The build graphs of the platforms of a request, in their order. Metadata of base images is asked for, and a
    /// remote context is fetched; nothing is built.
    ///
    /// # Errors
    /// The Dockerfile cannot be read or is wrong, or a base image is not there.
    pub fn graphs(
        &self,
        request: &BuildRequest,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<Vec<onetag_llb::Graph>, BuildError> {
        let text = self.text(request, &KnownSources::default(), cancellation, sink)?;
        let definition = Definition::read(request, text)?;
        let catalog = self.locked_catalog(request, &definition, sink)?;
        let lowered = self.lower_all(request, &definition, &catalog, sink)?;
        Ok(lowered.into_made().into_iter().map(|lowered| lowered.graph).collect())
    }

    /// Images as the lock file beside the Dockerfile pins them, where there is one.
    fn locked_catalog(
        &self,
        request: &BuildRequest,
        definition: &Definition,
        sink: &Sink<'_>,
    ) -> Result<Arc<Catalog>, BuildError> {
        let lock = UsedLock::load(request, definition.path.as_deref())?;
        if let Some(lock) = lock.as_ref().filter(|_| request.pull) {
            let path = lock.path.display();
            let message = format!("--pull does not move what {path} holds; onetag pin --update --lock {path} does");
            sink(Event::Warning { vertex: definition.vertex(), message });
        }
        Ok(Arc::new(Catalog::new(self.clone()).with_lock(lock)))
    }

    /// Reads the Dockerfile. What is fetched for it is known to the build that follows.
    fn text(
        &self,
        request: &BuildRequest,
        sources: &KnownSources,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<Text, BuildError> {
        if !Fetcher::is_needed(request) {
            return Text::load(request, sink);
        }
        let catalog = Arc::new(Catalog::new(self.clone()));
        let layers = Arc::new(Layers::new(self.clone()));
        let session: Arc<Session> = Arc::new(self.session(request, &catalog, &layers, sources)?);
        Fetcher { engine: self, request, session: &session, cancellation, sink }.text()
    }

    /// Lowers the Dockerfile for every platform, at the same time.
    fn lower_all(
        &self,
        request: &BuildRequest,
        definition: &Definition,
        catalog: &Catalog,
        sink: &Sink<'_>,
    ) -> Result<Platforms<Lowered>, BuildError> {
        let resolver = BuildResolver::new(catalog, sink)
            .with_files(definition.folder.clone(), definition.path.clone())
            .with_contexts(request.build_contexts.clone())
            .with_platform_mismatch(request.allow_platform_mismatch);
        let platforms = platforms(&request.platforms);
        let options: Vec<LowerOptions> =
            platforms.iter().map(|platform| lower_options(request, definition, platform, platforms.len())).collect();
        let file = &definition.file;
        let results: Vec<_> = match options.as_slice() {
            [only] => vec![lower(file, only, &resolver)],
            all => std::thread::scope(|scope| {
                let resolver = &resolver;
                let threads: Vec<_> =
                    all.iter().map(|options| scope.spawn(move || lower(file, options, resolver))).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect()
            }),
        };
        let labels: Vec<Platform> =
            platforms.iter().map(|platform| platform.clone().unwrap_or_else(Platform::host)).collect();
        let results: Vec<Result<Lowered, BuildError>> = match request.keep_going {
            true => {
                results.into_iter().map(|result| result.map_err(|error| definition.lowering_error(error))).collect()
            }
            false => preflight::passed(self, definition, &platforms, results)?.into_iter().map(Ok).collect(),
        };
        let lowered = Platforms::new(labels.into_iter().zip(results), request.keep_going)?;
        for message in self.report_checks(request, definition, catalog, &resolver)? {
            sink(Event::Warning { vertex: definition.vertex(), message });
        }
        Ok(lowered)
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
        Ok(outcome)
    }
}

/// What a build works with once its Dockerfile is lowered.
struct Build<'a> {
    engine: &'a Engine,
    request: &'a BuildRequest,
    definition: &'a Definition,
    lowered: &'a [Lowered],
    /// The platforms that are lost, by now.
    failed: Mutex<Vec<FailedPlatform>>,
    catalog: &'a Arc<Catalog>,
    sources: &'a KnownSources,
    started: SystemTime,
}

impl Build<'_> {
    /// Solves and exports.
    fn run(
        &self,
        layers: &Arc<Layers>,
        imported: &Imported,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<BuildOutcome, BuildError> {
        let Self { engine, request, definition, lowered, catalog, .. } = self;
        let session = Arc::new(engine.session(request, catalog, layers, self.sources)?);
        let mut solved = engine.solve(request, definition, lowered, &session, cancellation, sink, imported)?;
        if cancellation.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        if layers.is_cache_broken() && solved.snapshots.has_failed() {
            // Not the platforms' fault: they are built once more, without the cache.
            return Err(solved.snapshots.take_failed().remove(0).error);
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = failed.len();
        failed.extend(solved.snapshots.take_failed());
        partial::settle(request, &mut failed, solved.snapshots.labels())?;
        let result = self.publish(&solved, layers, imported, cancellation, sink);
        match result {
            Ok(mut outcome) => {
                outcome.failed = std::mem::take(&mut failed);
                Ok(outcome)
            }
            Err(error) => {
                failed.truncate(known);
                Err(error)
            }
        }
    }

    /// Brings what was made where it should go.
    fn publish(
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
        let lowered: Vec<Lowered> = made.iter().map(|(lowered, _)| (*lowered).clone()).collect();
        let lowered = lowered.as_slice();
        engine.report_lies(&parts, definition, sink)?;
        let is_inline = request.cache_to.iter().any(|export| export.place == CachePlace::Inline);
        let facts = Facts {
            request,
            dockerfile: &definition.name,
            lowered,
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
                activity.part("copying files", || write_files(layers, parts, options))?;
                return Ok(None);
            }
            Target::Tar(_) => {
                activity.part("sending tarball", || write_files(layers, parts, options))?;
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
}

impl Exporter<'_> {
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

/// The platforms that were asked for; `None` alone when there were none. One that was asked for twice is in the index
/// twice, as with BuildKit; the work is done once, since equal vertices are one.
fn platforms(asked: &[Platform]) -> Vec<Option<Platform>> {
    match asked {
        [] => vec![None],
        asked => asked.iter().map(|platform| Some(platform.normalize())).collect(),
    }
}

fn lower_options(
    request: &BuildRequest,
    definition: &Definition,
    platform: &Option<Platform>,
    count: usize,
) -> LowerOptions {
    LowerOptions {
        filename: definition.name.clone(),
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        build_platform: Platform::host(),
        target_platform: platform.clone(),
        multi_platform: count > 1,
        labels: request.labels.clone(),
        no_cache: request.no_cache.clone(),
        network: request.network,
        extra_hosts: request.extra_hosts.clone(),
        shm_size: request.shm_size_bytes,
        ulimits: request.ulimits.clone(),
        cgroup_parent: request.cgroup_parent.clone(),
        resolve_mode: match request.pull {
            true => onetag_dockerfile::resolver::ResolveMode::ForcePull,
            false => onetag_dockerfile::resolver::ResolveMode::Default,
        },
        local_unique: request.local_unique.clone(),
        context: definition.context.clone(),
        ..LowerOptions::default()
    }
}
