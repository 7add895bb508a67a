//! Ctrl-C: the first asks the command to stop and clean up, the second ends the process.

use onetag_engine::progress::Cancellation;

/// Listens for SIGINT and SIGTERM on a thread of its own. Call it after the namespace was entered.
///
/// When the listener cannot be started the signals keep their default effect, which is to end the process.
pub fn listen() -> Cancellation {
    let cancel = Cancellation::new();
    let raised = cancel.clone();
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(watch(&raised));
    });
    cancel
}

async fn watch(cancel: &Cancellation) {
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
        if cancel.is_cancelled() {
            std::process::exit(130);
        }
        cancel.cancel();
    }
}
