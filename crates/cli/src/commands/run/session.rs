//! Between the container and this terminal: its size, its raw mode, signals, and the end.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use onetag_engine::run::Container;
use onetag_sandbox::ExitStatus;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CommandResult;
use crate::output;

/// Signals that go to the container's process.
const FORWARDED: [i32; 6] = [1, 2, 3, 10, 12, 15];
/// How long a signal waits for the container to start.
const START_GRACE: Duration = Duration::from_secs(1);
/// The signal of a window that changed its size.
const WINDOW_CHANGED: i32 = 28;

/// The window's rows and columns.
pub fn window() -> (u16, u16) {
    match terminal_size::terminal_size() {
        Some((terminal_size::Width(columns), terminal_size::Height(rows))) => (rows, columns),
        None => (24, 80),
    }
}

/// A host name for a container without a name: twelve digits, as Docker gives.
pub fn made_up_name() -> String {
    let mut random = [0; 6];
    // without random numbers all containers have the same host name, which does no harm
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Stays with the container until its process ends, and gives its exit status.
///
/// # Errors
/// When the kernel refuses to wait.
pub fn attend(mut container: Container, interactive: bool, signals: Signals) -> CommandResult<i32> {
    let terminal = container.process_mut().terminal.take();
    let raw = terminal.as_ref().filter(|_| interactive).and_then(|_| RawMode::enter());
    let container = Arc::new(container);
    signals.attach(&container);
    let mut output = None;
    if let Some(terminal) = terminal {
        if interactive && let Ok(input) = terminal.try_clone() {
            std::thread::spawn(move || copy_input(input));
        }
        output = Some(std::thread::spawn(move || copy_output(terminal)));
    }
    let status = container.wait()?;
    if let Some(output) = output {
        // what the program wrote last is shown before the status is given
        let _ = output.join();
    }
    drop(raw);
    if status == ExitStatus::OutOfMemory {
        output::note("the container ran out of memory: the kernel killed its program");
    }
    Ok(status.exit_code())
}

fn copy_input(mut terminal: File) {
    let mut buffer = [0; 4096];
    let mut stdin = io::stdin().lock();
    while let Ok(count) = stdin.read(&mut buffer) {
        if count == 0 || terminal.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn copy_output(mut terminal: File) {
    let mut buffer = [0; 8192];
    let mut stdout = io::stdout().lock();
    // reading a terminal whose other end is gone is an error: the end
    while let Ok(count) = terminal.read(&mut buffer) {
        if count == 0 || stdout.write_all(&buffer[..count]).and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}

/// The signals of this process, taken before the container starts so that none is lost.
pub struct Signals {
    container: Arc<OnceLock<Weak<Container>>>,
}

impl Signals {
    /// Takes the signals, on a thread of its own.
    pub fn take(forward: bool) -> Self {
        let container = Arc::new(OnceLock::new());
        let slot = Arc::clone(&container);
        let (ready, is_ready) = channel::<()>();
        let watch = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
            let Ok(runtime) = runtime else { return };
            let numbers = FORWARDED.iter().copied().filter(|_| forward).chain([WINDOW_CHANGED]);
            let local = tokio::task::LocalSet::new();
            runtime.block_on(local.run_until(async move {
                let streams: Vec<_> =
                    numbers.filter_map(|number| Some((number, signal(SignalKind::from_raw(number)).ok()?))).collect();
                drop(ready);
                let tasks: Vec<_> = streams
                    .into_iter()
                    .map(|(number, stream)| tokio::task::spawn_local(pass_on(stream, number, Arc::clone(&slot))))
                    .collect();
                for task in tasks {
                    // a task that failed forwards no more; the others go on
                    let _ = task.await;
                }
            }));
        };
        // without the thread, signals have their usual effect on this process
        if std::thread::Builder::new().name("signals".to_owned()).spawn(watch).is_ok() {
            // ends when the other side is dropped: once the signals are taken, or cannot be
            let _ = is_ready.recv();
        }
        Self { container }
    }

    /// Says where the signals go. Those that came before go there too.
    fn attach(&self, container: &Arc<Container>) {
        // set once: there is one container for each taking of signals
        let _ = self.container.set(Arc::downgrade(container));
    }
}

async fn pass_on(mut stream: Signal, number: i32, slot: Arc<OnceLock<Weak<Container>>>) {
    while stream.recv().await.is_some() {
        let since = Instant::now();
        while slot.get().is_none() {
            if number != WINDOW_CHANGED && since.elapsed() > START_GRACE {
                // nothing has started yet, and the user wants it to end
                std::process::exit(128 + number);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let Some(container) = slot.get().and_then(Weak::upgrade) else { return };
        // a process that has just ended needs neither signal nor size
        if number == WINDOW_CHANGED {
            let (rows, columns) = window();
            let _ = container.process().resize(rows, columns);
        } else {
            let _ = container.process().signal(number);
        }
    }
}

/// Raw mode of the terminal on standard input, undone when dropped.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // a terminal that is gone cannot be put in order
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
