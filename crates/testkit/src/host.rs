//! What a host looks like before and after, to see that nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The mounts that concern a folder, and every binfmt_misc registration of the host.
#[derive(Clone, Debug)]
pub struct HostState {
    folder: PathBuf,
    mounts: BTreeSet<String>,
    binfmt: BTreeSet<(String, String)>,
}

impl HostState {
    /// Looks. Mounts of other tests that run at the same time do not matter.
    pub fn capture(folder: &Path) -> HostState {
        let needle = folder.to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts.lines().filter(|line| line.contains(&needle) || line.contains("binfmt_misc"));
        HostState { folder: folder.to_owned(), mounts: mounts.map(str::to_owned).collect(), binfmt: binfmt_entries() }
    }

    /// Asserts that nothing was mounted, unmounted or registered since.
    ///
    /// # Panics
    /// When something was.
    #[track_caller]
    pub fn assert_unchanged(&self) {
        let now = HostState::capture(&self.folder);
        assert_eq!(self.mounts, now.mounts, "the host's mounts changed");
        assert_eq!(self.binfmt, now.binfmt, "binfmt_misc of the host changed");
    }
}

/// Whether a user may register interpreters in a namespace of its own: Linux 6.7 or later, and user namespaces allowed.
///
/// # Errors
/// Not; the text says why.
pub fn private_binfmt(user: &crate::user::User) -> Result<(), String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers =
        release.split(|character: char| !character.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 7) {
        return Err(format!("Linux {} has no binfmt_misc for user namespaces, 6.7 has", release.trim()));
    }
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]);
    user.apply(&mut command);
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("user namespaces are denied: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

/// Name and content of every registration; empty where binfmt_misc is not mounted.
pub fn binfmt_entries() -> BTreeSet<(String, String)> {
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name() != "register")
        .map(|entry| {
            let content = fs::read_to_string(entry.path()).unwrap_or_default();
            (entry.file_name().to_string_lossy().into_owned(), content)
        })
        .collect()
}

/// Whether the host runs foreign programs by itself, through a registration of its own.
pub fn has_foreign_handlers() -> bool {
    binfmt_entries().iter().any(|(name, content)| name.starts_with("qemu-") && content.starts_with("enabled"))
}

/// Processes whose command line mentions a path, the asking process and its parents aside.
pub fn processes_mentioning(path: &Path) -> Vec<(u32, String)> {
    let needle = path.to_string_lossy().into_owned();
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        if id != own && (line.contains(&needle) || environment.contains(&needle)) {
            found.push((id, line));
        }
    }
    found
}

/// A process, told from a later one of the same number by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId {
    /// Its number.
    pub number: u32,
    started: u64,
}

/// State, parent and start of a process.
fn status(number: u32) -> Option<(String, u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name before the last parenthesis may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some((fields.first()?.to_string(), fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// Everything that a process has started, directly or not.
pub fn descendants(number: u32) -> Vec<ProcessId> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let all: Vec<(ProcessId, u32)> = numbers
        .filter_map(|number| status(number).map(|(_, parent, started)| (ProcessId { number, started }, parent)))
        .collect();
    let mut found: Vec<ProcessId> = Vec::new();
    let mut parents = vec![number];
    while let Some(parent) = parents.pop() {
        for (process, _) in all.iter().filter(|(_, of)| *of == parent) {
            found.push(*process);
            parents.push(process.number);
        }
    }
    found
}

/// Those of them that still run; one that has ended and not been waited for does not.
pub fn still_running(processes: &[ProcessId]) -> Vec<ProcessId> {
    let runs = |process: &ProcessId| {
        status(process.number).is_some_and(|(state, _, started)| started == process.started && !"ZX".contains(&state))
    };
    processes.iter().copied().filter(runs).collect()
}

/// Control groups anywhere below the usual mount point whose name begins like this.
pub fn control_groups(prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((folder, depth)) = pending.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path());
            } else if depth < 8 {
                pending.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

/// Files below a folder for which a predicate holds.
pub fn files_below(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                pending.push(path);
            } else if wanted(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Rust's name for the target that the tests were compiled for, as far as this project supports it.
pub fn rust_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
