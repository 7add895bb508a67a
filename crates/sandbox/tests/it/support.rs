//! A root file system to run in, and short ways to run something there.

use std::io::Read;
use std::path::{Path, PathBuf};

use onetag_oci::Platform;
use onetag_sandbox::{Error, ExitStatus, Process, ProcessSpec, RootFs, Sandbox, SandboxOptions};
use tempfile::TempDir;

/// Set when this program runs again as another user: `ranges` or `single`.
pub const MODE: &str = "ONETAG_TEST_MODE";

pub fn mode() -> String {
    std::env::var(MODE).unwrap_or_default()
}

/// A busybox tree and room for changes.
pub struct Room {
    pub folder: TempDir,
    pub platform: Platform,
    layers: Vec<PathBuf>,
}

/// What a process left behind.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.stdout
    }
}

impl Room {
    /// A room with the host's busybox.
    pub fn new() -> Result<Room, String> {
        Room::of(&Platform::host())
    }

    /// A room with a platform's busybox.
    pub fn of(platform: &Platform) -> Result<Room, String> {
        if !may_mount() {
            return Err("only root, or root of a user namespace, may mount".to_owned());
        }
        let archive = onetag_testkit::fixture::rootfs(&platform.to_string())?;
        let folder = tempfile::Builder::new().prefix("onetag-sandbox-").tempdir().map_err(|error| error.to_string())?;
        let base = folder.path().join("base");
        std::fs::create_dir(&base).map_err(|error| error.to_string())?;
        let file = std::fs::File::open(archive).map_err(|error| error.to_string())?;
        let mut archive = tar::Archive::new(file);
        archive.set_preserve_permissions(true);
        archive.unpack(&base).map_err(|error| error.to_string())?;
        Ok(Room { folder, platform: platform.clone(), layers: vec![base] })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The tree, for preparing files in it.
    pub fn base(&self) -> &Path {
        &self.layers[0]
    }

    /// The folder that took the changes of the last process.
    pub fn upper(&self) -> PathBuf {
        self.path().join("upper")
    }

    /// The tree under a fresh writable layer.
    pub fn rootfs(&self) -> RootFs {
        let (upper, work) = (self.upper(), self.path().join("work"));
        for folder in [&upper, &work] {
            if folder.exists() {
                std::fs::remove_dir_all(folder).expect("the last layer goes");
            }
            std::fs::create_dir(folder).expect("a folder for changes");
        }
        RootFs::Overlay { lowers: self.layers.clone(), upper, work, volatile: true }
    }

    pub fn spec(&self, script: &str) -> ProcessSpec {
        let args = ["/bin/busybox", "sh", "-c", script].map(str::to_owned).to_vec();
        let mut spec = ProcessSpec::new(self.rootfs(), args);
        spec.env = vec!["PATH=/bin:/usr/bin:/sbin:/usr/sbin".to_owned()];
        spec.platform = self.platform.clone();
        spec
    }

    #[track_caller]
    pub fn run(&self, script: &str) -> Ran {
        run(&self.spec(script)).expect("it starts")
    }
}

fn may_mount() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0");
    u64::from_str_radix(line.trim(), 16).is_ok_and(|bits| bits >> 21 & 1 == 1)
}

/// A sandbox with the emulators of the fixtures and of PATH.
pub fn sandbox() -> Sandbox {
    Sandbox::new(options())
}

pub fn options() -> SandboxOptions {
    SandboxOptions { search_path: search_path(), ..SandboxOptions::default() }
}

/// PATH and the fixtures' QEMU.
pub fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(onetag_testkit::fixture::qemu().ok()).collect()
}

/// Runs to the end.
pub fn run(spec: &ProcessSpec) -> Result<Ran, Error> {
    finish(sandbox().spawn(spec)?)
}

/// Reads what comes and waits.
pub fn finish(mut process: Process) -> Result<Ran, Error> {
    let read = |file: Option<std::fs::File>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut file) = file {
                let _ = file.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let (stdout, stderr) = (read(process.stdout.take()), read(process.stderr.take()));
    let status = process.wait()?;
    let join = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    Ok(Ran { status, stdout: join(stdout), stderr: join(stderr) })
}
