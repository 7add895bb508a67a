//! Building images: from a Dockerfile and a context to images of several platforms.

mod check;
mod definition;
mod error;
mod lock;
mod outcome;
mod request;
mod solve;

use std::sync::Arc;

use onetag_dockerfile::{Dockerfile, LowerOptions, Lowered, MainContext, lower};
use onetag_oci::Platform;
use onetag_solver::Cancellation;

pub use check::CheckOutcome;
pub use error::BuildError;
pub use lock::LockChoice;
pub use outcome::{BuildOutcome, PlatformOutcome};
pub use request::{BuildContext, BuildRequest, DockerfileSource};

use crate::Engine;
use crate::catalog::Catalog;
use crate::context::ContextError;
use crate::export::{
    Assembler, BuiltImage, ExportError, ExportOptions, Part, Target, load, push, write_archive, write_files,
};
use crate::flags::Annotation;
use crate::layers::Layers;
use crate::progress::{Activity, Event, Sink};
use crate::resolve::BuildResolver;
use definition::Definition;
pub(crate) use lock::UsedLock;

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
        if let BuildContext::Local(path) = &request.context
            && !path.is_dir()
        {
            return Err(ContextError::NotFound { path: path.clone() }.into());
        }
        let definition = Definition::load(request, sink)?;
        let lock = UsedLock::load(request, definition.path.as_deref())?;
        if let Some(lock) = lock.as_ref().filter(|_| request.pull) {
            let path = lock.path.display();
            let message = format!("--pull does not move what {path} holds; onetag pin --update --lock {path} does");
            sink(Event::Warning { vertex: definition.vertex(), message });
        }
        let catalog = Arc::new(Catalog::new(self.clone()).with_lock(lock));
        let lowered = self.lower_all(request, &definition, &catalog, sink)?;
        let layers = Arc::new(Layers::new(self.clone()));
        let snapshots = self.solve(request, &definition, &lowered, &catalog, &layers, cancellation, sink)?;
        if cancellation.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let parts: Vec<Part<'_>> =
            lowered.iter().zip(snapshots).map(|(lowered, snapshot)| Part { lowered, snapshot }).collect();
        self.export(request, &parts, &layers, cancellation, sink)
    }

    /// Lowers the Dockerfile for every platform, at the same time.
    fn lower_all(
        &self,
        request: &BuildRequest,
        definition: &Definition,
        catalog: &Catalog,
        sink: &Sink<'_>,
    ) -> Result<Vec<Lowered>, BuildError> {
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
        let results: Result<Vec<Lowered>, _> = results.into_iter().collect();
        let lowered = results.map_err(|error| definition.lowering_error(error))?;
        for message in self.report_checks(request, definition, catalog, &resolver)? {
            sink(Event::Warning { vertex: definition.vertex(), message });
        }
        Ok(lowered)
    }

    fn export(
        &self,
        request: &BuildRequest,
        parts: &[Part<'_>],
        layers: &Layers,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<BuildOutcome, BuildError> {
        let mut outcome = BuildOutcome::new(parts);
        let assembler = Assembler::new(self, layers);
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
            let exporter = Exporter { engine: self, assembler: &assembler, layers, cancellation, activity: &activity };
            let result = exporter.export(parts, &options, &annotations);
            let image = activity.finish(result).map_err(|error| BuildError::Export(Box::new(error)))?;
            if let Some(image) = &image {
                outcome.set_image(image, &options);
            }
        }
        Ok(outcome)
    }
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
        let image = self.assembler.assemble(parts, options, annotations, activity)?;
        let archive = |destination, docker, tar| {
            activity
                .part("sending tarball", || write_archive(engine, layers, &image, options, destination, docker, tar))
        };
        match &options.target {
            Target::Push => push(engine, layers, &image, options, self.cancellation, activity)?,
            Target::Store => load(engine, layers, &image, options, self.cancellation, activity)?,
            Target::Oci { destination, tar } => archive(destination, false, *tar)?,
            Target::Docker(destination) => archive(destination, true, true)?,
            Target::CacheOnly | Target::Files(_) | Target::Tar(_) => {}
        }
        Ok(Some(image))
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
        context: match &request.context {
            BuildContext::Local(_) | BuildContext::Empty => MainContext::Local { name: CONTEXT.to_owned() },
            BuildContext::Git(url) => MainContext::Git { url: url.clone(), keep_git_dir: false },
            BuildContext::Http(url) => MainContext::Http { url: url.clone(), archive: true },
        },
        ..LowerOptions::default()
    }
}
