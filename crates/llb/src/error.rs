//! What can be wrong with an encoded definition or with a graph.

use onetag_oci::Digest;

/// Why bytes are not a definition that this crate reproduces.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The message is larger than the accepted limit.
    #[error("the definition has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// Bytes given.
        size: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// Not a protobuf message of the expected type.
    #[error("not a definition")]
    Protobuf(#[source] prost::DecodeError),
    /// A field holds a value outside its range.
    #[error("op {digest}: field {field} cannot be {value}")]
    Value {
        /// Digest of the op.
        digest: Digest,
        /// Name of the field in `ops.proto`.
        field: &'static str,
        /// What it holds.
        value: i64,
    },
    /// A required message is absent.
    #[error("op {digest}: field {field} is missing")]
    Missing {
        /// Digest of the op.
        digest: Digest,
        /// Name of the field in `ops.proto`.
        field: &'static str,
    },
    /// An input's digest does not parse.
    #[error("op {digest}: input `{input}` is not a digest")]
    Input {
        /// Digest of the op.
        digest: Digest,
        /// What stands there.
        input: String,
    },
    /// The op holds fields that this crate does not know, or is not in canonical order: encoded again it would be
    /// another vertex.
    #[error("op {digest} is not in canonical form or has fields unknown here")]
    NotCanonical {
        /// Digest of the op.
        digest: Digest,
    },
    /// The ops do not make a graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// Why vertices do not make a graph.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GraphError {
    /// An edge leads to a vertex that is not there (or comes later).
    #[error("vertex {vertex} needs {input}, which is not before it in the graph")]
    MissingInput {
        /// The vertex with the edge, or the root's own digest.
        vertex: Digest,
        /// Where the edge leads.
        input: Digest,
    },
    /// The last op of a definition must have exactly one input and nothing else.
    #[error("the definition does not end in an op that names its result")]
    NoTerminal,
}
