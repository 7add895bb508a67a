//! Running the git program so that neither a repository nor the caller's configuration decides what it does.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use onetag_solver::{ExecContext, LogStream};

use super::GitError;

/// More of what git prints is not read.
const OUTPUT_LIMIT_BYTES: u64 = 4 << 20;
/// Lines of an error message that are kept.
const ERROR_LINES: usize = 8;
/// Protocols over which anything is fetched.
const REMOTE_PROTOCOLS: &str = "http:https:ssh:git";
/// Variables of the caller that git may see.
const PASSED: [&str; 8] =
    ["http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];

/// The git program in a clean environment.
pub(super) struct Git<'a> {
    pub program: PathBuf,
    /// Folders of programs that git needs, such as ssh.
    pub search_path: OsString,
    /// The caller's environment, of which little is passed on.
    pub environment: &'a [(OsString, OsString)],
    /// A folder of ours that git takes for its user's home.
    pub home: &'a Path,
    /// `KEY=VALUE` of configuration; never on the command line, where others could read it.
    pub configuration: Vec<(String, String)>,
    /// The socket of an SSH agent.
    pub agent: Option<&'a Path>,
    /// The repository's address, which is not shown with its password.
    pub remote: &'a str,
    pub context: &'a ExecContext<'a>,
}

impl Git<'_> {
    /// Runs git and gives what it printed.
    pub(super) fn run(&self, folder: &Path, arguments: &[&str]) -> Result<String, GitError> {
        self.run_with(folder, arguments, REMOTE_PROTOCOLS)
    }

    /// Runs git on a repository of ours, by its path.
    pub(super) fn run_local(&self, folder: &Path, arguments: &[&str]) -> Result<String, GitError> {
        self.run_with(folder, arguments, "file")
    }

    fn run_with(&self, folder: &Path, arguments: &[&str], protocols: &str) -> Result<String, GitError> {
        let mut command = self.command(folder, arguments, protocols);
        let started = |source| GitError::Start { program: self.program.clone(), source };
        let mut child = command.spawn().map_err(started)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let child = Arc::new(Mutex::new(child));
        let killed = Arc::clone(&child);
        let guard = self.context.on_cancel(move || {
            if let Ok(mut child) = killed.lock() {
                // A process that has ended needs no killing.
                let _ = child.kill();
            }
        });
        let (output, errors) = std::thread::scope(|scope| {
            let output = scope.spawn(move || {
                let mut text = Vec::new();
                if let Some(stdout) = stdout {
                    // What cannot be read is missed by the caller.
                    let _ = stdout.take(OUTPUT_LIMIT_BYTES).read_to_end(&mut text);
                }
                text
            });
            let errors = self.show(stderr);
            (output.join().unwrap_or_default(), errors)
        });
        let status = loop {
            let waited = child.lock().map_or(Ok(None), |mut child| child.try_wait()).map_err(started)?;
            match waited {
                Some(status) => break status,
                None => std::thread::sleep(std::time::Duration::from_millis(2)),
            }
        };
        drop(guard);
        if self.context.is_cancelled() {
            return Err(GitError::Cancelled);
        }
        if !status.success() {
            let action = arguments.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default().to_owned();
            return Err(GitError::Failed { action, message: errors.join("; ") });
        }
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    fn command(&self, folder: &Path, arguments: &[&str], protocols: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(folder).env_clear();
        for (name, value) in self.environment {
            if name.to_str().is_some_and(|name| PASSED.contains(&name)) {
                command.env(name, value);
            }
        }
        let known_hosts = self.home.join("known_hosts");
        let ssh = format!(
            "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile='{}'",
            known_hosts.display()
        );
        command
            .env("PATH", &self.search_path)
            .env("HOME", self.home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", protocols)
            .env("GIT_SSH_COMMAND", ssh)
            .env("GIT_CONFIG_COUNT", self.configuration.len().to_string());
        for (number, (key, value)) in self.configuration.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        if let Some(agent) = self.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        // Hooks, file system monitors and templates are programs that a repository or a machine could bring along.
        for setting in ["core.hooksPath=/dev/null", "core.fsmonitor=false", "init.templateDir=", "gc.auto=0"] {
            command.args(["-c", setting]);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Shows what git says and keeps its last lines.
    fn show(&self, stderr: Option<impl Read>) -> Vec<String> {
        let mut kept: Vec<String> = Vec::new();
        let Some(stderr) = stderr else { return kept };
        let mut reader = BufReader::new(stderr.take(OUTPUT_LIMIT_BYTES));
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = redact(&String::from_utf8_lossy(&line), self.remote);
            self.context.log(LogStream::Stderr, text.as_bytes());
            if !text.trim().is_empty() {
                kept.push(text.trim().to_owned());
            }
            if kept.len() > ERROR_LINES {
                kept.remove(0);
            }
            line.clear();
        }
        kept
    }
}

/// A text without the user and password of an address.
pub(super) fn redact(text: &str, remote: &str) -> String {
    let Some((_, rest)) = remote.split_once("://") else { return text.to_owned() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) if !user.is_empty() => {
            let hidden = text.replace(&format!("{user}@"), "xxxxx@");
            user.split_once(':').map_or(hidden.clone(), |(_, password)| match password {
                "" => hidden,
                password => hidden.replace(password, "xxxxx"),
            })
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let remote = "https://me:secret@host/a.git";
        let shown = redact("fatal: https://me:secret@host/a.git: secret is wrong", remote);
        assert_eq!(shown, "fatal: https://xxxxx@host/a.git: xxxxx is wrong");
        assert_eq!(redact("git@host:a", "git@host:a"), "git@host:a");
    }
}
