//! Ctrl-C: the first asks the command to stop and clean up, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when the user wants the command to end.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Whether the command should stop.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for libraries that poll it.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

/// Listens for SIGINT and SIGTERM on a thread of its own. Call it after the namespace was entered.
///
/// When the listener cannot be started the signals keep their default effect, which is to end the process.
pub fn listen() -> Cancel {
    let cancel = Cancel::default();
    let seen = cancel.clone();
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(watch(&seen));
    });
    cancel
}

async fn watch(cancel: &Cancel) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if cancel.0.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    }
}
