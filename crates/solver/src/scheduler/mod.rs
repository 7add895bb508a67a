//! One solve: states of vertices behind one lock, work on blocking threads.
//!
//! `state` decides, without doing anything that takes time; `work` does what takes time, without deciding.

mod keys;
mod pool;
mod state;
mod work;

use std::sync::Arc;

use onetag_llb::Edge;
use onetag_oci::Digest;

use crate::cache::{CacheRecord, CacheStorage};
use crate::cancel::Cancellation;
use crate::error::{GraphError, SolveError};
use crate::event::{Event, VertexInfo};
use crate::graph::{Graph, Vertex};
use crate::op::Worker;

/// How a solve is run.
#[derive(Clone, Debug)]
pub struct SolverOptions {
    /// How many native steps run at once.
    pub native: usize,
    /// How many emulated steps run at once.
    pub emulated: usize,
    /// How many operations on files and metadata run at once.
    pub light: usize,
    /// Finish what a failure does not concern rather than cancel it.
    pub keep_going: bool,
    /// Makes the identities of results that ignore the cache; different for every solve.
    pub salt: String,
}

impl SolverOptions {
    /// Limits for a machine of `processors`.
    pub fn for_processors(processors: usize) -> Self {
        let processors = processors.max(1);
        Self {
            native: processors.max(2),
            emulated: processors.max(2),
            light: (processors * 2).max(4),
            keep_going: false,
            salt: String::new(),
        }
    }
}

/// The cache entry that a vertex was found under or left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolveRecord {
    /// The vertex.
    pub vertex: Digest,
    /// Its cache key.
    pub key: Digest,
    /// The fast key that leads to it, where that may be remembered.
    pub fast: Option<Digest>,
    /// What the cache holds.
    pub record: CacheRecord,
    /// Whether it was found rather than made.
    pub found: bool,
}

/// What a solve ended with.
pub struct SolveOutcome<R> {
    /// The wanted outputs, in the order in which they were asked for.
    pub results: Vec<Result<R, SolveError>>,
    /// The cache entries of the vertices that were looked at, inputs first.
    pub records: Vec<SolveRecord>,
}

impl<R> SolveOutcome<R> {
    /// All outputs, or the failure that explains the missing ones best.
    ///
    /// # Errors
    /// The first failure that is not a mere cancellation, else the first.
    pub fn into_results(self) -> Result<Vec<R>, SolveError> {
        let cause = |result: &&Result<R, SolveError>| matches!(result, Err(error) if error.vertex().is_some());
        if let Some(Err(error)) = self.results.iter().find(cause) {
            return Err(error.clone());
        }
        self.results.into_iter().collect()
    }
}

/// Solves graphs with one worker and one cache.
pub struct Solver<'a, W: Worker> {
    worker: &'a W,
    cache: &'a dyn CacheStorage,
    options: SolverOptions,
}

impl<'a, W: Worker> Solver<'a, W> {
    /// A solver over `worker` and `cache`.
    pub fn new(worker: &'a W, cache: &'a dyn CacheStorage, options: SolverOptions) -> Self {
        Self { worker, cache, options }
    }

    /// Makes the wanted outputs of a graph. Blocks until all is done, failed or cancelled and no operation runs.
    ///
    /// # Errors
    /// A wanted output that is not in the graph. Failures of vertices are in the outcome, one for each output.
    pub fn solve(
        &self,
        graph: &Graph<W::Vertex>,
        roots: &[Edge],
        cancellation: &Cancellation,
        events: &(dyn Fn(Event) + Sync),
    ) -> Result<SolveOutcome<W::Result>, GraphError> {
        let mut positions = Vec::with_capacity(roots.len());
        for root in roots {
            let position = graph.position(&root.vertex);
            let position = position.ok_or_else(|| GraphError::MissingRoot { vertex: root.vertex.clone() })?;
            positions.push((position, root.output));
        }
        events(Event::Planned(graph.vertices().iter().map(info).collect()));
        let (internal, _guard) = cancellation.child();
        let state = state::State::new(graph, &positions);
        let session = work::Session {
            worker: self.worker,
            cache: self.cache,
            options: &self.options,
            cancellation: &internal,
            events,
            vertices: graph.vertices(),
        };
        let state = pool::run(state, &session);
        Ok(state.outcome(&positions))
    }
}

fn info<V: Vertex>(vertex: &Arc<V>) -> VertexInfo {
    let inputs = vertex.inputs().into_iter().map(|edge| edge.vertex).collect();
    VertexInfo { digest: vertex.digest().clone(), name: vertex.name(), inputs }
}
