//! The operations of the build graph over store, registry and sandbox.

mod content;
mod definition;
mod error;
mod exec;
mod file;
mod git;
mod http;
mod image;
mod known_files;
mod layered;
mod local;
mod mounts;
mod network;
mod once;
mod owners;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use onetag_llb::{self as llb, OpKind, SourceOp, Vertex};
use onetag_oci::{Descriptor, Digest, Platform};
use onetag_sandbox::Sandbox;
use onetag_solver::{Class, ExecContext, Op, OpError, Status, Worker};
use onetag_store::{Stack, Store};

pub use error::StepError;
pub(crate) use git::commit_time;
pub(crate) use known_files::KnownFiles;
pub(crate) use network::StepNetwork;

use crate::Engine;
use crate::catalog::Catalog;
use crate::layers::{LayerEvent, Layers};
use crate::provenance::Pins;
use crate::snapshot::{Artifact, Snapshot};

/// What the operations of one build share.
pub(crate) struct Session {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) sandbox: Sandbox,
    /// The machine's own platform; steps of others count as emulated.
    pub(crate) native: Platform,
    /// Folders by the names of local sources.
    pub(crate) contexts: BTreeMap<String, PathBuf>,
    /// Contents by the names of secrets.
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// Sockets of SSH agents by their names.
    pub(crate) ssh: BTreeMap<String, PathBuf>,
    /// The network of steps that do not ask for another.
    pub(crate) network: StepNetwork,
    /// Whether this host refuses overlay mounts, once that was found out.
    pub(crate) is_without_overlay: AtomicBool,
    /// Digests of the context's files from builds before.
    pub(crate) files: KnownFiles,
    /// What copies read of the context's files, by the context's address and the selection.
    pub(crate) captures: Mutex<HashMap<(usize, String), Arc<content::Capture>>>,
    /// Whether steps may ask for more privileges, and for the host's network.
    pub(crate) entitlements: Entitlements,
    /// Whether layers that only a cache elsewhere has count as there.
    pub(crate) with_remote: bool,
    /// What remote sources gave so far.
    pub(crate) sources: KnownSources,
}

/// What remote sources gave so far: within a build each is asked once, so that all of it sees the same state.
#[derive(Clone, Default)]
pub(crate) struct KnownSources {
    /// Results by the digests of the operations.
    results: Arc<Mutex<HashMap<Digest, Vec<Artifact>>>>,
    /// What sources turned out to be.
    pub(crate) pins: Arc<Pins>,
}

/// What steps may ask for beyond the usual (`--allow`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// `security.insecure`
    pub insecure: bool,
    /// `network.host`
    pub network_host: bool,
}

impl Session {
    /// The folders of a snapshot; fetching is shown as parts of the running vertex.
    fn stack(&self, snapshot: &Snapshot, context: &ExecContext<'_>) -> Result<Arc<Stack>, StepError> {
        Ok(self.layers.stack(snapshot, &Parts::new(context).sink())?)
    }

    /// Whether steps of a platform are emulated here. What cannot be told by names alone is tried.
    fn step_class(&self, platform: Option<&Platform>) -> Class {
        let Some(platform) = platform else { return Class::Native };
        match (self.native.architecture.as_str(), platform.architecture.as_str()) {
            (native, wanted) if native == wanted => Class::Native,
            ("amd64", "386") | ("arm64", "arm") if !self.sandbox.support(platform).is_emulated() => Class::Native,
            _ => Class::Emulated,
        }
    }

    /// Whether the files of an artifact can be read without fetching or unpacking any.
    fn is_at_hand(&self, artifact: &Artifact) -> bool {
        match artifact {
            Artifact::Local(_) => true,
            Artifact::Snapshot(snapshot) => snapshot.ids().iter().all(|layer| self.store.has_layer(layer)),
        }
    }

    /// The snapshot of an artifact; a folder of the host has to become a layer first.
    fn snapshot(&self, artifact: &Artifact) -> Result<Arc<Snapshot>, StepError> {
        match artifact {
            Artifact::Snapshot(snapshot) => Ok(Arc::clone(snapshot)),
            Artifact::Local(local) => self.materialize(local),
        }
    }
}

