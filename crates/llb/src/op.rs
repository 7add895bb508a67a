//! One operation of the graph.

use onetag_oci::{Digest, Platform};

use crate::{BuildOp, DiffOp, Edge, ExecOp, FileOp, MergeOp, SourceOp};

/// A vertex's operation (`pb.Op`). Its digest is its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Results that the operation works on; the operation's fields refer to them by position.
    pub inputs: Vec<Edge>,
    /// What is done.
    pub kind: OpKind,
    /// For which platform. Absent where the result does not depend on it (files, merges, local sources).
    pub platform: Option<Platform>,
    /// Filters on who may execute it; empty for everyone.
    pub constraints: Vec<String>,
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Brings something in: an image, a local folder, a URL, a git repository.
    Source(SourceOp),
    /// Runs a command.
    Exec(Box<ExecOp>),
    /// Copies, makes or removes files.
    File(FileOp),
    /// Lays results over each other.
    Merge(MergeOp),
    /// What a result adds to another.
    Diff(DiffOp),
    /// A nested definition.
    Build(Box<BuildOp>),
}

impl Op {
    /// An operation without inputs, platform and constraints.
    pub fn new(kind: OpKind) -> Op {
        Op { inputs: Vec::new(), kind, platform: None, constraints: Vec::new() }
    }

    /// The digest of [`Op::encode`].
    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.encode())
    }
}
