//! What a build reports: its events as updates of the display, its outcome as metadata.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use onetag_engine::build::BuildOutcome;
use onetag_engine::progress::{Event, LogStream, VertexInfo};
use onetag_oci::Digest;
use serde_json::{Map, Value, json};

use super::summary::Steps;
use crate::progress::{Display, Log, Status, Update, Vertex, Warning};

/// What a cancelled step is recognised by.
const CANCELLED: &str = "context canceled";
/// The step that puts provenance into the metadata file.
const RESOLVING: &str = "resolving provenance for metadata file";

/// Translates events and sends them to a display.
#[derive(Debug)]
pub struct Report {
    sender: Sender<Update>,
    vertices: Mutex<HashMap<Digest, Vertex>>,
    warnings: Mutex<Vec<String>>,
    steps: Mutex<Steps>,
}

impl Report {
    /// A report to this display; it must be gone before the display is finished.
    pub fn new(display: &Display) -> Self {
        Self {
            sender: display.sender(),
            vertices: Mutex::default(),
            warnings: Mutex::default(),
            steps: Mutex::default(),
        }
    }

    /// Ends the report. Gives the warnings that there were, and what became of the steps.
    pub fn finish(self) -> (Vec<String>, Steps) {
        let warnings = self.warnings.into_inner().unwrap_or_else(PoisonError::into_inner);
        (warnings, self.steps.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// What `--metadata-file` holds; with provenance in it that is a step of its own, as buildx has it.
    pub fn metadata(&self, outcome: &BuildOutcome, builder: &str) -> Value {
        if outcome.provenance.is_empty() {
            return metadata(outcome, builder, Timestamp::now());
        }
        let vertex = Digest::sha256(RESOLVING.as_bytes());
        let (digest, name) = (vertex.clone(), RESOLVING.to_owned());
        let info = VertexInfo { digest, name, inputs: Vec::new(), class: None, targets: Vec::new() };
        self.event(Event::Planned(vec![info]));
        self.event(Event::Started { vertex: vertex.clone(), time: SystemTime::now() });
        let metadata = metadata(outcome, builder, Timestamp::now());
        self.event(Event::Completed { vertex, time: SystemTime::now(), error: None, cancelled: false });
        metadata
    }

    /// Takes one event.
    pub fn event(&self, event: Event) {
        let update = match event {
            Event::Planned(vertices) => {
                let mut known = self.vertices.lock().unwrap_or_else(PoisonError::into_inner);
                let planned = vertices.into_iter().map(|info| {
                    let vertex = Vertex {
                        digest: info.digest.clone(),
                        inputs: info.inputs,
                        name: info.name,
                        started: None,
                        completed: None,
                        cached: false,
                        error: String::new(),
                        class: info.class,
                        targets: info.targets,
                    };
                    self.steps.lock().unwrap_or_else(PoisonError::into_inner).take(&vertex);
                    known.insert(info.digest, vertex.clone());
                    vertex
                });
                Update { vertexes: planned.collect(), ..Update::default() }
            }
            Event::Started { vertex, time } => self.change(&vertex, |vertex| {
                vertex.started = Some(timestamp(time));
                vertex.completed = None;
            }),
            Event::Cached { vertex, time } => self.change(&vertex, |vertex| {
                vertex.started = vertex.started.or(Some(timestamp(time)));
                vertex.completed = Some(timestamp(time));
                vertex.cached = true;
            }),
            Event::Completed { vertex, time, error, cancelled } => self.change(&vertex, |vertex| {
                vertex.started = vertex.started.or(Some(timestamp(time)));
                vertex.completed = Some(timestamp(time));
                vertex.error = if cancelled { CANCELLED.to_owned() } else { error.unwrap_or_default() };
            }),
            Event::Log { vertex, stream, data, time } => {
                let stream = if matches!(stream, LogStream::Stderr) { 2 } else { 1 };
                let log = Log { vertex, stream, data, timestamp: timestamp(time) };
                Update { logs: vec![log], ..Update::default() }
            }
            Event::Status { vertex, status, time } => {
                let name = if status.id.starts_with("transferring") { "transferring" } else { "" };
                let status = Status {
                    id: status.id,
                    vertex,
                    name: name.to_owned(),
                    total: status.total,
                    current: status.current,
                    timestamp: timestamp(time),
                    started: Some(timestamp(status.started)),
                    completed: status.completed.map(timestamp),
                };
                Update { statuses: vec![status], ..Update::default() }
            }
            Event::Warning { vertex, message } => {
                self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(message.clone());
                let warning = Warning { vertex, level: 1, short: message, detail: Vec::new(), url: String::new() };
                Update { warnings: vec![warning], ..Update::default() }
            }
        };
        // a display that has ended needs no news
        let _ = self.sender.send(update);
    }

    fn change(&self, digest: &Digest, change: impl FnOnce(&mut Vertex)) -> Update {
        let mut known = self.vertices.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get_mut(digest) {
            Some(vertex) => {
                change(vertex);
                self.steps.lock().unwrap_or_else(PoisonError::into_inner).take(vertex);
                Update { vertexes: vec![vertex.clone()], ..Update::default() }
            }
            None => Update::default(),
        }
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

/// The document of [`Report::metadata`]. `now` makes the reference of a build without an image.
fn metadata(outcome: &BuildOutcome, builder: &str, now: Timestamp) -> Value {
    let mut out = Map::new();
    match outcome.provenance.as_slice() {
        [] => {}
        [only] => drop(out.insert("buildx.build.provenance".to_owned(), only.clone())),
        several => {
            let mut by_platform: Vec<(String, &Value)> =
                outcome.platforms.iter().map(|built| built.platform.to_string()).zip(several).collect();
            by_platform.sort_by(|one, other| one.0.cmp(&other.0));
            for (platform, provenance) in by_platform {
                out.insert(format!("buildx.build.provenance/{platform}"), provenance.clone());
            }
        }
    }
    let digest = outcome.descriptor.as_ref().map(|descriptor| descriptor.digest.clone());
    let reference = digest.unwrap_or_else(|| Digest::sha256(now.to_string().as_bytes()));
    let reference = reference.encoded().get(..25).unwrap_or_default();
    out.insert("buildx.build.ref".to_owned(), json!(format!("{builder}/{builder}0/{reference}")));
    if let Some(digest) = &outcome.config_digest {
        out.insert("containerimage.config.digest".to_owned(), json!(digest));
    }
    if let Some(descriptor) = &outcome.descriptor {
        out.insert("containerimage.descriptor".to_owned(), json!(descriptor));
        out.insert("containerimage.digest".to_owned(), json!(descriptor.digest));
    }
    if !outcome.names.is_empty() {
        let names: Vec<_> = outcome.names.iter().map(ToString::to_string).collect();
        out.insert("image.name".to_owned(), json!(names.join(",")));
    }
    if !outcome.failed.is_empty() {
        let missing: Vec<_> = outcome.failed.iter().map(|failed| failed.platform.to_string()).collect();
        out.insert("onetag.missing.platforms".to_owned(), json!(missing));
    }
    Value::Object(out)
}
