//! From lowered Dockerfiles to file systems.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use onetag_dockerfile::Lowered;
use onetag_dockerfile::span::LineRange;
use onetag_llb as llb;
use onetag_oci::{Digest, Platform};
use onetag_solver::{Class, Edge, Expectation, Graph, Plan, SolveError, SolveRecord, Solver, SolverOptions};

use super::definition::Definition;
use super::partial::Platforms;
use super::{BuildContext, BuildError, BuildRequest, CONTEXT, Cancellation, Event, Sink};
use crate::Engine;
use crate::cache::{BuildCache, CacheExport, Imported};
use crate::catalog::Catalog;
use crate::layers::Layers;
use crate::op::{BuildWorker, KnownFiles, KnownSources, Session, StepError, StepNetwork};
use crate::provenance::Pins;
use crate::resolve::context_name;
use crate::snapshot::{Artifact, Snapshot};

/// What a solve gives.
pub(super) struct Solved {
    /// What came of all platforms, in their order.
    pub(super) snapshots: Platforms<Arc<Snapshot>>,
    /// What the solver knows of the vertices.
    pub(super) records: Vec<SolveRecord>,
    /// The keys of the records that were taken from caches elsewhere.
    pub(super) imported: BTreeSet<Digest>,
    /// What sources turned out to be.
    pub(super) pins: Arc<Pins>,
}

impl Engine {
    /// Brings the results of all platforms into being, in their order.
    #[allow(clippy::too_many_arguments, reason = "all of them are what one build consists of")]
    pub(super) fn solve(
        &self,
        request: &BuildRequest,
        definition: &Definition,
        lowered: &[Lowered],
        session: &Arc<Session>,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
        imported: &Imported,
    ) -> Result<Solved, BuildError> {
        let merged = llb::Graph::merge(lowered.iter().map(|lowered| &lowered.graph));
        let with_result = || lowered.iter().filter(|lowered| lowered.result.is_some());
        let roots: Vec<Edge> = with_result().filter_map(|lowered| lowered.result.clone()).collect();
        let labels = with_result().map(|lowered| lowered.image.platform().to_string()).collect();
        let keep_going = request.keep_going;
        let exports_all = request.cache_to.iter().any(CacheExport::is_of_all_steps);
        let run = GraphRun { engine: self, session, imported, keep_going, exports_all, labels, cancellation, sink };
        let RunOutcome { results, records, used } = run.run(&merged, &roots, Some(definition))?;
        let mut results = results.into_iter();
        let snapshot = |lowered: &Lowered| {
            let result = match lowered.result {
                Some(_) => results.next().unwrap_or(Err(BuildError::Cancelled)),
                None => Ok(Artifact::default()),
            };
            (lowered.image.platform(), result.and_then(|artifact| materialized(session, lowered, artifact)))
        };
        let snapshots = Platforms::new(lowered.iter().map(snapshot), request.keep_going)?;
        Ok(Solved { snapshots, records, imported: used, pins: Arc::clone(&session.sources.pins) })
    }

    pub(super) fn session(
        &self,
        request: &BuildRequest,
        catalog: &Arc<Catalog>,
        layers: &Arc<Layers>,
        sources: &KnownSources,
    ) -> Result<Session, BuildError> {
        Ok(Session {
            engine: self.clone(),
            store: self.store()?.clone(),
            catalog: Arc::clone(catalog),
            layers: Arc::clone(layers),
            sandbox: self.sandbox().clone(),
            native: Platform::host(),
            contexts: contexts(request),
            secrets: request.secrets.clone(),
            ssh: request.ssh.clone(),
            network: StepNetwork::new(self.options().search_path.clone()),
            is_without_overlay: AtomicBool::new(false),
            files: KnownFiles::new(self.store()?.database()),
            captures: Mutex::default(),
            entitlements: request.entitlements,
            with_remote: !layers.is_cache_broken(),
            sources: sources.clone(),
        })
    }
}

/// The file system of a result; a folder of the host has to become one first.
fn materialized(session: &Session, lowered: &Lowered, artifact: Artifact) -> Result<Arc<Snapshot>, BuildError> {
    match artifact {
        Artifact::Snapshot(snapshot) => Ok(snapshot),
        Artifact::Local(local) => session.materialize(&local).map_err(|error| {
            let source: Arc<dyn std::error::Error + Send + Sync> = Arc::new(error);
            let vertex = lowered.result.as_ref().map(|edge| edge.vertex.clone());
            let vertex = vertex.unwrap_or_else(|| Digest::sha256(b""));
            BuildError::Step { vertex, name: String::new(), source, excerpt: None, hint: None }
        }),
    }
}

/// The folders behind the names of local sources.
fn contexts(request: &BuildRequest) -> BTreeMap<String, PathBuf> {
    let named = request.build_contexts.iter().filter(|(_, value)| !value.contains("://"));
    let mut contexts: BTreeMap<String, PathBuf> =
        named.map(|(name, value)| (context_name(name), PathBuf::from(value))).collect();
    if let BuildContext::Local(folder) | BuildContext::Archive(folder) = &request.context {
        contexts.insert(CONTEXT.to_owned(), folder.clone());
    }
    contexts
}

