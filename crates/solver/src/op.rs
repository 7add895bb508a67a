//! What the scheduler asks of operations and of the worker that makes them.

use std::time::SystemTime;

use onetag_oci::Digest;

use crate::cancel::{CancelGuard, Cancellation};
use crate::error::OpError;
use crate::event::{Event, LogStream, Status};

/// How heavy an operation is; each class has a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A process of the host's own machine type.
    Native,
    /// A process under emulation: several times as slow, and no less hungry.
    Emulated,
    /// Work on files or metadata.
    Light,
}

/// How an operation takes part in caching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Executed when its result is wanted and not in the cache. The digest says everything of the operation that its
    /// result depends on, inputs apart: no descriptions, no names of sessions, no secrets.
    Step(Digest),
    /// Executed at once in every solve because that is cheap; its identity comes from [`Op::identity`] afterwards.
    Source,
}

/// An operation, made by a [`Worker`] from a vertex. `R` is the worker's result type.
pub trait Op<R>: Send + Sync {
    /// How the operation takes part in caching.
    fn kind(&self) -> Kind;

    /// What of the operation counts where its inputs are told by identity alone. It MUST tell apart everything that
    /// selects content of them, which [`Op::kind`] may leave to the content's own digest; where nothing does, the
    /// digest of the kind is enough.
    fn selection(&self) -> Option<Digest> {
        None
    }

    /// Which limit it counts against.
    fn class(&self) -> Class;

    /// Of a source, the identity of what was executed; `None` when it can never be recognised again, which keeps
    /// everything that takes it whole out of the cache, but not what reads it by content.
    fn identity(&self, _outputs: &[R]) -> Option<Digest> {
        None
    }

    /// Of a source, whether making its outputs fetches content from elsewhere. A plan then leaves it alone.
    fn is_fetched(&self) -> bool {
        false
    }

    /// The numbers of the inputs that count by content rather than by identity.
    fn content_inputs(&self) -> Vec<usize> {
        Vec::new()
    }

    /// The digest of that content of input `index` which the operation reads.
    ///
    /// # Errors
    /// The worker's own, when content cannot be read; the vertex fails with it.
    fn content_key(&self, _index: usize, _input: &R, _context: &ExecContext<'_>) -> Result<Option<Digest>, OpError> {
        Ok(None)
    }

    /// Whether that content can be read as it is, with nothing to fetch before. A plan reads no other.
    fn is_at_hand(&self, _index: usize, _input: &R) -> bool {
        true
    }

    /// Makes the outputs. Long work MUST watch the context's cancellation.
    ///
    /// # Errors
    /// The worker's own; the vertex fails with it.
    fn execute(&self, inputs: &[R], context: &ExecContext<'_>) -> Result<Vec<R>, OpError>;
}

/// Makes operations from vertices and knows where results are kept.
pub trait Worker: Send + Sync {
    /// The vertices it understands.
    type Vertex: crate::Vertex;
    /// Immutable results; cheap to clone.
    type Result: Clone + Send + Sync;

    /// The operation of a vertex.
    ///
    /// # Errors
    /// The worker's own, for vertices that it does not understand.
    fn op(&self, vertex: &Self::Vertex) -> Result<Box<dyn Op<Self::Result>>, OpError>;

    /// How heavy the operation of a vertex is, for display, where that can be told without making it.
    fn class(&self, vertex: &Self::Vertex) -> Option<Class> {
        self.op(vertex).ok().map(|op| op.class())
    }

    /// The result that was saved under `name`, if it still exists. Cheap: content stays where it is.
    fn load(&self, name: &str) -> Option<Self::Result>;

    /// A name under which `load` will find the result in later solves; `None` when it cannot be kept.
    fn save(&self, result: &Self::Result) -> Option<String>;
}

/// What an operation may use while it runs.
pub struct ExecContext<'a> {
    vertex: &'a Digest,
    cancellation: &'a Cancellation,
    events: &'a (dyn Fn(Event) + Sync),
}

impl<'a> ExecContext<'a> {
    /// A context that reports as `vertex`.
    pub fn new(vertex: &'a Digest, cancellation: &'a Cancellation, events: &'a (dyn Fn(Event) + Sync)) -> Self {
        Self { vertex, cancellation, events }
    }

    /// The vertex that runs.
    pub fn vertex(&self) -> &Digest {
        self.vertex
    }

    /// Raised when the work is no longer wanted.
    pub fn cancellation(&self) -> &Cancellation {
        self.cancellation
    }

    /// Whether the work is no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Runs `callback` when the work is no longer wanted; see [`Cancellation::on_cancel`].
    pub fn on_cancel(&self, callback: impl Fn() + Send + Sync + 'static) -> CancelGuard {
        self.cancellation.on_cancel(callback)
    }

    /// Reports output.
    pub fn log(&self, stream: LogStream, data: &[u8]) {
        self.emit(Event::Log { vertex: self.vertex.clone(), stream, data: data.to_vec(), time: SystemTime::now() });
    }

    /// Reports progress of a part.
    pub fn status(&self, status: Status) {
        self.emit(Event::Status { vertex: self.vertex.clone(), status, time: SystemTime::now() });
    }

    /// Reports a part that begins now, does `work`, and reports its end, if it ended well.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn part<T, E>(&self, id: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let started = SystemTime::now();
        let mut status = Status { id: id.to_owned(), current: 0, total: 0, started, completed: None };
        self.status(status.clone());
        let result = work()?;
        status.completed = Some(SystemTime::now());
        self.status(status);
        Ok(result)
    }

    /// Reports something the user should know.
    pub fn warn(&self, message: impl Into<String>) {
        self.emit(Event::Warning { vertex: self.vertex.clone(), message: message.into() });
    }

    /// Passes any event on.
    pub fn emit(&self, event: Event) {
        (self.events)(event);
    }
}
