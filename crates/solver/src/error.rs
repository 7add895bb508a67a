//! Errors of the graph and of a solve.

use std::sync::Arc;

use onetag_oci::Digest;

/// What an operation fails with; opaque here, the worker's own type behind it.
pub type OpError = Box<dyn std::error::Error + Send + Sync>;

/// A graph that cannot be solved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A vertex names an input that is not in the graph before it.
    #[error("vertex {vertex} has an input {input} that is not in the graph")]
    MissingInput {
        /// The vertex.
        vertex: Digest,
        /// The input it names.
        input: Digest,
    },
    /// A wanted output belongs to no vertex of the graph.
    #[error("vertex {vertex} is wanted but not in the graph")]
    MissingRoot {
        /// The vertex that was asked for.
        vertex: Digest,
    },
}

/// Why an output was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SolveError {
    /// The operation of a vertex failed.
    #[error("{name}")]
    Vertex {
        /// The vertex that failed.
        vertex: Digest,
        /// Its name.
        name: String,
        /// The operation's own error.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// An operation gave fewer outputs than were asked for.
    #[error("{name}: output {output} does not exist")]
    MissingOutput {
        /// The vertex.
        vertex: Digest,
        /// Its name.
        name: String,
        /// The output that was asked for.
        output: usize,
    },
    /// The solve was cancelled from outside, or by the failure of another output.
    #[error("canceled")]
    Cancelled,
    /// The graph itself is broken.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl SolveError {
    /// The vertex that the error is about.
    pub fn vertex(&self) -> Option<&Digest> {
        match self {
            Self::Vertex { vertex, .. } | Self::MissingOutput { vertex, .. } => Some(vertex),
            Self::Cancelled | Self::Graph(_) => None,
        }
    }
}
