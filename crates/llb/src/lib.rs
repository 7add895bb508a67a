//! The build graph: typed vertices and operations, encoded to BuildKit's exact bytes.
//!
//! An [`Op`] is one operation of BuildKit's `pb.Op`; its digest is the SHA-256 of its encoding, so two front ends
//! that mean the same step name the same vertex. [`Graph`] holds vertices in topological order and merges equal
//! digests; [`Definition`] is the message that BuildKit exchanges (`pb.Definition`).
//!
//! The encoding is that of Go's deterministic protobuf marshalling: fields by number, map keys sorted, the members of
//! a `oneof` after everything else. Any change of it changes every vertex digest and is a format break.
//!
//! This crate does no I/O.
#![forbid(unsafe_code)]

pub mod capability;
mod decode;
mod definition;
mod encode;
mod error;
mod exec;
mod file;
mod graph;
mod json;
mod metadata;
mod op;
mod source;
mod wire;

pub use definition::Definition;
pub use error::{DecodeError, GraphError};
pub use exec::{
    CacheMount, CacheSharing, CdiDevice, ContentCache, ExecMeta, ExecOp, HostIp, Mount, MountKind, NetworkMode,
    ProxyEnvironment, SecretEnvironment, SecretMount, SecurityMode, SshMount, Ulimit,
};
pub use file::{Chown, CopyAction, CopyMode, FileAction, FileActionKind, FileOp, Mkdir, Mkfile, Owner, Rm, Symlink};
pub use graph::{Builder, Edge, Graph, Vertex};
pub use json::{op_json, result_json};
pub use metadata::{OpMetadata, ProgressGroup};
pub use op::{Op, OpKind};
pub use source::{
    BuildOp, DiffOp, Location, MergeOp, Position, SourceFile, SourceMap, SourceOp, SourceRange, attribute,
};