/// The operation of a source, by the scheme of its identifier.
fn source_op(session: Arc<Session>, source: &SourceOp, op: &llb::Op) -> Result<Box<dyn Op<Artifact>>, OpError> {
    let (scheme, rest) = source.identifier.split_once("://").unwrap_or((source.identifier.as_str(), ""));
    Ok(match scheme {
        "docker-image" | "oci-layout" => Box::new(image::ImageSource::new(session, rest, op)?),
        "local" => Box::new(local::LocalSource::new(session, rest, source)?),
        "http" | "https" => {
            Box::new(once::OnceSource::new(&session, op, http::HttpSource::new(session.clone(), source)?))
        }
        "git" => {
            let source = git::GitSource::new(session.clone(), source).map_err(StepError::from)?;
            Box::new(once::OnceSource::new(&session, op, source))
        }
        _ => return Err(StepError::UnknownSource { identifier: source.identifier.clone() }.into()),
    })
}

/// Shows what happens to layers as parts of the running vertex.
struct Parts<'a> {
    context: &'a ExecContext<'a>,
    started: Mutex<HashMap<String, SystemTime>>,
}

impl<'a> Parts<'a> {
    fn new(context: &'a ExecContext<'a>) -> Self {
        Self { context, started: Mutex::default() }
    }

    fn sink(&self) -> impl Fn(LayerEvent, &Descriptor) + Sync + '_ {
        |event, descriptor| {
            let (id, current, total, is_done) = match event {
                LayerEvent::Fetching => (descriptor.digest.to_string(), 0, descriptor.size, false),
                LayerEvent::Fetched => (descriptor.digest.to_string(), descriptor.size, descriptor.size, true),
                LayerEvent::Extracting => (format!("extracting {}", descriptor.digest), 0, 0, false),
                LayerEvent::Extracted => (format!("extracting {}", descriptor.digest), 0, 0, true),
            };
            let now = SystemTime::now();
            let mut known = self.started.lock().unwrap_or_else(PoisonError::into_inner);
            let started = *known.entry(id.clone()).or_insert(now);
            drop(known);
            self.context.status(Status { id, current, total, started, completed: is_done.then_some(now) });
        }
    }
}

/// Makes the operations of a build.
pub(crate) struct BuildWorker {
    pub(crate) session: Arc<Session>,
}

impl Worker for BuildWorker {
    type Vertex = Vertex;
    type Result = Artifact;

    fn op(&self, vertex: &Vertex) -> Result<Box<dyn Op<Artifact>>, OpError> {
        let session = Arc::clone(&self.session);
        let name = vertex.name();
        let op = &vertex.op;
        Ok(match &op.kind {
            OpKind::Source(source) => return source_op(session, source, op),
            OpKind::File(file) => Box::new(file::FileStep::new(session, op, file, name)),
            OpKind::Exec(exec) => Box::new(exec::ExecStep::new(session, op, exec, name)),
            OpKind::Merge(merge) => Box::new(layered::MergeStep::new(op, merge)),
            OpKind::Diff(diff) => Box::new(layered::DiffStep::new(op, diff)),
            OpKind::Build(_) => return Err(StepError::Unsupported("a nested build").into()),
        })
    }

    fn class(&self, vertex: &Vertex) -> Option<Class> {
        match &vertex.op.kind {
            OpKind::Exec(_) => Some(self.session.step_class(vertex.op.platform.as_ref())),
            _ => Some(Class::Light),
        }
    }

    fn load(&self, name: &str) -> Option<Artifact> {
        let snapshot = Snapshot::load(name, &self.session.store, self.session.with_remote)?;
        Some(Artifact::Snapshot(Arc::new(snapshot)))
    }

    fn save(&self, result: &Artifact) -> Option<String> {
        match result {
            Artifact::Snapshot(snapshot) => serde_json::to_string(snapshot.as_ref()).ok(),
            Artifact::Local(_) => None,
        }
    }
}
