//! Running the git program so that neither a repository nor the caller's configuration decides what it does.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use onetag_solver::{ExecContext, LogStream};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::GitError;
use super::watch::{Broken, Watch};

/// More of what git prints is not read.
const OUTPUT_LIMIT_BYTES: u64 = 4 << 20;
/// Lines of an error message that are kept.
const ERROR_LINES: usize = 8;
/// Protocols over which anything is fetched.
const REMOTE_PROTOCOLS: &str = "http:https:ssh:git";
/// Variables of the caller that git may see.
const PASSED: [&str; 8] =
    ["http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];
/// Files of a checkout are the same whatever the caller's mask is; and whatever a server names without end is kept in no
/// more than 4 GiB of memory. Packs are mapped into memory, which does not count.
const WITH_LIMITS: &str = r#"umask 022; ulimit -d 4194304 2>/dev/null; exec "$0" "$@""#;
/// Hooks, file system monitors and templates are programs that a repository or a machine could bring along.
const SETTINGS: [&str; 7] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "init.templateDir=",
    "init.defaultBranch=master",
    "advice.detachedHead=false",
    "fetch.unpackLimit=1",
    "gc.auto=0",
];
/// Waiting starts with the shortest and ends with the longest of these.
const WAITING: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

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
    /// The keys of SSH hosts.
    pub host_keys: HostKeys,
    /// How long nothing may arrive.
    pub patience: Option<Duration>,
    /// The repository's address, which is not shown with its password.
    pub remote: &'a str,
    pub context: &'a ExecContext<'a>,
}

/// Which keys an SSH host may show.
pub(super) struct HostKeys {
    /// In the form of ssh's `known_hosts`.
    pub file: PathBuf,
    /// Whether only those are good; else the first one that a host shows is kept, and no other is good from then on.
    pub are_given: bool,
}

