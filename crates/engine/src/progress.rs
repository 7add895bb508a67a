//! Progress of builds, pulls and pushes: the solver's events, for what is no vertex of the graph as well.

use std::time::SystemTime;

use onetag_oci::Digest;

pub use onetag_solver::{Cancellation, Event, LogStream, Status, VertexInfo};

/// Takes events.
pub type Sink<'a> = dyn Fn(Event) + Sync + 'a;

/// Something that progress shows as a vertex although the graph has none: loading a file, exporting.
pub(crate) struct Activity<'a> {
    digest: Digest,
    sink: &'a Sink<'a>,
}

impl<'a> Activity<'a> {
    /// The vertex that an activity of that name is shown as.
    pub(crate) fn vertex(name: &str) -> Digest {
        Digest::sha256(format!("onetag.activity.1\0{name}").as_bytes())
    }

    /// Announces and starts an activity.
    pub(crate) fn start(name: &str, sink: &'a Sink<'a>) -> Self {
        let digest = Self::vertex(name);
        let (class, targets) = (None, Vec::new());
        let info = VertexInfo { digest: digest.clone(), name: name.to_owned(), inputs: Vec::new(), class, targets };
        sink(Event::Planned(vec![info]));
        sink(Event::Started { vertex: digest.clone(), time: SystemTime::now() });
        Self { digest, sink }
    }

    /// Shows a part of it, done by `work`.
    pub(crate) fn part<T, E>(&self, id: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let started = SystemTime::now();
        self.status(id, 0, started, None);
        let result = work()?;
        self.status(id, 0, started, Some(SystemTime::now()));
        Ok(result)
    }

    /// Shows a part of which `bytes` are done, in all.
    pub(crate) fn transferred(&self, id: &str, bytes: u64) {
        let now = SystemTime::now();
        self.status(id, bytes, now, Some(now));
    }

    /// Shows something that is done as soon as it is said.
    pub(crate) fn note(&self, id: &str) {
        self.transferred(id, 0);
    }

    fn status(&self, id: &str, current: u64, started: SystemTime, completed: Option<SystemTime>) {
        let status = Status { id: id.to_owned(), current, total: 0, started, completed };
        (self.sink)(Event::Status { vertex: self.digest.clone(), status, time: SystemTime::now() });
    }

    /// Ends it, well or not.
    pub(crate) fn finish<T, E: std::error::Error>(self, result: Result<T, E>) -> Result<T, E> {
        let error = result.as_ref().err().map(|error| chain(error));
        let vertex = self.digest.clone();
        (self.sink)(Event::Completed { vertex, time: SystemTime::now(), error, cancelled: false });
        result
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
