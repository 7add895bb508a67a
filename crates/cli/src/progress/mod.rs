//! The progress of a build on the terminal: `plain`, `tty`, `rawjson`, `quiet`.

mod palette;
mod plain;
mod reporter;
mod rows;
mod status;
mod text;
mod trace;
mod tty;

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use reporter::Reporter;
pub use status::{Log, Status, Update, Vertex, Warning};
pub use text::{clean, shorten};

use crate::context::variable;
use crate::error::{CommandError, CommandResult};
use palette::Palette;
use trace::Trace;
use tty::Window;

/// Without news the display is refreshed this often.
const TICK: Duration = Duration::from_millis(150);
/// With news it is refreshed at most this often.
const PAUSE: Duration = Duration::from_millis(100);

/// So many lines of a running step's output are shown where BUILDKIT_TTY_LOG_LINES does not say.
const LOG_LINES: usize = 6;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every line once.
    Plain,
    /// Redrawn in place.
    Tty,
    /// One JSON document an update.
    RawJson,
    /// Not at all.
    Quiet,
}

impl Mode {
    /// The mode that `--progress` or, where it is absent or `auto`, BUILDKIT_PROGRESS asks for. A terminal that says of
    /// itself that it is dumb is not redrawn unless asked for by name.
    ///
    /// # Errors
    /// For a name that is none, and for `tty` without a terminal.
    pub fn choose(flag: Option<&str>) -> CommandResult<Self> {
        let wanted = variable("BUILDKIT_PROGRESS");
        let name = match flag.filter(|name| !matches!(*name, "" | "auto")) {
            Some(name) => name,
            None => wanted.as_deref().unwrap_or("auto"),
        };
        let is_terminal = io::stderr().is_terminal();
        match name {
            "plain" => Ok(Self::Plain),
            "rawjson" => Ok(Self::RawJson),
            "quiet" | "none" => Ok(Self::Quiet),
            "tty" if !is_terminal => Err(CommandError::new("failed to get console: standard error is not a terminal")
                .with_hint("--progress=plain works everywhere")),
            "auto" if is_terminal && variable("TERM").as_deref() == Some("dumb") => Ok(Self::Plain),
            "auto" | "tty" if is_terminal => Ok(Self::Tty),
            "auto" => Ok(Self::Plain),
            other => Err(CommandError::new(format!("invalid progress mode {other}"))
                .with_hint("modes are auto, plain, tty, quiet and rawjson")),
        }
    }
}

/// A running display.
#[derive(Debug)]
pub struct Display {
    sender: Sender<Update>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// Starts showing progress on standard error. `description` opens it: `building with "default" instance …`.
    pub fn start(mode: Mode, description: String) -> Self {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            // nobody is there to tell when standard error is gone; the build goes on
            let _ = show(mode, description, &receiver);
            receiver.iter().for_each(drop);
        });
        Self { sender, thread: thread.ok() }
    }

    /// Where updates go; may be cloned for other threads.
    pub fn sender(&self) -> Sender<Update> {
        self.sender.clone()
    }

    /// Shows what is left and ends. All other senders must be gone.
    pub fn finish(self) {
        let Self { sender, thread } = self;
        drop(sender);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn show(mode: Mode, description: String, updates: &Receiver<Update>) -> io::Result<()> {
    let out = io::stderr();
    match mode {
        Mode::Quiet => Ok(()),
        Mode::RawJson => raw_json(&mut out.lock(), updates),
        Mode::Plain => {
            let mut printer = plain::PlainPrinter::new(io::BufWriter::new(out), description);
            let mut trace = Trace::default();
            pump(updates, |update| match update {
                Some(update) => {
                    trace.apply(update);
                    Ok(())
                }
                None => printer.print(&mut trace),
            })?;
            printer.finish(&mut trace)
        }
        Mode::Tty => {
            let palette = Palette::choose(variable("NO_COLOR").is_some(), variable("BUILDKIT_COLORS").as_deref());
            let mut printer = tty::TtyPrinter::new(io::BufWriter::new(out), description, palette, log_lines());
            let mut trace = Trace::default();
            pump(updates, |update| match update {
                Some(update) => {
                    trace.apply(update);
                    Ok(())
                }
                None => printer.draw(&mut trace, window(), false),
            })?;
            printer.finish(&mut trace, window())
        }
    }
}

/// Hands updates over as they come, and `None` when the display is to be refreshed.
fn pump(updates: &Receiver<Update>, mut handle: impl FnMut(Option<Update>) -> io::Result<()>) -> io::Result<()> {
    let mut refreshed: Option<Instant> = None;
    loop {
        match updates.recv_timeout(TICK) {
            Ok(update) => {
                handle(Some(update))?;
                if refreshed.is_some_and(|refreshed| refreshed.elapsed() < PAUSE) {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        handle(None)?;
        refreshed = Some(Instant::now());
    }
}

fn raw_json(out: &mut impl Write, updates: &Receiver<Update>) -> io::Result<()> {
    for update in updates {
        let mut line = onetag_oci::go_json(&update);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()
}

/// How many lines of a running step's output the live view shows.
fn log_lines() -> usize {
    variable("BUILDKIT_TTY_LOG_LINES").and_then(|lines| lines.parse().ok()).unwrap_or(LOG_LINES)
}

fn window() -> Window {
    match terminal_size::terminal_size_of(io::stderr()) {
        Some((terminal_size::Width(width), terminal_size::Height(height))) if width > 0 && height > 0 => {
            Window { width: usize::from(width), height: usize::from(height) }
        }
        _ => Window { width: 80, height: 10 },
    }
}

#[cfg(test)]
mod tests;
