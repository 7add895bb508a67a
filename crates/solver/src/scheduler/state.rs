//! The states of all vertices of a solve, and every decision about them.
//!
//! ```text
//! Idle ─▶ AwaitKeys ─▶ Keying ─▶ Done (a source, or found in the cache)
//!                        │ ▲
//!                        ▼ │
//!                   AwaitContent            inputs that count by content have to exist first
//!                        │
//!                        ├─▶ Merged         another vertex has the same cache key
//!                        └─▶ Missed ─▶ AwaitInputs ─▶ Executing ─▶ Done
//! ```
//! A vertex is *wanted* when its result is; wanting its key goes up the graph first and costs no execution. A vertex is
//! *blocked* when its key waits for an execution: inputs of it that are known to be missing in the cache are then made
//! at once rather than after the key is known, so that independent branches run side by side.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use onetag_oci::Digest;

use super::work::{Execution, InputView, Report, Work};
use super::{SolveOutcome, SolveRecord};
use crate::cache::CacheRecord;
use crate::error::SolveError;
use crate::graph::{Graph, Vertex};
use crate::op::{Class, Op};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    AwaitKeys,
    Keying,
    AwaitContent,
    Missed,
    AwaitInputs,
    Executing,
    Merged(usize),
    Done,
    Failed,
}

struct Node<R> {
    digest: Digest,
    name: String,
    inputs: Vec<(usize, usize)>,
    dependents: Vec<usize>,
    phase: Phase,
    op: Option<Arc<dyn Op<R>>>,
    identity: Option<Digest>,
    key: Option<Digest>,
    fast: Option<Digest>,
    /// The inputs that count by content.
    content: Vec<usize>,
    /// Whether identity or key will never come again, so that nothing under them is worth keeping.
    volatile: bool,
    record: Option<CacheRecord>,
    found: bool,
    outputs: Option<Arc<Vec<R>>>,
    error: Option<SolveError>,
    wants_key: bool,
    wanted: bool,
    blocked: bool,
}

/// See the module.
pub(super) struct State<R> {
    nodes: Vec<Node<R>>,
    roots: Vec<usize>,
    keys: HashMap<Digest, usize>,
    dirty: VecDeque<usize>,
    ready: Vec<(Lane, VecDeque<Work<R>>)>,
    running: HashMap<Lane, usize>,
    /// Executions that other solves are at, each with the time of the next try.
    waiting: Vec<(Instant, Lane, Execution<R>)>,
    /// Vertices that became `Done` by merging; reported by whoever holds no lock.
    shared: Vec<usize>,
    stopped: bool,
    keep_going: bool,
}

/// A queue with a limit of its own, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// Keys and content digests.
    Key,
    /// Operations of a class.
    Step(Class),
}

/// After so long it is seen whether another solve has made what this one waits for.
const PATIENCE: Duration = Duration::from_millis(10);

const LANES: [Lane; 4] = [Lane::Key, Lane::Step(Class::Light), Lane::Step(Class::Emulated), Lane::Step(Class::Native)];

impl<R: Clone> State<R> {
    /// The state before anything ran, with the first work queued.
    pub(super) fn new<V: Vertex>(graph: &Graph<V>, roots: &[(usize, usize)]) -> Self {
        let mut nodes: Vec<Node<R>> = Vec::with_capacity(graph.vertices().len());
        for (position, vertex) in graph.vertices().iter().enumerate() {
            let inputs: Vec<(usize, usize)> = vertex
                .inputs()
                .into_iter()
                .filter_map(|edge| graph.position(&edge.vertex).map(|input| (input, edge.output)))
                .collect();
            for &(input, _) in &inputs {
                if nodes[input].dependents.last() != Some(&position) {
                    nodes[input].dependents.push(position);
                }
            }
            nodes.push(Node::new(vertex.digest().clone(), vertex.name(), inputs));
        }
        let mut state = Self {
            nodes,
            roots: roots.iter().map(|&(root, _)| root).collect(),
            keys: HashMap::new(),
            dirty: VecDeque::new(),
            ready: LANES.into_iter().map(|lane| (lane, VecDeque::new())).collect(),
            running: HashMap::new(),
            waiting: Vec::new(),
            shared: Vec::new(),
            stopped: false,
            keep_going: false,
        };
        for root in state.roots.clone() {
            state.want(root);
        }
        state.settle();
        state
    }

