//! What takes time: making operations, reading the cache, digesting content, executing.

use std::sync::Arc;
use std::time::SystemTime;

use onetag_oci::Digest;

use super::SolverOptions;
use super::keys::{InputKey, key, renewed};
use crate::cache::{CacheRecord, CacheStorage, Claim};
use crate::cancel::Cancellation;
use crate::error::{OpError, SolveError};
use crate::event::{Event, Status};
use crate::graph::Vertex;
use crate::op::{ExecContext, Kind, Op, Worker};

/// What is shown of a vertex while another solve makes it.
const WAITING: &str = "waiting for another build that runs this step";

/// What a key needs to know of an input.
pub(super) struct InputView {
    pub(super) identity: Digest,
    pub(super) output: usize,
    pub(super) volatile: bool,
}

impl InputView {
    fn key(&self) -> InputKey {
        InputKey::Identity(self.identity.clone(), self.output)
    }
}

/// Work that was handed out.
pub(super) enum Work<R> {
    /// Make the operation; execute a source; find the cache key of a step without content.
    Key { position: usize, inputs: Vec<InputView> },
    /// Find the cache key with content.
    Content { position: usize, op: Arc<dyn Op<R>>, fast: Digest, inputs: Vec<InputView>, results: Vec<(usize, R)> },
    /// Execute.
    Execute(Execution<R>),
}

/// An execution, as often as it is tried until nobody else makes the same.
pub(super) struct Execution<R> {
    pub(super) position: usize,
    pub(super) op: Arc<dyn Op<R>>,
    pub(super) inputs: Vec<R>,
    pub(super) key: Digest,
    pub(super) identity: Digest,
    pub(super) keep: bool,
    /// Since when another solve is waited for.
    pub(super) waiting: Option<SystemTime>,
}

impl<R> Work<R> {
    pub(super) fn position(&self) -> usize {
        match self {
            Self::Key { position, .. } | Self::Content { position, .. } => *position,
            Self::Execute(execution) => execution.position,
        }
    }
}

/// What became of it.
pub(super) enum Report<R> {
    Source {
        outputs: Vec<R>,
        identity: Digest,
        volatile: bool,
    },
    NeedsContent {
        op: Arc<dyn Op<R>>,
        fast: Digest,
        content: Vec<usize>,
    },
    Found {
        key: Digest,
        fast: Option<Digest>,
        record: CacheRecord,
        outputs: Vec<R>,
    },
    Missed {
        op: Arc<dyn Op<R>>,
        key: Digest,
        fast: Option<Digest>,
        identity: Digest,
        volatile: bool,
    },
    Executed {
        outputs: Vec<R>,
        record: Option<CacheRecord>,
        found: bool,
    },
    /// Another solve is at it.
    Busy {
        execution: Execution<R>,
    },
    Failed {
        error: SolveError,
    },
}

/// What all work of a solve shares.
pub(super) struct Session<'a, W: Worker> {
    pub(super) worker: &'a W,
    pub(super) cache: &'a dyn CacheStorage,
    pub(super) options: &'a SolverOptions,
    pub(super) cancellation: &'a Cancellation,
    pub(super) events: &'a (dyn Fn(Event) + Sync),
    pub(super) vertices: &'a [Arc<W::Vertex>],
}

