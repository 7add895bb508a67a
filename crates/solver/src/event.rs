//! What a solve reports while it runs.

use std::time::SystemTime;

use onetag_oci::Digest;

use crate::op::Class;

/// A vertex as it is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VertexInfo {
    /// The digest that later events refer to.
    pub digest: Digest,
    /// The name shown to the user.
    pub name: String,
    /// The digests of the vertices it is made from.
    pub inputs: Vec<Digest>,
    /// How heavy its operation is; `None` for what is no operation of a graph.
    pub class: Option<Class>,
    /// The labels of the wanted outputs that need it, in their order.
    pub targets: Vec<String>,
}

/// Which stream of a process a log line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The progress of a part of a vertex: a transfer, an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What is going on; unique within its vertex.
    pub id: String,
    /// Done so far, in bytes.
    pub current: u64,
    /// To do in all, in bytes; 0 when it is not known.
    pub total: u64,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub completed: Option<SystemTime>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The vertices of the graph, before anything runs.
    Planned(Vec<VertexInfo>),
    /// Work on a vertex began.
    Started {
        /// The vertex.
        vertex: Digest,
        /// When.
        time: SystemTime,
    },
    /// A vertex was found in the cache, or shared with an equal one; no `Completed` follows.
    Cached {
        /// The vertex.
        vertex: Digest,
        /// When.
        time: SystemTime,
    },
    /// Work on a vertex ended.
    Completed {
        /// The vertex.
        vertex: Digest,
        /// When.
        time: SystemTime,
        /// Why it failed, as one line for the user.
        error: Option<String>,
        /// Whether it was cancelled rather than failed.
        cancelled: bool,
    },
    /// Output of a vertex.
    Log {
        /// The vertex.
        vertex: Digest,
        /// Where it came from.
        stream: LogStream,
        /// The bytes as they came; not cut at line ends.
        data: Vec<u8>,
        /// When.
        time: SystemTime,
    },
    /// Progress of a part of a vertex.
    Status {
        /// The vertex.
        vertex: Digest,
        /// The part.
        status: Status,
        /// When.
        time: SystemTime,
    },
    /// Something the user should know about a vertex.
    Warning {
        /// The vertex.
        vertex: Digest,
        /// One line.
        message: String,
    },
}