    /// Lets failures pass by what they do not concern.
    pub(super) fn set_keep_going(&mut self, keep_going: bool) {
        self.keep_going = keep_going;
    }

    /// Hands out nothing more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether nothing more will be handed out: all wanted outputs are settled, the solve was stopped, or nothing runs
    /// that could bring anything forward.
    pub(super) fn is_over(&self) -> bool {
        let settled = |&root: &usize| matches!(self.nodes[root].phase, Phase::Done | Phase::Failed);
        let is_queued = || self.ready.iter().any(|(_, queue)| !queue.is_empty()) || !self.waiting.is_empty();
        let idle = || !is_queued() && self.running.values().all(|&n| n == 0);
        self.stopped || self.roots.iter().all(settled) || idle()
    }

    /// The next piece of work whose lane is not full. The caller MUST `finish` it.
    pub(super) fn next(&mut self, limit: impl Fn(Lane) -> usize) -> Option<(Lane, Work<R>)> {
        if self.is_over() {
            return None;
        }
        self.try_again();
        for (lane, queue) in &mut self.ready {
            let running = self.running.entry(*lane).or_default();
            if *running < limit(*lane).max(1)
                && let Some(work) = queue.pop_front()
            {
                *running += 1;
                return Some((*lane, work));
            }
        }
        None
    }

    /// Queues what waited long enough for other solves.
    fn try_again(&mut self) {
        let now = Instant::now();
        let (due, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(when, ..)| *when <= now);
        self.waiting = waiting;
        for (_, lane, execution) in due {
            self.push(lane, Work::Execute(execution));
        }
    }

