//! The state of a build as its updates add up, shared by the displays.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use jiff::Timestamp;
use onetag_engine::build::Class;
use onetag_oci::Digest;

use super::status::{Log, Status, Update, Vertex, Warning};

/// So many last lines of a failed step are repeated at the end.
const TAIL_LINES: usize = 10;

/// Everything known about one step.
#[derive(Debug)]
pub struct Step {
    /// Its last report.
    pub vertex: Vertex,
    /// Its number on the plain display; zero until it was printed.
    pub index: usize,
    /// Its parts in the order in which they started.
    pub statuses: Vec<Status>,
    /// Parts with news since the last print.
    pub status_updates: BTreeSet<String>,
    /// Its warnings.
    pub warnings: Vec<Warning>,
    /// How many of them were printed.
    pub warnings_printed: usize,
    /// Lines not printed yet, with their time; the last may be incomplete.
    pub lines: Vec<Vec<u8>>,
    /// Whether the last line is incomplete.
    pub is_partial: bool,
    /// How much of the first line was printed already.
    pub printed_bytes: usize,
    /// The last complete lines.
    pub tail: VecDeque<Vec<u8>>,
    /// How much it had to say since it became the current one.
    pub count: usize,
    /// Since when it waits to be shown.
    pub waiting_since: Option<Instant>,
    intervals: BTreeMap<Timestamp, Option<Timestamp>>,
}

impl Step {
    fn new(vertex: Vertex) -> Self {
        Self {
            vertex,
            index: 0,
            statuses: Vec::new(),
            status_updates: BTreeSet::new(),
            warnings: Vec::new(),
            warnings_printed: 0,
            lines: Vec::new(),
            is_partial: false,
            printed_bytes: 0,
            tail: VecDeque::new(),
            count: 0,
            waiting_since: None,
            intervals: BTreeMap::new(),
        }
    }

    /// Whether it has started.
    pub fn is_started(&self) -> bool {
        !self.intervals.is_empty()
    }

    /// When it started first.
    pub fn started_at(&self) -> Option<Timestamp> {
        self.intervals.keys().next().copied()
    }

    /// Whether it runs under emulation.
    pub fn is_emulated(&self) -> bool {
        self.vertex.class == Some(Class::Emulated)
    }

    /// Whether all that started of it has ended.
    pub fn is_completed(&self) -> bool {
        self.is_started() && self.intervals.values().all(Option::is_some)
    }

    /// When its last run ended.
    pub fn completed_at(&self) -> Option<Timestamp> {
        self.intervals.values().next_back().copied().flatten()
    }

    /// Seconds that it ran; overlapping runs count once, a run that goes on counts until `now`.
    pub fn seconds(&self, now: Timestamp) -> f64 {
        let mut total = 0.0;
        let mut end: Option<Timestamp> = None;
        for (start, stop) in &self.intervals {
            let stop = stop.unwrap_or(now);
            let start = end.map_or(*start, |end| end.max(*start));
            total += seconds_between(start, stop).max(0.0);
            end = Some(end.map_or(stop, |end| end.max(stop)));
        }
        total
    }

    fn touch(&mut self) {
        if self.count == 0 {
            self.waiting_since = Some(Instant::now());
        }
        self.count += 1;
    }

    fn append(&mut self, log: &Log) {
        let start = self.intervals.keys().next_back().copied();
        let seconds = start.map_or(0.0, |start| seconds_between(start, log.timestamp));
        let precision = if seconds < 10.0 {
            3
        } else if seconds < 100.0 {
            2
        } else {
            1
        };
        for (number, line) in log.data.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            match self.lines.last_mut() {
                Some(last) if number == 0 && self.is_partial => last.extend_from_slice(text),
                _ => {
                    let mut stamped = format!("{seconds:.precision$} ").into_bytes();
                    stamped.extend_from_slice(text);
                    self.lines.push(stamped);
                }
            }
        }
        self.is_partial = !log.data.ends_with(b"\n");
    }

    /// Remembers a printed line for the end of a failed build.
    pub fn remember(&mut self, line: Vec<u8>) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}

