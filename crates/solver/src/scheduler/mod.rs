//! One solve: states of vertices behind one lock, work on blocking threads.
//!
//! `state` decides, without doing anything that takes time; `work` does what takes time, without deciding.

mod keys;
mod plan;
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
pub use plan::{Expectation, Plan, PlannedVertex};

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
    /// What the wanted outputs are called in events, in their order; equal labels are one.
    pub labels: Vec<String>,
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
            labels: Vec::new(),
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
    /// Whether the key or the identity goes back to a result that was once renewed in spite of the cache: they are then
    /// of one solve's making, and another that starts with nothing comes to others.
    pub renewed: bool,
    /// The same of the fast key.
    pub fast_renewed: bool,
}

/// What a solve ended with.
pub struct SolveOutcome<R> {
    /// The wanted outputs, in the order in which they were asked for.
    pub results: Vec<Result<R, SolveError>>,
    /// The cache entries of the vertices that were looked at, inputs first.
    pub records: Vec<SolveRecord>,
}

impl<R> SolveOutcome<R> {
    /// The failure that explains missing outputs best: the first that is not a mere cancellation, else the first.
    pub fn error(&self) -> Option<SolveError> {
        let mut errors = self.results.iter().filter_map(|result| result.as_ref().err());
        errors.clone().find(|error| error.vertex().is_some()).or_else(|| errors.next()).cloned()
    }

    /// All outputs.
    ///
    /// # Errors
    /// The failure that explains the missing ones best.
    pub fn into_results(self) -> Result<Vec<R>, SolveError> {
        match self.error() {
            Some(error) => Err(error),
            None => self.results.into_iter().collect(),
        }
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
        let positions = positions(graph, roots)?;
        events(Event::Planned(self.announce(graph, &positions)));
        let (internal, _guard) = cancellation.child();
        let state = state::State::new(graph, &positions);
        let session = self.session(graph, &internal, events);
        let state = pool::run(state, &session);
        Ok(state.outcome(&positions))
    }

    /// Tells what [`Solver::solve`] would do. Executes nothing but sources that fetch nothing; reads the cache, and
    /// content that is at hand.
    ///
    /// # Errors
    /// A wanted output that is not in the graph, or the first operation that cannot be made or whose content cannot be
    /// read.
    pub fn plan(
        &self,
        graph: &Graph<W::Vertex>,
        roots: &[Edge],
        cancellation: &Cancellation,
    ) -> Result<Plan, SolveError> {
        let positions = positions(graph, roots)?;
        let infos = self.announce(graph, &positions);
        let session = self.session(graph, cancellation, &|_| {});
        plan::plan(&session, graph, infos, &positions)
    }

    fn session<'b>(
        &'b self,
        graph: &'b Graph<W::Vertex>,
        cancellation: &'b Cancellation,
        events: &'b (dyn Fn(Event) + Sync),
    ) -> work::Session<'b, W> {
        let (worker, cache, options) = (self.worker, self.cache, &self.options);
        work::Session { worker, cache, options, cancellation, events, vertices: graph.vertices() }
    }

    /// The vertices as they are announced.
    fn announce(&self, graph: &Graph<W::Vertex>, roots: &[(usize, usize)]) -> Vec<VertexInfo> {
        let targets = targets(graph, roots, &self.options.labels);
        let info = |(vertex, targets): (&Arc<W::Vertex>, Vec<String>)| VertexInfo {
            digest: vertex.digest().clone(),
            name: vertex.name(),
            inputs: vertex.inputs().into_iter().map(|edge| edge.vertex).collect(),
            class: self.worker.class(vertex),
            targets,
        };
        graph.vertices().iter().zip(targets).map(info).collect()
    }
}

fn positions<V: Vertex>(graph: &Graph<V>, roots: &[Edge]) -> Result<Vec<(usize, usize)>, GraphError> {
    let position = |root: &Edge| match graph.position(&root.vertex) {
        Some(position) => Ok((position, root.output)),
        None => Err(GraphError::MissingRoot { vertex: root.vertex.clone() }),
    };
    roots.iter().map(position).collect()
}

/// The labels of the roots that need each vertex.
fn targets<V: Vertex>(graph: &Graph<V>, roots: &[(usize, usize)], labels: &[String]) -> Vec<Vec<String>> {
    let mut targets: Vec<Vec<String>> = vec![Vec::new(); graph.vertices().len()];
    let mut seen: Vec<&String> = Vec::new();
    for label in labels {
        if seen.contains(&label) {
            continue;
        }
        seen.push(label);
        let mut needed = vec![false; graph.vertices().len()];
        for ((root, _), _) in roots.iter().zip(labels).filter(|(_, other)| *other == label) {
            needed[*root] = true;
        }
        for (position, vertex) in graph.vertices().iter().enumerate().rev() {
            if !needed[position] {
                continue;
            }
            targets[position].push(label.clone());
            for input in vertex.inputs() {
                if let Some(input) = graph.position(&input.vertex) {
                    needed[input] = true;
                }
            }
        }
    }
    targets
}