    /// When something that waits for other solves is tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.waiting.iter().map(|(when, ..)| *when).min()
    }

    /// What still waits for other solves.
    pub(super) fn take_waiting(&mut self) -> Vec<Execution<R>> {
        std::mem::take(&mut self.waiting).into_iter().map(|(.., execution)| execution).collect()
    }

    /// How many pieces of work could be handed out now.
    pub(super) fn available(&self, limit: impl Fn(Lane) -> usize) -> usize {
        if self.is_over() {
            return 0;
        }
        let free = |lane: Lane| limit(lane).max(1).saturating_sub(self.running.get(&lane).copied().unwrap_or(0));
        self.ready.iter().map(|(lane, queue)| queue.len().min(free(*lane))).sum()
    }

    /// Takes in what became of a piece of work. Returns whether the solve has to be cancelled for it.
    pub(super) fn finish(&mut self, lane: Lane, position: usize, report: Report<R>) -> bool {
        if let Some(running) = self.running.get_mut(&lane) {
            *running = running.saturating_sub(1);
        }
        let mut cancel = false;
        match report {
            Report::Source { outputs, identity, volatile } => {
                let node = &mut self.nodes[position];
                node.identity = Some(identity);
                node.volatile = volatile;
                self.done(position, Arc::new(outputs));
            }
            Report::NeedsContent { op, fast, content } => {
                let node = &mut self.nodes[position];
                (node.op, node.fast, node.content) = (Some(op), Some(fast), content);
                node.phase = Phase::AwaitContent;
                self.dirty.push_back(position);
            }
            Report::Found { key, fast, record, outputs } => {
                let node = &mut self.nodes[position];
                node.identity = Some(record.identity.clone());
                (node.key, node.fast, node.record, node.found) = (Some(key), fast, Some(record), true);
                self.done(position, Arc::new(outputs));
            }
            Report::Missed { op, key, fast, identity, volatile } => {
                let node = &mut self.nodes[position];
                (node.op, node.fast, node.volatile) = (Some(op), fast, volatile);
                (node.key, node.identity) = (Some(key.clone()), Some(identity));
                self.missed(position, key);
            }
            Report::Executed { outputs, record, found } => {
                let node = &mut self.nodes[position];
                (node.record, node.found) = (record, found);
                self.done(position, Arc::new(outputs));
            }
            Report::Busy { execution } => self.waiting.push((Instant::now() + PATIENCE, lane, execution)),
            Report::Failed { error } => {
                cancel = !self.keep_going;
                self.fail(position, error);
            }
        }
        self.settle();
        if cancel {
            self.stopped = true;
        }
        cancel
    }

    /// The vertices that were settled by sharing another's result since the last call.
    pub(super) fn take_shared(&mut self) -> Vec<Digest> {
        std::mem::take(&mut self.shared).into_iter().map(|position| self.nodes[position].digest.clone()).collect()
    }

    /// What came of it all.
    pub(super) fn outcome(self, roots: &[(usize, usize)]) -> SolveOutcome<R> {
        let result = |&(root, output): &(usize, usize)| {
            let node = &self.nodes[root];
            match (&node.outputs, &node.error) {
                (Some(outputs), _) => outputs.get(output).cloned().ok_or_else(|| node.missing_output(output)),
                (None, Some(error)) if error.vertex().is_some() => Err(error.clone()),
                (None, _) => Err(self.first_error().unwrap_or(SolveError::Cancelled)),
            }
        };
        let results = roots.iter().map(result).collect();
        let renewed = self.renewed();
        let records = self.nodes.into_iter().zip(renewed).filter_map(|(node, renewed)| node.into_record(renewed));
        SolveOutcome { results, records: records.collect() }
    }

    /// Of each vertex, whether its key or identity goes back to a renewed result, and whether its fast key does.
    fn renewed(&self) -> Vec<(bool, bool)> {
        let mut renewed: Vec<(bool, bool)> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let mut of_inputs = node.inputs.iter().enumerate().filter(|(_, (input, _))| renewed[*input].0);
            let is_fast = of_inputs.clone().next().is_some();
            let is_named = of_inputs.any(|(index, _)| !node.content.contains(&index));
            let is_own = node.key.is_some() && node.identity != node.key;
            renewed.push((node.volatile || is_own || is_named, is_fast));
        }
        renewed
    }

    fn first_error(&self) -> Option<SolveError> {
        let mut errors = self.nodes.iter().filter_map(|node| node.error.as_ref());
        errors.clone().find(|error| error.vertex().is_some()).or_else(|| errors.next()).cloned()
    }

    fn want(&mut self, position: usize) {
        let node = &mut self.nodes[position];
        if !node.wanted {
            (node.wanted, node.wants_key) = (true, true);
            self.dirty.push_back(position);
        }
    }

    fn want_key(&mut self, position: usize) {
        let node = &mut self.nodes[position];
        if !node.wants_key {
            node.wants_key = true;
            self.dirty.push_back(position);
        }
    }

    fn wake_dependents(&mut self, position: usize) {
        self.dirty.extend(self.nodes[position].dependents.iter().copied());
    }

    fn done(&mut self, position: usize, outputs: Arc<Vec<R>>) {
        let node = &mut self.nodes[position];
        (node.outputs, node.phase, node.blocked) = (Some(outputs), Phase::Done, false);
        self.wake_dependents(position);
    }

    fn fail(&mut self, position: usize, error: SolveError) {
        let node = &mut self.nodes[position];
        (node.error, node.phase, node.blocked) = (Some(error), Phase::Failed, false);
        self.wake_dependents(position);
    }

    fn missed(&mut self, position: usize, key: Digest) {
        match self.keys.get(&key) {
            Some(&other) => {
                self.nodes[position].phase = Phase::Merged(other);
                self.nodes[position].identity = self.nodes[other].identity.clone();
                self.nodes[other].dependents.push(position);
            }
            None => {
                self.keys.insert(key, position);
                self.nodes[position].phase = Phase::Missed;
            }
        }
        self.nodes[position].blocked = false;
        self.dirty.push_back(position);
        self.wake_dependents(position);
    }

    /// Advances vertices until none can.
    fn settle(&mut self) {
        while let Some(position) = self.dirty.pop_front() {
            match self.nodes[position].phase.clone() {
                Phase::Idle => self.begin(position),
                Phase::AwaitKeys => self.await_keys(position),
                Phase::AwaitContent => self.await_content(position),
                Phase::Missed => self.perhaps_begin_execution(position),
                Phase::AwaitInputs => self.await_inputs(position),
                Phase::Merged(other) => self.follow(position, other),
                Phase::Keying | Phase::Executing | Phase::Done | Phase::Failed => {}
            }
        }
    }

    fn begin(&mut self, position: usize) {
        if !self.nodes[position].wants_key {
            return;
        }
        for (input, _) in self.nodes[position].inputs.clone() {
            self.want_key(input);
        }
        self.nodes[position].phase = Phase::AwaitKeys;
        self.dirty.push_back(position);
    }

    fn await_keys(&mut self, position: usize) {
        let inputs = self.nodes[position].inputs.clone();
        if inputs.iter().all(|&(input, _)| self.nodes[input].identity.is_some()) {
            let node = &mut self.nodes[position];
            (node.phase, node.blocked) = (Phase::Keying, false);
            let work = Work::Key { position, inputs: self.views(position) };
            self.push(Lane::Key, work);
            return;
        }
        let without_identity = |&&(input, _): &&(usize, usize)| {
            self.nodes[input].phase == Phase::Failed && self.nodes[input].identity.is_none()
        };
        if let Some(&(input, _)) = inputs.iter().find(without_identity) {
            return self.fail_with(position, input);
        }
        let blocked = inputs.iter().any(|&(input, _)| self.nodes[input].blocked);
        self.set_blocked(position, blocked);
    }

    fn await_content(&mut self, position: usize) {
        let node = &self.nodes[position];
        let needed: Vec<usize> = node.content.iter().map(|&index| node.inputs[index].0).collect();
        for &input in &needed {
            self.want(input);
        }
        if let Some(&input) = needed.iter().find(|&&input| self.nodes[input].phase == Phase::Failed) {
            return self.fail_with(position, input);
        }
        if needed.iter().any(|&input| self.nodes[input].outputs.is_none()) {
            return self.set_blocked(position, true);
        }
        self.nodes[position].blocked = false;
        let node = &self.nodes[position];
        let (Some(op), Some(fast)) = (node.op.clone(), node.fast.clone()) else { return };
        let mut results = Vec::with_capacity(node.content.len());
        for &index in &node.content {
            match self.input_result(position, index) {
                Ok(result) => results.push((index, result)),
                Err(error) => return self.fail(position, error),
            }
        }
        let work = Work::Content { position, op, fast, inputs: self.views(position), results };
        self.nodes[position].phase = Phase::Keying;
        self.push(Lane::Key, work);
    }

    fn set_blocked(&mut self, position: usize, blocked: bool) {
        if blocked {
            for (input, _) in self.nodes[position].inputs.clone() {
                if self.nodes[input].phase == Phase::Missed {
                    self.want(input);
                }
            }
        }
        if self.nodes[position].blocked != blocked {
            self.nodes[position].blocked = blocked;
            self.wake_dependents(position);
        }
    }

    fn perhaps_begin_execution(&mut self, position: usize) {
        let node = &self.nodes[position];
        if !node.wanted && !node.dependents.iter().any(|&dependent| self.nodes[dependent].blocked) {
            return;
        }
        self.nodes[position].phase = Phase::AwaitInputs;
        for (input, _) in self.nodes[position].inputs.clone() {
            self.want(input);
        }
        self.dirty.push_back(position);
    }

    fn await_inputs(&mut self, position: usize) {
        let inputs = self.nodes[position].inputs.clone();
        if let Some(&(input, _)) = inputs.iter().find(|&&(input, _)| self.nodes[input].phase == Phase::Failed) {
            return self.fail_with(position, input);
        }
        if inputs.iter().any(|&(input, _)| self.nodes[input].outputs.is_none()) {
            return;
        }
        let results: Result<Vec<R>, SolveError> =
            (0..inputs.len()).map(|index| self.input_result(position, index)).collect();
        let results = match results {
            Ok(results) => results,
            Err(error) => return self.fail(position, error),
        };
        let node = &self.nodes[position];
        let (Some(op), Some(key), Some(identity)) = (node.op.clone(), node.key.clone(), node.identity.clone()) else {
            return;
        };
        let lane = Lane::Step(op.class());
        let keep = !node.volatile;
        let execution = Execution { position, op, inputs: results, key, identity, keep, waiting: None };
        self.nodes[position].phase = Phase::Executing;
        self.push(lane, Work::Execute(execution));
    }

    fn follow(&mut self, position: usize, other: usize) {
        if self.nodes[position].wanted {
            self.want(other);
        }
        match self.nodes[other].phase {
            Phase::Done => {
                if let Some(outputs) = self.nodes[other].outputs.clone() {
                    self.shared.push(position);
                    // Its own fast key leads to the same record, which who takes the records elsewhere has to know.
                    self.nodes[position].record = self.nodes[other].record.clone();
                    self.done(position, outputs);
                }
            }
            Phase::Failed => self.fail_with(position, other),
            _ => {}
        }
    }

    fn fail_with(&mut self, position: usize, cause: usize) {
        let error = self.nodes[cause].error.clone().unwrap_or(SolveError::Cancelled);
        self.fail(position, error);
    }

    fn input_result(&self, position: usize, index: usize) -> Result<R, SolveError> {
        let (input, output) = self.nodes[position].inputs[index];
        let node = &self.nodes[input];
        let outputs = node.outputs.as_deref().map_or(&[][..], Vec::as_slice);
        outputs.get(output).cloned().ok_or_else(|| node.missing_output(output))
    }

    fn views(&self, position: usize) -> Vec<InputView> {
        let view = |&(input, output): &(usize, usize)| {
            let node = &self.nodes[input];
            let identity = node.identity.clone().unwrap_or_else(|| node.digest.clone());
            InputView { identity, output, volatile: node.volatile }
        };
        self.nodes[position].inputs.iter().map(view).collect()
    }

    fn push(&mut self, lane: Lane, work: Work<R>) {
        if let Some((_, queue)) = self.ready.iter_mut().find(|(other, _)| *other == lane) {
            queue.push_back(work);
        }
    }
}

impl<R> Node<R> {
    fn new(digest: Digest, name: String, inputs: Vec<(usize, usize)>) -> Self {
        Self {
            digest,
            name,
            inputs,
            dependents: Vec::new(),
            phase: Phase::Idle,
            op: None,
            identity: None,
            key: None,
            fast: None,
            content: Vec::new(),
            volatile: false,
            record: None,
            found: false,
            outputs: None,
            error: None,
            wants_key: false,
            wanted: false,
            blocked: false,
        }
    }

    fn missing_output(&self, output: usize) -> SolveError {
        SolveError::MissingOutput { vertex: self.digest.clone(), name: self.name.clone(), output }
    }

    fn into_record(self, (renewed, fast_renewed): (bool, bool)) -> Option<SolveRecord> {
        let (key, record) = (self.key?, self.record?);
        let (vertex, fast, found) = (self.digest, self.fast, self.found);
        Some(SolveRecord { vertex, key, fast, record, found, renewed, fast_renewed })
    }
}
