//! How a command fails: the only table of exit codes, and the text of an error on the terminal.

use std::error::Error as StdError;
use std::fmt::Write as _;

/// What an error means for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The command failed: 1.
    Failure,
    /// `run` could not start the container: 125.
    NotStarted,
    /// `run` found the program but could not execute it: 126.
    NotExecutable,
    /// `run` did not find the program: 127.
    NotFound,
    /// Interrupted from the keyboard: 130, without a message.
    Interrupted,
    /// Nobody reads our output any more: quietly 0.
    BrokenPipe,
    /// The status of somebody else's process, passed on without a message.
    Passed(u8),
}

impl ErrorKind {
    /// The exit status.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::NotStarted => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Interrupted => 130,
            Self::BrokenPipe => 0,
            Self::Passed(code) => code,
        }
    }

    fn is_silent(self) -> bool {
        matches!(self, Self::Interrupted | Self::BrokenPipe | Self::Passed(_))
    }
}

/// In whose words an error is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// `error: …`, then the causes, then hints.
    Own,
    /// `ERROR: …` with all causes on one line, as buildx prints it; hints follow.
    Buildx,
}

/// A failed command.
#[derive(Debug)]
pub struct CommandError {
    /// What it means for the exit status.
    pub kind: ErrorKind,
    /// What went wrong.
    pub source: anyhow::Error,
    /// What to type to mend it.
    pub hints: Vec<String>,
    /// Text printed before the message: an excerpt of a Dockerfile.
    pub excerpt: Option<String>,
}

impl CommandError {
    /// A failure with a message of our own.
    pub fn new(message: impl Into<String>) -> Self {
        Self::from(anyhow::Error::msg(message.into()))
    }

    /// The same error with another meaning for the exit status.
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same error with one more hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same error with `message` put before it.
    pub fn context(mut self, message: impl Into<String>) -> Self {
        self.source = self.source.context(message.into());
        self
    }

    /// Ends the command quietly with this status.
    pub fn exit(code: u8) -> Self {
        Self::new("").with_kind(ErrorKind::Passed(code))
    }

    /// The error of an interrupted command.
    pub fn interrupted() -> Self {
        Self::new("interrupted").with_kind(ErrorKind::Interrupted)
    }

    /// The text for standard error, empty when the error is silent.
    pub fn render(&self, voice: Voice) -> String {
        if self.kind.is_silent() {
            return String::new();
        }
        let mut out = self.excerpt.clone().unwrap_or_default();
        let chain = messages(self.source.as_ref());
        match voice {
            Voice::Buildx => {
                let _ = writeln!(out, "ERROR: {}", chain.join(": "));
            }
            Voice::Own => {
                for (index, message) in chain.iter().enumerate() {
                    let label = if index == 0 { "error" } else { "  caused by" };
                    let _ = writeln!(out, "{label}: {message}");
                }
            }
        }
        for hint in &self.hints {
            let _ = writeln!(out, "hint: {hint}");
        }
        out
    }
}

/// The messages of an error and its causes; a cause that repeats the message above it is left out.
fn messages(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        if chain.last().is_none_or(|last| !last.ends_with(&message)) {
            chain.push(message);
        }
        next = error.source();
    }
    chain
}

impl<E: Into<anyhow::Error>> From<E> for CommandError {
    fn from(source: E) -> Self {
        let source = source.into();
        let broken = source.chain().any(|cause| {
            cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        });
        // only our own standard output counts: `output` wraps its errors in this type
        let ours = source.downcast_ref::<crate::output::OutputError>().is_some();
        let kind = if broken && ours { ErrorKind::BrokenPipe } else { ErrorKind::Failure };
        Self { kind, source, hints: Vec::new(), excerpt: None }
    }
}

/// The result of a command.
pub type CommandResult<T = ()> = Result<T, CommandError>;

#[cfg(test)]
mod tests {
    use super::{CommandError, ErrorKind, Voice};

    fn sample() -> CommandError {
        CommandError::new("not found").context("cannot pull app").with_hint("onetag login")
    }

    #[test]
    fn own_errors_show_causes_and_hints_on_lines_of_their_own() {
        assert_eq!(sample().render(Voice::Own), "error: cannot pull app\n  caused by: not found\nhint: onetag login\n");
    }

    #[test]
    fn buildx_errors_are_one_line() {
        assert_eq!(sample().render(Voice::Buildx), "ERROR: cannot pull app: not found\nhint: onetag login\n");
    }

    #[test]
    fn statuses_of_others_are_passed_on_in_silence() {
        let error = CommandError::exit(42);
        assert_eq!((error.kind.exit_code(), error.render(Voice::Own)), (42, String::new()));
        assert_eq!(CommandError::interrupted().kind.exit_code(), 130);
        assert_eq!(sample().with_kind(ErrorKind::NotFound).kind.exit_code(), 127);
    }
}
