//! Building images: from a Dockerfile and a context to images of several platforms.

mod check;
mod definition;
mod error;
mod lock;
mod outcome;
mod partial;
mod plan;
mod preflight;
mod publish;
mod remote;
mod request;
mod solve;
mod times;
mod verify;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use onetag_dockerfile::resolver::ResolveError;
use onetag_dockerfile::{Dockerfile, LowerOptions, Lowered, lower};
use onetag_oci::Platform;
use onetag_solver::Cancellation;
pub use onetag_solver::{Class, Expectation};

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
use crate::cache::Imported;
use crate::catalog::Catalog;
use crate::context::ContextError;
use crate::export::ExportOptions;
use crate::layers::Layers;
use crate::op::{KnownSources, Session};
use crate::progress::{Event, Sink};
use crate::resolve::BuildResolver;
use definition::{Definition, Text};
pub(crate) use lock::UsedLock;
use partial::Platforms;
use remote::Fetcher;
use times::SourceTimes;

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
        let check = |output: &ExportOptions| output.check(&request.tags, request.platforms.len());
        request.outputs.iter().try_for_each(check).map_err(|error| BuildError::Export(Box::new(error)))?;
        let sources = KnownSources::default();
        let definition = self.define(request, &sources, cancellation, sink)?;
        let catalog = self.locked_catalog(request, &definition, sink)?;
        let times = SourceTimes::new(self, request, &sources, cancellation, sink);
        let mut lowered = self.lower_all(&times, &definition, &catalog)?;
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
            _ => {
                let definition = Definition::read(request, self.text(request, sources, cancellation, sink)?)?;
                if let Some(asked) = definition.foreign_front_end(request) {
                    let message = format!("syntax={asked} names another front end; the one that is built in answers");
                    sink(Event::Warning { vertex: definition.vertex(), message });
                }
                Ok(definition)
            }
        }
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
        let sources = KnownSources::default();
        let text = self.text(request, &sources, cancellation, sink)?;
        let definition = Definition::read(request, text)?;
        let catalog = self.locked_catalog(request, &definition, sink)?;
        let times = SourceTimes::new(self, request, &sources, cancellation, sink);
        let lowered = self.lower_all(&times, &definition, &catalog)?;
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
        times: &SourceTimes<'_>,
        definition: &Definition,
        catalog: &Catalog,
    ) -> Result<Platforms<Lowered>, BuildError> {
        let SourceTimes { request, sink, .. } = *times;
        let ask = |source: &onetag_llb::SourceOp, name: &str| times.of(source, name).map_err(ResolveError::new);
        let resolver = BuildResolver::new(catalog, sink)
            .with_times(&ask)
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
