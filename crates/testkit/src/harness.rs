//! The real binary, run with a store, a home and a configuration of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tempfile::TempDir;

use crate::folder;
use crate::process::{Finished, Running};
use crate::user::User;

/// The longest that one command may take in a test.
const LIMIT: Duration = Duration::from_secs(600);

/// The binary and the fixtures in a folder that every user may read; the repository may lie where only root can.
#[derive(Debug)]
pub struct Staged {
    folder: TempDir,
    binary: PathBuf,
}

impl Staged {
    /// Stages for as long as somebody uses it: tests that run at the same time share one copy, the last removes it.
    ///
    /// # Panics
    /// When the binary cannot be copied.
    pub fn of(binary: &Path) -> Arc<Staged> {
        static STAGED: Mutex<Weak<Staged>> = Mutex::new(Weak::new());
        let mut shared = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(staged) = shared.upgrade() {
            return staged;
        }
        let staged = Arc::new(Staged::new(binary));
        *shared = Arc::downgrade(&staged);
        staged
    }

    fn new(binary: &Path) -> Staged {
        let folder = TempDir::with_prefix("onetag-bin-").expect("a temporary folder");
        open_to_all(folder.path());
        let staged = folder.path().join("onetag");
        link_or_copy(binary, &staged);
        let fixtures = folder.path().join("fixtures");
        for name in ["", "qemu", "qemu/bin", "rootfs"] {
            let copy = fixtures.join(name);
            fs::create_dir(&copy).expect("a folder for fixtures");
            open_to_all(&copy);
            let Ok(original) = folder::fixtures() else { continue };
            for entry in fs::read_dir(original.join(name)).into_iter().flatten().flatten() {
                if entry.path().is_file() {
                    link_or_copy(&entry.path(), &copy.join(entry.file_name()));
                }
            }
        }
        Staged { folder, binary: staged }
    }

    /// The binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The folder of the fixtures; empty where there are none.
    pub fn fixtures(&self) -> PathBuf {
        self.folder.path().join("fixtures")
    }

    /// The folder of the emulators; empty without fixtures.
    pub fn emulators(&self) -> PathBuf {
        self.fixtures().join("qemu/bin")
    }
}

fn link_or_copy(from: &Path, to: &Path) {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
    }
}

fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("own folder");
}

/// A way to run the binary: as one user, with one store. Everything disappears with it.
#[derive(Debug)]
pub struct Onetag {
    folder: TempDir,
    staged: Arc<Staged>,
    path: std::ffi::OsString,
    user: User,
}

impl Onetag {
    /// A fresh store and home for `user`; emulators of the fixtures are on `PATH`.
    ///
    /// # Panics
    /// When folders cannot be made.
    pub fn new(binary: impl AsRef<Path>, user: User) -> Onetag {
        let staged = Staged::of(binary.as_ref());
        let folder = TempDir::with_prefix("onetag-test-").expect("a temporary folder");
        open_to_all(folder.path());
        for name in ["home", "root", "run", "config", "tmp", "work"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).expect("own folder");
            user.own(&path);
        }
        user.own(folder.path());
        let emulators = staged.emulators();
        let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let folders = std::iter::once(emulators).chain(system.map(PathBuf::from));
        let path = std::env::join_paths(folders).expect("no colons in folders");
        Onetag { folder, staged, path, user }
    }

    /// The same without the emulators of the fixtures, and without the host's on `PATH`.
    ///
    /// # Panics
    /// When the folder for programs cannot be made.
    #[must_use]
    pub fn without_emulators(mut self) -> Onetag {
        let programs = self.folder.path().join("programs");
        fs::create_dir(&programs).expect("own folder");
        open_to_all(&programs);
        for name in ["newuidmap", "newgidmap", "pasta", "slirp4netns"] {
            if let Some(program) = folder::program(name) {
                std::os::unix::fs::symlink(program, programs.join(name)).expect("own folder");
            }
        }
        self.path = programs.into_os_string();
        self
    }

    /// The staged binary.
    pub fn binary(&self) -> &Path {
        self.staged.binary()
    }

    /// The user.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The store (`ONETAG_ROOT`).
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A folder for contexts and outputs, owned by the user.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Writes a file below [`Onetag::work`] and gives it to the user; returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("own folder");
        fs::write(&path, content).expect("own folder");
        self.user.own_tree(&self.work());
        path
    }

    /// A command of another program with the same user, home and configuration.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.path();
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", folder.join("home"))
            .env("USER", self.user.name())
            .env("LOGNAME", self.user.name())
            .env("LC_ALL", "C.UTF-8")
            .env("TMPDIR", folder.join("tmp"))
            .env("XDG_RUNTIME_DIR", folder.join("run"))
            .env("DOCKER_CONFIG", folder.join("config"))
            .env("DOCKER_HOST", format!("unix://{}/docker.sock", folder.join("run").display()))
            .env("ONETAG_ROOT", folder.join("root"))
            .env("RUST_BACKTRACE", "1")
            .current_dir(self.work())
            .stdin(Stdio::null());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        self.user.apply(&mut command);
        command
    }

    /// A command of the binary.
    pub fn command<I, S>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.program(self.binary());
        command.args(arguments);
        command
    }

    /// Runs the binary to its end.
    ///
    /// # Panics
    /// When it takes longer than ten minutes.
    #[track_caller]
    pub fn run<I, S>(&self, arguments: I) -> Finished
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Running::start(&mut self.command(arguments)).finish(LIMIT)
    }

    /// Runs the binary with a line of arguments that have no spaces inside.
    ///
    /// # Panics
    /// As [`Onetag::run`].
    #[track_caller]
    pub fn line(&self, line: &str) -> Finished {
        self.run(line.split_whitespace())
    }

    /// Runs the binary with a line of arguments and asserts success.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ok(&self, line: &str) -> Finished {
        self.line(line).success()
    }

    /// Runs another program to its end.
    ///
    /// # Panics
    /// When it takes longer than ten minutes.
    #[track_caller]
    pub fn run_program(&self, program: impl AsRef<OsStr>, line: &str) -> Finished {
        Running::start(self.program(program).args(line.split_whitespace())).finish(LIMIT)
    }

    /// Starts a command of the binary.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start<I, S>(&self, arguments: I) -> Running
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Running::start(&mut self.command(arguments))
    }
}

impl Drop for Onetag {
    /// Files of subordinate ids can only be removed by their user, inside its namespace.
    fn drop(&mut self) {
        if !self.user.is_root() && folder::program("unshare").is_some() && User::current() == self.user {
            let mut command = self.program("unshare");
            command.args(["--map-auto", "--map-root-user", "rm", "-rf"]).arg(self.root());
            let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}
