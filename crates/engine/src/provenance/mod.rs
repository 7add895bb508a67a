//! Provenance: what an image was built from and how, as SLSA describes it and in BuildKit's form.
//!
//! `options` is what `--attest type=provenance` asks for, `sources` what a build used, `predicate` the document made of
//! it, `steps` its part about the build graph, `attach` the manifests that bring it into an index or beside it. All
//! but the last is pure.

mod attach;
mod options;
mod predicate;
mod sources;
mod steps;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use onetag_dockerfile::Lowered;
use onetag_oci::{Descriptor, Digest};

pub(crate) use attach::{Target as AttestationTarget, attestation, file_statement, push_referrer};
pub use options::{AttestationPlace, ProvenanceError, ProvenanceMode, ProvenanceOptions, ProvenanceVersion};
pub(crate) use predicate::{predicate, recorded};

use crate::build::BuildRequest;

/// What sources turned out to be, by their vertices.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<BTreeMap<Digest, Pin>>);

/// What a source turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// A commit of a repository.
    Commit(String),
    /// A file.
    File(Digest),
}

impl Pins {
    /// Notes what a vertex gave.
    pub(crate) fn note(&self, vertex: &Digest, pin: Pin) {
        self.lock().insert(vertex.clone(), pin);
    }

    pub(crate) fn get(&self, vertex: &Digest) -> Option<Pin> {
        self.lock().get(vertex).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Pin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layers of results by their vertices, as far as they are blobs.
pub(crate) type VertexLayers = BTreeMap<Digest, Vec<Descriptor>>;

/// One build, as provenance tells of it.
pub(crate) struct Facts<'a> {
    pub(crate) request: &'a BuildRequest,
    /// The Dockerfile's name.
    pub(crate) dockerfile: &'a str,
    /// What the Dockerfile became, of all platforms.
    pub(crate) lowered: &'a [&'a Lowered],
    pub(crate) pins: &'a Pins,
    pub(crate) started: SystemTime,
    pub(crate) finished: SystemTime,
}
