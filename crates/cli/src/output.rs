//! Standard output as data: written whole, and quiet when nobody reads it any more.

use std::io::{self, IsTerminal, Write};

use thiserror::Error;

/// Standard output could not be written.
#[derive(Debug, Error)]
#[error("cannot write to standard output")]
pub struct OutputError(#[source] io::Error);

/// Writes bytes to standard output.
///
/// # Errors
/// [`OutputError`]; a broken pipe among them ends the command in silence.
pub fn write(bytes: impl AsRef<[u8]>) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush()).map_err(OutputError)
}

/// Writes a line to standard output.
///
/// # Errors
/// As [`write`].
pub fn line(text: impl AsRef<str>) -> Result<(), OutputError> {
    write(format!("{}\n", text.as_ref()))
}

/// Writes a line to standard error. There is nobody to tell when that fails.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Whether standard output is a terminal.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Asks a question on the terminal and reads `y` or `n`; no answer means no.
pub fn confirm(question: &str) -> bool {
    let mut stderr = io::stderr().lock();
    if write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