impl<W: Worker> Session<'_, W> {
    /// Does the work, on this thread.
    pub(super) fn perform(&self, work: Work<W::Result>) -> Report<W::Result> {
        let vertex = &*self.vertices[work.position()];
        let result = match work {
            Work::Key { inputs, .. } => self.find_key(vertex, &inputs),
            Work::Content { op, fast, inputs, results, .. } => self.find_content(vertex, op, fast, &inputs, &results),
            Work::Execute(execution) => self.execute(vertex, execution),
        };
        result.unwrap_or_else(|error| Report::Failed { error: self.failure(vertex, error) })
    }

    pub(super) fn failure(&self, vertex: &W::Vertex, error: OpError) -> SolveError {
        if self.cancellation.is_cancelled() {
            return SolveError::Cancelled;
        }
        SolveError::Vertex { vertex: vertex.digest().clone(), name: vertex.name(), source: Arc::from(error) }
    }

    fn context<'b>(&'b self, vertex: &'b W::Vertex) -> ExecContext<'b> {
        ExecContext::new(vertex.digest(), self.cancellation, self.events)
    }

    /// Whether a vertex is a source that is fetched from elsewhere.
    pub(super) fn is_fetched(&self, vertex: &W::Vertex) -> Result<bool, OpError> {
        let op = self.worker.op(vertex)?;
        Ok(op.kind() == Kind::Source && op.is_fetched())
    }

    pub(super) fn find_key(&self, vertex: &W::Vertex, inputs: &[InputView]) -> Result<Report<W::Result>, OpError> {
        let op: Arc<dyn Op<W::Result>> = Arc::from(self.worker.op(vertex)?);
        let Kind::Step(definition) = op.kind() else {
            return self.run_source(vertex, op.as_ref());
        };
        let mut content = op.content_inputs();
        content.retain(|&index| index < inputs.len());
        let volatile = inputs.iter().enumerate().any(|(index, input)| input.volatile && !content.contains(&index));
        let identities: Vec<InputKey> = inputs.iter().map(InputView::key).collect();
        if content.is_empty() {
            let key = key(&definition, &identities, false);
            return Ok(self.look_up(vertex, op, key, None, volatile));
        }
        let fast = key(&op.selection().unwrap_or(definition), &identities, true);
        match self.cache.alias(&fast) {
            Some(key) => Ok(self.look_up(vertex, op, key, Some(fast), volatile)),
            None => Ok(Report::NeedsContent { op, fast, content }),
        }
    }

    pub(super) fn find_content(
        &self,
        vertex: &W::Vertex,
        op: Arc<dyn Op<W::Result>>,
        fast: Digest,
        inputs: &[InputView],
        results: &[(usize, W::Result)],
    ) -> Result<Report<W::Result>, OpError> {
        let Kind::Step(definition) = op.kind() else {
            return self.run_source(vertex, op.as_ref());
        };
        let mut keys: Vec<InputKey> = inputs.iter().map(InputView::key).collect();
        for (index, result) in results {
            if let Some(digest) = op.content_key(*index, result, &self.context(vertex))? {
                keys[*index] = InputKey::Content(digest);
            }
        }
        let is_identity = |index: usize| matches!(keys[index], InputKey::Identity(..));
        let volatile = inputs.iter().enumerate().any(|(index, input)| input.volatile && is_identity(index));
        let key = key(&definition, &keys, false);
        let fast = (!inputs.iter().any(|input| input.volatile)).then_some(fast);
        if let Some(fast) = &fast {
            self.cache.put_alias(fast, &key);
        }
        Ok(self.look_up(vertex, op, key, fast, volatile))
    }

    fn look_up(
        &self,
        vertex: &W::Vertex,
        op: Arc<dyn Op<W::Result>>,
        key: Digest,
        fast: Option<Digest>,
        volatile: bool,
    ) -> Report<W::Result> {
        if vertex.ignore_cache() {
            let identity = renewed(&key, &self.options.salt);
            return Report::Missed { op, key, fast, identity, volatile };
        }
        let record = if volatile { None } else { self.cache.record(&key) };
        let outputs = record.as_ref().and_then(|record| self.load(record));
        match (record, outputs) {
            (Some(record), Some(outputs)) => {
                self.cached(vertex.digest());
                Report::Found { key, fast, record, outputs }
            }
            (record, _) => {
                let identity = record.map_or_else(|| key.clone(), |record| record.identity);
                Report::Missed { op, key, fast, identity, volatile }
            }
        }
    }

    fn load(&self, record: &CacheRecord) -> Option<Vec<W::Result>> {
        record.results.iter().map(|name| self.worker.load(name)).collect()
    }

    /// Reports a vertex that needed no work.
    pub(super) fn cached(&self, vertex: &Digest) {
        (self.events)(Event::Cached { vertex: vertex.clone(), time: SystemTime::now() });
    }

    fn run_source(&self, vertex: &W::Vertex, op: &dyn Op<W::Result>) -> Result<Report<W::Result>, OpError> {
        let outputs = self.run(vertex, op, &[])?;
        let identity = op.identity(&outputs);
        let volatile = identity.is_none();
        let identity = identity.unwrap_or_else(|| renewed(vertex.digest(), &self.options.salt));
        Ok(Report::Source { outputs, identity, volatile })
    }

    /// Executes, unless another solve is making the same or has made it meanwhile.
    fn execute(&self, vertex: &W::Vertex, mut execution: Execution<W::Result>) -> Result<Report<W::Result>, OpError> {
        let is_shared = execution.keep && !vertex.ignore_cache();
        let claim = is_shared.then(|| self.cache.claim(&execution.key));
        if matches!(claim, Some(Claim::Theirs)) {
            if execution.waiting.is_none() {
                execution.waiting = Some(self.begin_waiting(vertex.digest()));
            }
            return Ok(Report::Busy { execution });
        }
        // Whoever had the claim before left a record, or died.
        let record = if is_shared { self.cache.record(&execution.key) } else { None };
        let record = record.filter(|record| record.identity == execution.identity);
        let found = record.and_then(|record| self.load(&record).map(|outputs| (record, outputs)));
        if let Some(since) = execution.waiting {
            self.end_waiting(vertex.digest(), since, found.is_some());
        }
        if let Some((record, outputs)) = found {
            self.cached(vertex.digest());
            return Ok(Report::Executed { outputs, record: Some(record), found: true });
        }
        let Execution { op, inputs, key, identity, keep, .. } = execution;
        let outputs = self.run(vertex, op.as_ref(), &inputs)?;
        let names = if keep { outputs.iter().map(|output| self.worker.save(output)).collect() } else { None };
        let record = names.map(|results| CacheRecord { identity, results });
        if let Some(record) = &record {
            self.cache.put_record(&key, record);
        }
        drop(claim);
        Ok(Report::Executed { outputs, record, found: false })
    }

    fn begin_waiting(&self, vertex: &Digest) -> SystemTime {
        let now = SystemTime::now();
        (self.events)(Event::Started { vertex: vertex.clone(), time: now });
        self.report_waiting(vertex, now, None);
        now
    }

    fn end_waiting(&self, vertex: &Digest, since: SystemTime, found: bool) {
        let now = SystemTime::now();
        self.report_waiting(vertex, since, Some(now));
        if !found {
            (self.events)(Event::Completed { vertex: vertex.clone(), time: now, error: None, cancelled: false });
        }
    }

    fn report_waiting(&self, vertex: &Digest, started: SystemTime, completed: Option<SystemTime>) {
        let status = Status { id: WAITING.to_owned(), current: 0, total: 0, started, completed };
        (self.events)(Event::Status { vertex: vertex.clone(), status, time: SystemTime::now() });
    }

    /// Ends the wait of a vertex that is given up.
    pub(super) fn give_up(&self, execution: &Execution<W::Result>) {
        let vertex = self.vertices[execution.position].digest().clone();
        let error = Some(SolveError::Cancelled.to_string());
        (self.events)(Event::Completed { vertex, time: SystemTime::now(), error, cancelled: true });
    }

    fn run(&self, vertex: &W::Vertex, op: &dyn Op<W::Result>, inputs: &[W::Result]) -> Result<Vec<W::Result>, OpError> {
        let digest = vertex.digest();
        (self.events)(Event::Started { vertex: digest.clone(), time: SystemTime::now() });
        let result = op.execute(inputs, &self.context(vertex));
        let error = result.as_ref().err().map(|error| error.to_string());
        let cancelled = error.is_some() && self.cancellation.is_cancelled();
        (self.events)(Event::Completed { vertex: digest.clone(), time: SystemTime::now(), error, cancelled });
        result
    }
}
