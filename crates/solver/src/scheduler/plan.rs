//! What a solve would do, told without doing it.
//!
//! Vertices are looked at once, inputs first. A vertex whose key is known is in the cache, or equal to another, or to
//! be executed. A key that needs content which only an execution or a download brings is not known before.

use std::collections::HashMap;

use onetag_oci::Digest;

use super::work::{InputView, Report, Session};
use crate::error::SolveError;
use crate::event::VertexInfo;
use crate::graph::{Graph, Vertex};
use crate::op::Worker;

/// What is expected of a vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// A source that is there.
    Present,
    /// A source that is fetched when the solve runs.
    Fetched,
    /// Its result is in the cache.
    Cached,
    /// It is executed.
    Executed,
    /// It has the cache key of another vertex, whose result it shares.
    Shared {
        /// The other vertex.
        with: Digest,
    },
    /// Whether it is in the cache turns out when another vertex has its result.
    Unknown {
        /// The other vertex.
        until: Digest,
    },
    /// It is not in the cache, and nothing needs it because what would is.
    Unneeded,
}

/// A vertex and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedVertex {
    /// The vertex.
    pub info: VertexInfo,
    /// What is expected.
    pub expectation: Expectation,
}

/// What a solve would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// All vertices, inputs first.
    pub vertices: Vec<PlannedVertex>,
}

/// What was found out about a vertex.
struct Known<R> {
    expectation: Expectation,
    identity: Option<Digest>,
    volatile: bool,
    outputs: Option<Vec<R>>,
}

impl<R> Known<R> {
    fn new(expectation: Expectation) -> Self {
        Self { expectation, identity: None, volatile: false, outputs: None }
    }
}

/// See the module.
pub(super) fn plan<W: Worker>(
    session: &Session<'_, W>,
    graph: &Graph<W::Vertex>,
    infos: Vec<VertexInfo>,
    roots: &[(usize, usize)],
) -> Result<Plan, SolveError> {
    let mut known: Vec<Known<W::Result>> = Vec::with_capacity(infos.len());
    let mut keys: HashMap<Digest, usize> = HashMap::new();
    for vertex in graph.vertices() {
        if session.cancellation.is_cancelled() {
            return Err(SolveError::Cancelled);
        }
        let inputs: Vec<(usize, usize)> = inputs(graph, &**vertex);
        let next = look(session, &**vertex, &inputs, &known, &mut keys)?;
        known.push(next);
    }
    let needed = needed(graph, &known, roots);
    let planned = |((info, known), needed): ((VertexInfo, Known<W::Result>), bool)| {
        let expectation = match known.expectation {
            Expectation::Executed | Expectation::Shared { .. } | Expectation::Unknown { .. } if !needed => {
                Expectation::Unneeded
            }
            expectation => expectation,
        };
        PlannedVertex { info, expectation }
    };
    Ok(Plan { vertices: infos.into_iter().zip(known).zip(needed).map(planned).collect() })
}

fn inputs<V: Vertex>(graph: &Graph<V>, vertex: &V) -> Vec<(usize, usize)> {
    let position = |edge: onetag_llb::Edge| graph.position(&edge.vertex).map(|input| (input, edge.output));
    vertex.inputs().into_iter().filter_map(position).collect()
}

fn look<W: Worker>(
    session: &Session<'_, W>,
    vertex: &W::Vertex,
    inputs: &[(usize, usize)],
    known: &[Known<W::Result>],
    keys: &mut HashMap<Digest, usize>,
) -> Result<Known<W::Result>, SolveError> {
    let failed = |error| session.failure(vertex, error);
    let mut views = Vec::with_capacity(inputs.len());
    for &(input, output) in inputs {
        match &known[input].identity {
            Some(identity) => {
                views.push(InputView { identity: identity.clone(), output, volatile: known[input].volatile });
            }
            None => return Ok(Known::new(Expectation::Unknown { until: cause(session, known, input) })),
        }
    }
    if session.is_fetched(vertex).map_err(failed)? {
        return Ok(Known::new(Expectation::Fetched));
    }
    let mut report = session.find_key(vertex, &views).map_err(failed)?;
    if let Report::NeedsContent { op, fast, content } = report {
        let mut results = Vec::with_capacity(content.len());
        for index in content {
            let (input, output) = inputs[index];
            let result = known[input].outputs.as_ref().and_then(|outputs| outputs.get(output));
            match result.filter(|result| op.is_at_hand(index, result)) {
                Some(result) => results.push((index, result.clone())),
                None => return Ok(Known::new(Expectation::Unknown { until: cause(session, known, input) })),
            }
        }
        report = session.find_content(vertex, op, fast, &views, &results).map_err(failed)?;
    }
    Ok(match report {
        Report::Source { outputs, identity, volatile } => {
            Known { expectation: Expectation::Present, identity: Some(identity), volatile, outputs: Some(outputs) }
        }
        Report::Found { record, outputs, .. } => Known {
            expectation: Expectation::Cached,
            identity: Some(record.identity),
            volatile: false,
            outputs: Some(outputs),
        },
        Report::Missed { key, identity, volatile, .. } => {
            let other = *keys.entry(key).or_insert(known.len());
            let (expectation, identity) = match known.get(other) {
                Some(with) => (
                    Expectation::Shared { with: session.vertices[other].digest().clone() },
                    with.identity.clone().unwrap_or(identity),
                ),
                None => (Expectation::Executed, identity),
            };
            Known { expectation, identity: Some(identity), volatile, outputs: None }
        }
        Report::Failed { error } => return Err(error),
        Report::NeedsContent { .. } | Report::Executed { .. } | Report::Busy { .. } => {
            Known::new(Expectation::Unknown { until: vertex.digest().clone() })
        }
    })
}

/// The vertex whose execution or download brings what is missing of `input`.
fn cause<W: Worker>(session: &Session<'_, W>, known: &[Known<W::Result>], input: usize) -> Digest {
    match &known[input].expectation {
        Expectation::Unknown { until } => until.clone(),
        Expectation::Shared { with } => with.clone(),
        _ => session.vertices[input].digest().clone(),
    }
}

/// Which vertices have to have a result.
fn needed<V: Vertex, R>(graph: &Graph<V>, known: &[Known<R>], roots: &[(usize, usize)]) -> Vec<bool> {
    let mut needed = vec![false; known.len()];
    for &(root, _) in roots {
        needed[root] = true;
    }
    for position in (0..known.len()).rev() {
        if !needed[position] {
            continue;
        }
        match &known[position].expectation {
            Expectation::Executed | Expectation::Unknown { .. } => {
                for (input, _) in inputs(graph, &*graph.vertices()[position]) {
                    needed[input] = true;
                }
            }
            Expectation::Shared { with } => {
                if let Some(other) = graph.position(with) {
                    needed[other] = true;
                }
            }
            _ => {}
        }
    }
    needed
}