/// Seconds from one time to another.
pub fn seconds_between(start: Timestamp, stop: Timestamp) -> f64 {
    (stop.as_nanosecond() - start.as_nanosecond()) as f64 / 1e9
}

/// All steps.
#[derive(Debug, Default)]
pub struct Trace {
    /// Steps by what identifies them.
    pub steps: HashMap<Digest, Step>,
    /// Started steps in the order of their start.
    pub order: Vec<Digest>,
    /// All steps in the order in which they were announced.
    announced: Vec<Digest>,
    /// Steps with news since they were last printed.
    pub updates: BTreeSet<Digest>,
}

impl Trace {
    /// Takes in an update.
    pub fn apply(&mut self, update: Update) {
        for vertex in update.vertexes {
            self.vertex(vertex);
        }
        for status in update.statuses {
            let Some(step) = self.steps.get_mut(&status.vertex) else { continue };
            step.status_updates.insert(status.id.clone());
            step.touch();
            self.updates.insert(status.vertex.clone());
            match step.statuses.iter_mut().find(|known| known.id == status.id) {
                Some(known) => *known = status,
                None => step.statuses.push(status),
            }
        }
        for warning in update.warnings {
            let Some(step) = self.steps.get_mut(&warning.vertex) else { continue };
            step.touch();
            self.updates.insert(warning.vertex.clone());
            step.warnings.push(warning);
        }
        for log in update.logs {
            let Some(step) = self.steps.get_mut(&log.vertex) else { continue };
            step.append(&log);
            step.touch();
            self.updates.insert(log.vertex);
        }
    }

    fn vertex(&mut self, vertex: Vertex) {
        let digest = vertex.digest.clone();
        let started = vertex.started;
        let known = self.steps.contains_key(&digest);
        if !known {
            self.announced.push(digest.clone());
        }
        let step = self.steps.entry(digest.clone()).or_insert_with(|| Step::new(vertex.clone()));
        let was_started = step.is_started();
        if let Some(started) = started {
            let changed = !was_started || step.vertex != vertex;
            step.intervals.insert(started, vertex.completed);
            if changed {
                step.touch();
                self.updates.insert(digest.clone());
            }
            if !was_started {
                self.order.push(digest);
            }
            step.vertex = vertex;
        } else if !known || !was_started {
            step.vertex = vertex;
        }
    }

    /// How many steps there are, and how many have ended.
    pub fn progress(&self) -> (usize, usize) {
        (self.steps.values().filter(|step| step.is_completed()).count(), self.steps.len())
    }

    /// The platforms, in the order in which the steps that most of them need name them, then in that of the steps.
    pub fn targets(&self) -> Vec<&String> {
        let steps = self.announced.iter().filter_map(|digest| self.steps.get(digest));
        let mut lists: Vec<&Vec<String>> = steps.map(|step| &step.vertex.targets).collect();
        lists.sort_by_key(|list| usize::MAX - list.len());
        let mut targets = Vec::new();
        for target in lists.into_iter().flatten() {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        targets
    }

    /// Keeps of the output of steps with news what a display may still show.
    pub fn shorten_output(&mut self, lines: usize) {
        for digest in std::mem::take(&mut self.updates) {
            let Some(step) = self.steps.get_mut(&digest) else { continue };
            let excess = step.lines.len().saturating_sub(lines.max(1));
            for line in step.lines.drain(..excess).collect::<Vec<_>>() {
                step.remember(line);
            }
        }
    }

    /// What failed steps wrote last, between rules; `name` and `line` make of names and lines what is to be shown.
    pub fn failures(&mut self, name: impl Fn(&str) -> String, line: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        for digest in &self.order {
            let Some(step) = self.steps.get_mut(digest) else { continue };
            if step.vertex.error.is_empty() || step.vertex.is_canceled() {
                continue;
            }
            for written in std::mem::take(&mut step.lines) {
                step.remember(written);
            }
            out.extend_from_slice(format!("------\n > {}:\n", name(&step.vertex.name)).as_bytes());
            for written in &step.tail {
                out.extend_from_slice(&line(written));
                out.push(b'\n');
            }
            out.extend_from_slice(b"------\n");
        }
        out
    }
}