/// Different in every build, so that what is renewed is told from what was there.
fn salt() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{} {}", now.as_nanos(), std::process::id())
}

/// How a graph is run.
pub(super) struct GraphRun<'a> {
    pub(super) engine: &'a Engine,
    pub(super) session: &'a Arc<Session>,
    pub(super) imported: &'a Imported,
    pub(super) keep_going: bool,
    /// Whether results of steps that nothing needs are wanted as well, where they cost nothing but copying.
    pub(super) exports_all: bool,
    /// The platforms of the roots, for display.
    pub(super) labels: Vec<String>,
    pub(super) cancellation: &'a Cancellation,
    pub(super) sink: &'a Sink<'a>,
}

/// What running a graph gives.
pub(super) struct RunOutcome {
    /// The results of the roots, in their order; failures only where the run keeps going.
    pub(super) results: Vec<Result<Artifact, BuildError>>,
    /// What the solver knows of the vertices.
    records: Vec<SolveRecord>,
    /// The keys of the records that were taken from caches elsewhere.
    used: BTreeSet<Digest>,
}

impl GraphRun<'_> {
    /// Brings the results of `roots` into being. The Dockerfile, where there is one already, is what errors show lines of.
    pub(super) fn run(
        &self,
        merged: &llb::Graph,
        roots: &[Edge],
        definition: Option<&Definition>,
    ) -> Result<RunOutcome, BuildError> {
        let graph = Graph::try_from(merged).map_err(|error| BuildError::Solver(error.into()))?;
        let worker = BuildWorker { session: Arc::clone(self.session) };
        let cache = BuildCache::new(self.engine.store()?, self.imported, &self.session.catalog);
        let send = |event: Event| (self.sink)(event);
        let failure = |error| failure(error, merged, definition);
        let solver = Solver::new(&worker, &cache, self.options());
        let mut wanted = roots.to_vec();
        if self.exports_all {
            let plan = solver.plan(&graph, roots, self.cancellation).map_err(failure)?;
            wanted.extend(unkept(&plan).into_iter().map(|vertex| Edge { vertex, output: 0 }));
        }
        let outcome = solver.solve(&graph, &wanted, self.cancellation, &send);
        let mut outcome = outcome.map_err(|error| BuildError::Solver(error.into()))?;
        self.session.files.keep();
        if let (false, Some(error)) = (self.keep_going, outcome.error()) {
            return Err(failure(error));
        }
        let records = outcome.records;
        outcome.results.truncate(roots.len());
        let results = outcome.results.into_iter().map(|result| result.map_err(failure)).collect();
        Ok(RunOutcome { results, records, used: cache.used() })
    }

    /// Tells what [`GraphRun::run`] would do.
    pub(super) fn plan(
        &self,
        merged: &llb::Graph,
        roots: &[Edge],
        definition: &Definition,
    ) -> Result<onetag_solver::Plan, BuildError> {
        let graph = Graph::try_from(merged).map_err(|error| BuildError::Solver(error.into()))?;
        let worker = BuildWorker { session: Arc::clone(self.session) };
        let cache = BuildCache::new(self.engine.store()?, self.imported, &self.session.catalog);
        let plan = Solver::new(&worker, &cache, self.options()).plan(&graph, roots, self.cancellation);
        self.session.files.keep();
        plan.map_err(|error| failure(error, merged, Some(definition)))
    }

    fn options(&self) -> SolverOptions {
        let mut options = SolverOptions::for_processors(std::thread::available_parallelism().map_or(2, usize::from));
        options.keep_going = self.keep_going;
        options.salt = salt();
        options.labels.clone_from(&self.labels);
        options
    }
}

/// The copies that nothing needs and nobody kept, and that can be put together of what is there: an earlier build made
/// them in memory, and what read them is in the cache.
fn unkept(plan: &Plan) -> Vec<Digest> {
    let mut at_hand: HashSet<&Digest> = HashSet::new();
    let mut unkept = Vec::new();
    for vertex in &plan.vertices {
        let digest = &vertex.info.digest;
        match &vertex.expectation {
            Expectation::Present | Expectation::Cached | Expectation::Executed => drop(at_hand.insert(digest)),
            Expectation::Unneeded
                if vertex.info.class == Some(Class::Light)
                    && vertex.info.inputs.iter().all(|input| at_hand.contains(input)) =>
            {
                at_hand.insert(digest);
                unkept.push(digest.clone());
            }
            _ => {}
        }
    }
    unkept
}

fn failure(error: SolveError, graph: &llb::Graph, definition: Option<&Definition>) -> BuildError {
    match error {
        SolveError::Cancelled => BuildError::Cancelled,
        SolveError::Vertex { vertex, name, source } => {
            let ranges: Vec<LineRange> = graph
                .source_ranges(&vertex)
                .iter()
                .map(|range| LineRange { start: range.start.line, end: range.end.line })
                .collect();
            let hint = source.downcast_ref::<StepError>().and_then(StepError::hint);
            let excerpt = definition.and_then(|definition| definition.excerpt(&ranges));
            BuildError::Step { vertex, name, source, excerpt, hint }
        }
        error => BuildError::Solver(error),
    }
}
