//! Bringing an index that was put together to its names.

use std::sync::{Mutex, MutexGuard, PoisonError};

use onetag_engine::Engine;
use onetag_engine::content::Location;
use onetag_engine::index::{CreateEvent, Created, create};
use onetag_oci::Digest;

use crate::commands::registry_error;
use crate::error::{CommandError, CommandResult};
use crate::interrupt;
use crate::progress::{Display, Mode, Reporter};

/// Pushes an index and what it names, and shows how that goes.
pub(super) fn publish(engine: &Engine, created: &Created, tags: &[Location], mode: Mode) -> CommandResult {
    let cancel = interrupt::listen();
    let display = Display::start(mode, String::new());
    let report = Report::new(&display);
    let result = create(engine, created, tags, &cancel, &|event| report.event(event));
    report.end(result.as_ref().err().map(ToString::to_string));
    drop(report);
    display.finish();
    if cancel.is_cancelled() {
        return Err(CommandError::interrupted());
    }
    result.map_err(registry_error)
}

/// Shows each repository as a step whose log tells what is copied.
struct Report {
    reporter: Reporter,
    current: Mutex<Option<Digest>>,
}

impl Report {
    fn new(display: &Display) -> Self {
        Self { reporter: Reporter::new(display), current: Mutex::new(None) }
    }

    fn current(&self) -> MutexGuard<'_, Option<Digest>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, event: CreateEvent) {
        let line = match event {
            CreateEvent::Pushing { repository } => {
                let step = self.reporter.start(&format!("[internal] pushing {repository}"));
                *self.current() = Some(step);
                return;
            }
            CreateEvent::Pushed { .. } => return self.end(None),
            CreateEvent::Copying { digest, from, to } => format!("copying {digest} from {from} to {to}\n"),
            CreateEvent::Naming { digest, to } => format!("pushing {digest} to {to}\n"),
            CreateEvent::Transfer(_) => return,
        };
        if let Some(step) = &*self.current() {
            self.reporter.log(step, line.as_bytes());
        }
    }

    fn end(&self, error: Option<String>) {
        if let Some(step) = self.current().take() {
            self.reporter.complete(&step, error);
        }
    }
}
