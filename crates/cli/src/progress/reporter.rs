//! Steps of commands that are no builds, shown as builds show theirs.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use onetag_oci::Digest;

use super::{Display, Log, Update, Vertex};

/// Tells a display what a command does.
#[derive(Debug)]
pub struct Reporter {
    sender: Sender<Update>,
    steps: Mutex<HashMap<Digest, Vertex>>,
}

impl Reporter {
    /// A reporter for this display; it must be gone before the display is finished.
    pub fn new(display: &Display) -> Self {
        Self { sender: display.sender(), steps: Mutex::default() }
    }

    /// Begins a step.
    pub fn start(&self, name: &str) -> Digest {
        let digest = Digest::sha256(name.as_bytes());
        let vertex = Vertex {
            digest: digest.clone(),
            inputs: Vec::new(),
            name: name.to_owned(),
            started: Some(Timestamp::now()),
            completed: None,
            cached: false,
            error: String::new(),
            class: None,
            targets: Vec::new(),
        };
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), vertex.clone());
        self.send(Update { vertexes: vec![vertex], ..Update::default() });
        digest
    }

    /// Output of a step.
    pub fn log(&self, step: &Digest, data: &[u8]) {
        let log = Log { vertex: step.clone(), stream: 1, data: data.to_vec(), timestamp: Timestamp::now() };
        self.send(Update { logs: vec![log], ..Update::default() });
    }

    /// Ends a step, with an error when it failed.
    pub fn complete(&self, step: &Digest, error: Option<String>) {
        let vertex = self.steps.lock().unwrap_or_else(PoisonError::into_inner).remove(step);
        if let Some(mut vertex) = vertex {
            vertex.completed = Some(Timestamp::now());
            vertex.error = error.unwrap_or_default();
            self.send(Update { vertexes: vec![vertex], ..Update::default() });
        }
    }

    /// A display that has ended needs no news.
    fn send(&self, update: Update) {
        let _ = self.sender.send(update);
    }
}
