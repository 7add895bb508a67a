//! Running commands with a limit on their time, and what they leave.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a finished command said.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub line: String,
    /// Its status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, lossily decoded.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl Finished {
    /// Standard output as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("the output is UTF-8")
    }

    /// Asserts success.
    ///
    /// # Panics
    /// When the command failed.
    #[track_caller]
    pub fn success(self) -> Finished {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Asserts an exit status.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn code(self, code: i32) -> Finished {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Asserts a failure that is an ordinary error: a status of its own making, no panic, no signal.
    ///
    /// # Panics
    /// When the command succeeded, panicked or died.
    #[track_caller]
    pub fn failure(self) -> Finished {
        assert!(self.status.code().is_some_and(|code| code != 0 && code != 101), "{self}");
        assert!(!self.stderr.contains("panicked at"), "{self}");
        self
    }

    /// Asserts that standard error holds a text.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn says(self, text: &str) -> Finished {
        assert!(self.stderr.contains(text), "{text:?} is not in what follows\n{self}");
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(formatter, "$ {}", self.line)?;
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => writeln!(formatter, "exit status {code} after {:.1?}", self.elapsed)?,
            (None, signal) => writeln!(formatter, "signal {signal:?} after {:.1?}", self.elapsed)?,
        }
        writeln!(formatter, "--- stdout\n{}", String::from_utf8_lossy(&self.stdout))?;
        write!(formatter, "--- stderr\n{}", self.stderr)
    }
}

/// A command that is running.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    started: Instant,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts a command; its output is collected, its input is as the command says.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        let line = describe(command);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Running { line, child, started: Instant::now(), stdout, stderr }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The writing end of standard input, where the command was started with a pipe.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal by name (`INT`, `TERM`, `KILL`).
    pub fn signal(&self, name: &str) {
        send(name, self.child.id());
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it takes longer than `limit`; the command is killed then.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Finished {
        let deadline = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None if Instant::now() >= deadline => {
                    self.signal("KILL");
                    let _ = self.child.wait();
                    let finished = self.collected(ExitStatus::from_raw(9));
                    panic!("still running after {limit:?}\n{finished}");
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        self.collected(status)
    }

    fn collected(&mut self, status: ExitStatus) -> Finished {
        let take = |handle: &mut Option<JoinHandle<Vec<u8>>>| {
            handle.take().and_then(|handle| handle.join().ok()).unwrap_or_default()
        };
        Finished {
            line: self.line.clone(),
            status,
            stdout: take(&mut self.stdout),
            stderr: String::from_utf8_lossy(&take(&mut self.stderr)).into_owned(),
            elapsed: self.started.elapsed(),
        }
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut collected = Vec::new();
        let _ = stream.read_to_end(&mut collected);
        collected
    })
}

/// Sends a signal to one process by its id.
pub(crate) fn send(name: &str, id: u32) {
    let _ = Command::new("kill").arg("-s").arg(name).arg(id.to_string()).stderr(Stdio::null()).status();
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
