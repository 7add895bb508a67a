//! From lowered Dockerfiles to file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use onetag_dockerfile::Lowered;
use onetag_dockerfile::span::LineRange;
use onetag_llb as llb;
use onetag_oci::{Digest, Platform};
use onetag_solver::{Edge, Graph, SolveError, SolveRecord, Solver, SolverOptions};

use super::definition::Definition;
use super::{BuildContext, BuildError, BuildRequest, CONTEXT, Cancellation, Event, Sink};
use crate::Engine;
use crate::cache::{BuildCache, Imported};
use crate::catalog::Catalog;
use crate::layers::Layers;
use crate::op::{BuildWorker, KnownFiles, KnownSources, Session, StepError, StepNetwork};
use crate::provenance::Pins;
use crate::resolve::context_name;
use crate::snapshot::{Artifact, Snapshot};

/// What a solve gives.
pub(super) struct Solved {
    /// The results of all platforms, in their order.
    pub(super) snapshots: Vec<Arc<Snapshot>>,
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
        let roots: Vec<Edge> = lowered.iter().filter_map(|lowered| lowered.result.clone()).collect();
        let run = GraphRun { engine: self, session, imported, keep_going: request.keep_going, cancellation, sink };
        let RunOutcome { results, records, used } = run.run(&merged, &roots, Some(definition))?;
        let mut results = results.into_iter();
        let mut snapshots = Vec::with_capacity(lowered.len());
        for lowered in lowered {
            let artifact = match &lowered.result {
                Some(_) => results.next(),
                None => None,
            };
            snapshots.push(match artifact {
                Some(Artifact::Snapshot(snapshot)) => snapshot,
                Some(Artifact::Local(local)) => session.materialize(&local).map_err(|error| {
                    let source: Arc<dyn std::error::Error + Send + Sync> = Arc::new(error);
                    let vertex = lowered.result.as_ref().map(|edge| edge.vertex.clone());
                    let vertex = vertex.unwrap_or_else(|| Digest::sha256(b""));
                    BuildError::Step { vertex, name: String::new(), source, excerpt: None, hint: None }
                })?,
                None => Arc::default(),
            });
        }
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
    pub(super) cancellation: &'a Cancellation,
    pub(super) sink: &'a Sink<'a>,
}

/// What running a graph gives.
pub(super) struct RunOutcome {
    /// The results of the roots, in their order.
    pub(super) results: Vec<Artifact>,
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
        let mut options = SolverOptions::for_processors(std::thread::available_parallelism().map_or(2, usize::from));
        options.keep_going = self.keep_going;
        options.salt = salt();
        let solver = Solver::new(&worker, &cache, options);
        let send = |event: Event| (self.sink)(event);
        let outcome = solver.solve(&graph, roots, self.cancellation, &send);
        let outcome = outcome.map_err(|error| BuildError::Solver(error.into()))?;
        self.session.files.keep();
        let records = outcome.records.clone();
        let results = outcome.into_results().map_err(|error| failure(error, merged, definition))?;
        Ok(RunOutcome { results, records, used: cache.used() })
    }
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
