//! Ctrl-C: the first asks the command to stop and clean up, the second ends the process. A command that does not stop
//! in time, because it waits for somebody else's answer, is ended as well: the store survives that at any instant.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use onetag_engine::progress::Cancellation;

/// How long a command has to stop after the first Ctrl-C.
const GRACE: Duration = Duration::from_secs(2);

/// What the signals of this process ask of the command, as long as it lives.
#[derive(Debug)]
pub struct Interrupt {
    cancel: Cancellation,
    armed: Arc<AtomicBool>,
}

impl Deref for Interrupt {
    type Target = Cancellation;

    fn deref(&self) -> &Cancellation {
        &self.cancel
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.armed.store(false, Ordering::SeqCst);
    }
}

/// Listens for SIGINT and SIGTERM on a thread of its own. Call it after the namespace was entered.
///
/// When the listener cannot be started the signals keep their default effect, which is to end the process.
pub fn listen() -> Interrupt {
    let interrupt = Interrupt { cancel: Cancellation::new(), armed: Arc::new(AtomicBool::new(true)) };
    let (cancel, armed) = (interrupt.cancel.clone(), Arc::clone(&interrupt.armed));
    let (ready, is_ready) = channel::<()>();
    let started = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(watch(&cancel, &armed, move || drop(ready)));
    });
    if started.is_ok() {
        // ends when the other side is dropped: once the signals are taken, or cannot be
        let _ = is_ready.recv();
    }
    interrupt
}

async fn watch(cancel: &Cancellation, armed: &AtomicBool, ready: impl FnOnce()) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    ready();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if !armed.load(Ordering::SeqCst) {
        return;
    }
    cancel.cancel();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = tokio::time::sleep(GRACE) => {}
    }
    if armed.load(Ordering::SeqCst) {
        std::process::exit(130);
    }
}