impl Git<'_> {
    /// Runs git and gives what it printed.
    pub(super) fn run(&self, folder: &Path, arguments: &[&str]) -> Result<String, GitError> {
        self.run_with(folder, arguments, REMOTE_PROTOCOLS, text)
    }

    /// Runs git on a repository of ours, by its path.
    pub(super) fn run_local(&self, folder: &Path, arguments: &[&str]) -> Result<String, GitError> {
        self.run_with(folder, arguments, "file", text)
    }

    /// Whether git prints more zeros than this, which is as far as it is read.
    pub(super) fn exceeds(&self, folder: &Path, arguments: &[&str], limit: usize) -> Result<bool, GitError> {
        let is_over = Mutex::new(false);
        let count = |stdout: &mut dyn Read| {
            let (mut zeros, mut buffer) = (0, vec![0; 64 << 10]);
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                zeros += buffer[..read].iter().filter(|&&byte| byte == 0).count();
                if zeros > limit {
                    *is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
                    break;
                }
            }
            Vec::new()
        };
        let result = self.run_with(folder, arguments, "none", count);
        let is_over = is_over.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Not being listened to any more is what ended it.
        if is_over { Ok(true) } else { result.map(|_| false) }
    }

    fn run_with(
        &self,
        folder: &Path,
        arguments: &[&str],
        protocols: &str,
        read: impl FnOnce(&mut dyn Read) -> Vec<u8> + Send,
    ) -> Result<String, GitError> {
        let mut command = self.command(folder, arguments, protocols);
        let started = |source| GitError::Start { program: self.program.clone(), source };
        let mut child = command.spawn().map_err(started)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let group = Arc::new(Group::of(&child));
        let cancelled = Arc::clone(&group);
        let guard = self.context.on_cancel(move || cancelled.kill());
        let printed = AtomicU64::new(0);
        let (ended, output, errors) = std::thread::scope(|scope| {
            let output = scope.spawn(|| stdout.map_or_else(Vec::new, |stdout| read(&mut Counted(stdout, &printed))));
            let errors = scope.spawn(|| self.show(stderr.map(|stderr| Counted(stderr, &printed))));
            let ended = self.wait(&mut child, &group, folder, &printed);
            (ended, output.join().unwrap_or_default(), errors.join().unwrap_or_default())
        });
        drop(guard);
        if self.context.is_cancelled() {
            return Err(GitError::Cancelled);
        }
        let action = || arguments.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default().to_owned();
        match ended.map_err(started)? {
            (_, Some(Broken::Stalled(time))) => Err(GitError::Stalled { action: action(), seconds: time.as_secs() }),
            (_, Some(Broken::TooLarge(bytes))) => Err(GitError::TooLarge { bytes }),
            (status, None) if !status.success() => {
                Err(GitError::Failed { action: action(), message: errors.join("; ") })
            }
            _ => Ok(String::from_utf8_lossy(&output).trim().to_owned()),
        }
    }

    /// Waits until git ends or has to be ended, and with it everything that it started.
    fn wait(
        &self,
        child: &mut Child,
        group: &Group,
        folder: &Path,
        printed: &AtomicU64,
    ) -> std::io::Result<(ExitStatus, Option<Broken>)> {
        let mut watch = Watch::new(folder, self.patience);
        let (start, mut broken) = (Instant::now(), None);
        while !group.has_ended() {
            if broken.is_none() {
                broken = watch.check(printed.load(Ordering::Relaxed));
                if broken.is_some() {
                    group.kill();
                }
            }
            std::thread::sleep((start.elapsed() / 16).clamp(WAITING.0, WAITING.1));
        }
        group.finish();
        Ok((child.wait()?, broken))
    }

    fn command(&self, folder: &Path, arguments: &[&str], protocols: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WITH_LIMITS]).arg(&self.program).current_dir(folder).env_clear().process_group(0);
        for (name, value) in self.environment {
            if name.to_str().is_some_and(|name| PASSED.contains(&name)) {
                command.env(name, value);
            }
        }
        command
            .env("PATH", &self.search_path)
            .env("HOME", self.home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", protocols)
            .env("GIT_SSH_VARIANT", "ssh")
            .env("GIT_SSH_COMMAND", ssh_command(&self.host_keys))
            .env("GIT_CONFIG_COUNT", self.configuration.len().to_string());
        for (number, (key, value)) in self.configuration.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        if let Some(agent) = self.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        for setting in SETTINGS {
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

/// What was printed, as far as anybody wants to know it.
fn text(stdout: &mut dyn Read) -> Vec<u8> {
    let mut text = Vec::new();
    // What cannot be read is missed by the caller.
    let _ = stdout.take(OUTPUT_LIMIT_BYTES).read_to_end(&mut text);
    text
}

/// A stream whose bytes are counted.
struct Counted<'a, R>(R, &'a AtomicU64);

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// git and everything that it starts: helpers for HTTP, ssh, gits for submodules.
struct Group(Mutex<Option<Pid>>);

impl Group {
    fn of(child: &Child) -> Group {
        Group(Mutex::new(i32::try_from(child.id()).ok().and_then(Pid::from_raw)))
    }

    fn kill(&self) {
        let leader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leader) = *leader {
            // A group that has ended needs no killing.
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }

    /// Whether git has ended. Its number stays its own until it is waited for.
    fn has_ended(&self) -> bool {
        let leader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(leader) = *leader else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(rustix::process::waitid(WaitId::Pid(leader), options), Ok(None))
    }

    /// Ends whatever is left of it.
    fn finish(&self) {
        self.kill();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// ssh without the caller's configuration and keys: an agent is all that it may use.
fn ssh_command(host_keys: &HostKeys) -> String {
    // The shell takes the command apart, then ssh the list of files, in which it replaces what begins with a percent
    // sign.
    let file = host_keys.file.display().to_string().replace('%', "%%");
    let file = format!("UserKnownHostsFile=\"{file}\"").replace('\'', r"'\''");
    let checking = if host_keys.are_given { "yes" } else { "accept-new" };
    format!(
        "ssh -F /dev/null -o BatchMode=yes -o LogLevel=ERROR -o IdentityFile=none -o ConnectTimeout=30 \
         -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o StrictHostKeyChecking={checking} -o '{file}'"
    )
}

/// A text without the user and password of an address. The user of an SSH address alone is no secret.
pub(super) fn redact(text: &str, remote: &str) -> String {
    let hidden = onetag_dockerfile::redact::user_info(text);
    let Some((_, rest)) = remote.split_once("://") else { return hidden };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
        Some((_, password)) if !password.is_empty() => hidden.replace(password, "xxxxx"),
        _ => hidden,
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
        assert_eq!(redact("ssh://git@host/a", "ssh://git@host/a"), "ssh://git@host/a");
        assert_eq!(redact("ssh://git:pw@host/a: pw", "ssh://git:pw@host/a"), "ssh://xxxxx@host/a: xxxxx");
    }

    #[test]
    fn the_file_of_host_keys_is_one_word_for_the_shell_and_for_ssh() {
        let command = ssh_command(&HostKeys { file: "/a b/it's 100%".into(), are_given: true });
        assert!(command.ends_with(r#"-o StrictHostKeyChecking=yes -o 'UserKnownHostsFile="/a b/it'\''s 100%%"'"#));
    }
}
