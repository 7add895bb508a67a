//! Between the container and this terminal: its size, its raw mode, signals, and the end.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::Arc;

use onetag_engine::run::Container;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CommandResult;

/// Signals that go to the container's process.
const FORWARDED: [i32; 6] = [1, 2, 3, 10, 12, 15];
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
pub fn attend(mut container: Container, interactive: bool, forward_signals: bool) -> CommandResult<i32> {
    let terminal = container.process_mut().terminal.take();
    let raw = terminal.as_ref().filter(|_| interactive).and_then(|_| RawMode::enter());
    let container = Arc::new(container);
    watch_signals(&container, forward_signals);
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

/// Sends signals on, and the window's new sizes, on a thread of its own.
fn watch_signals(container: &Arc<Container>, forward: bool) {
    let container = Arc::downgrade(container);
    let watch = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async move {
            let numbers = FORWARDED.iter().copied().filter(|_| forward).chain([WINDOW_CHANGED]);
            let mut tasks = tokio::task::JoinSet::new();
            let local = tokio::task::LocalSet::new();
            for number in numbers {
                let Ok(stream) = signal(SignalKind::from_raw(number)) else { continue };
                let container = container.clone();
                tasks.spawn_local_on(pass_on(stream, number, container), &local);
            }
            local.await;
        });
    };
    // without the thread, signals have their usual effect on this process
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(watch);
}

async fn pass_on(mut stream: Signal, number: i32, container: std::sync::Weak<Container>) {
    while stream.recv().await.is_some() {
        let Some(container) = container.upgrade() else { return };
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
