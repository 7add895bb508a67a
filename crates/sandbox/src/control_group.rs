//! Control groups: limits of memory, processes and processor time, with the first version's hierarchies and the second's.
//!
//! A group is made below this process's own, or below its parent where the second version demands that groups with members have no
//! limited children. The container's init removes it when the container ends; a starter that outlives it removes it as well.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use crate::error::{Error, Result, shown};
use crate::spec::Limits;

const ROOT: &str = "/sys/fs/cgroup";

/// The hierarchies of this host.
enum Hierarchies {
    /// One for everything.
    Unified,
    /// One for each controller.
    Separate,
}

/// The groups of one container. Dropping it removes them.
#[derive(Debug, Default)]
pub(crate) struct ControlGroups {
    folders: Vec<PathBuf>,
}

impl ControlGroups {
    /// Makes groups with these limits; none when nothing is limited.
    ///
    /// # Errors
    /// [`Error::Denied`] where this process may not make them.
    pub(crate) fn create(limits: &Limits) -> Result<Self> {
        let mut groups = Self::default();
        if limits.is_empty() {
            return Ok(groups);
        }
        let hierarchies = hierarchies().map_err(|cause| denied(&cause))?;
        match hierarchies {
            Hierarchies::Unified => {
                let parent = unified_parent().map_err(|cause| denied(&cause))?;
                let folder = groups.make(&parent)?;
                for (file, value) in unified_settings(limits) {
                    set(&folder, file, &value)?;
                }
            }
            Hierarchies::Separate => {
                for (controller, settings) in separate_settings(limits) {
                    let parent = own_group(Some(controller)).map_err(|cause| denied(&cause))?;
                    let folder = groups.make(&parent)?;
                    for (file, value) in settings {
                        set(&folder, file, &value)?;
                    }
                }
            }
        }
        Ok(groups)
    }

    fn make(&mut self, parent: &Path) -> Result<PathBuf> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        sweep(parent);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("onetag-{}-{number}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| denied(&format!("{}: {error}", shown(&folder))))?;
        self.folders.push(folder.clone());
        Ok(folder)
    }

    /// The folders, for the process to enter.
    pub(crate) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// How many processes the kernel has killed here for want of memory.
    pub(crate) fn memory_kills(&self) -> u64 {
        let count = |folder: &PathBuf| {
            ["memory.events", "memory.oom_control"].iter().find_map(|file| {
                let text = fs::read_to_string(folder.join(file)).ok()?;
                text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
            })
        };
        self.folders.iter().filter_map(count).sum()
    }

    /// Removes them; processes may be on their way out still.
    pub(crate) fn remove(&self) {
        for folder in &self.folders {
            for _ in 0..50 {
                match fs::remove_dir(folder) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    // The container's init may have done it already.
                    _ => break,
                }
            }
        }
    }
}

impl Drop for ControlGroups {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes groups whose makers are gone; those with members stay.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(maker) = name.to_str().and_then(|name| name.strip_prefix("onetag-")?.split('-').next()) else {
            continue;
        };
        if maker.parse::<u32>().is_ok() && !Path::new("/proc").join(maker).exists() {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn set(folder: &Path, file: &str, value: &str) -> Result<()> {
    let path = folder.join(file);
    match fs::write(&path, value) {
        // Swap accounting may be switched off.
        Err(_) if file.contains("swap") || file.contains("memsw") => Ok(()),
        result => result.map_err(|error| Error::setup(format!("set {} to {value}", shown(&path)), error)),
    }
}

fn denied(cause: &str) -> Error {
    Error::Denied {
        what: "limits of memory, processes or processor time",
        cause: cause.to_owned(),
        hint: "systemd-run --user --scope -p Delegate=yes onetag …".to_owned(),
    }
}

/// What can be limited here, or why nothing can.
pub(crate) fn availability() -> std::result::Result<String, String> {
    let (parent, kind) = match hierarchies()? {
        Hierarchies::Unified => (unified_parent()?, "version 2"),
        Hierarchies::Separate => (own_group(Some("memory"))?, "version 1"),
    };
    if rustix::fs::access(&parent, rustix::fs::Access::WRITE_OK).is_err() {
        return Err(format!("{} is not this user's", shown(&parent)));
    }
    Ok(format!("{kind}, below {}", shown(&parent)))
}

fn hierarchies() -> std::result::Result<Hierarchies, String> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return Ok(Hierarchies::Unified);
    }
    if ["memory", "pids"].iter().any(|name| Path::new(ROOT).join(name).join("cgroup.procs").exists()) {
        return Ok(Hierarchies::Separate);
    }
    Err(format!("no control groups are mounted at {ROOT}"))
}

/// The folder of this process's group.
fn own_group(controller: Option<&str>) -> std::result::Result<PathBuf, String> {
    let text = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = path.trim_start_matches('/');
        match controller {
            None if controllers.is_empty() => return Ok(Path::new(ROOT).join(path)),
            Some(name) if controllers.split(',').any(|known| known == name) => {
                // Two controllers may share a hierarchy under a joint name.
                let base =
                    [name, controllers].iter().map(|folder| Path::new(ROOT).join(folder)).find(|base| base.exists());
                return base.map(|base| base.join(path)).ok_or_else(|| format!("{name} is not mounted below {ROOT}"));
            }
            _ => {}
        }
    }
    Err(format!("this process has no control group for {}", controller.unwrap_or("everything")))
}

/// Where a limited group can be made: a group whose children have the controllers.
fn unified_parent() -> std::result::Result<PathBuf, String> {
    let own = own_group(None)?;
    let mut candidates = vec![own.clone()];
    candidates.extend(own.parent().filter(|parent| parent.starts_with(ROOT)).map(Path::to_owned));
    for folder in &candidates {
        if fs::read_to_string(folder.join("cgroup.subtree_control")).is_ok_and(|text| text.contains("memory")) {
            return Ok(folder.clone());
        }
    }
    for folder in &candidates {
        if fs::write(folder.join("cgroup.subtree_control"), "+memory +pids +cpu").is_ok() {
            return Ok(folder.clone());
        }
    }
    Err(format!("the controllers are not delegated to {}", shown(&own)))
}

fn unified_settings(limits: &Limits) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory_bytes {
        settings.push(("memory.max", bytes.to_string()));
        let swap = limits.memory_swap_bytes.map_or(0, |total| total.saturating_sub(bytes));
        settings.push(("memory.swap.max", swap.to_string()));
    }
    if let Some(count) = limits.pids {
        settings.push(("pids.max", count.to_string()));
    }
    if let Some(thousandths) = limits.cpu_thousandths {
        settings.push(("cpu.max", format!("{} 100000", thousandths.saturating_mul(100))));
    }
    settings
}

type Settings = Vec<(&'static str, String)>;

fn separate_settings(limits: &Limits) -> Vec<(&'static str, Settings)> {
    let mut controllers = Vec::new();
    if let Some(bytes) = limits.memory_bytes {
        let total = limits.memory_swap_bytes.unwrap_or(bytes).max(bytes);
        let settings =
            vec![("memory.limit_in_bytes", bytes.to_string()), ("memory.memsw.limit_in_bytes", total.to_string())];
        controllers.push(("memory", settings));
    }
    if let Some(count) = limits.pids {
        controllers.push(("pids", vec![("pids.max", count.to_string())]));
    }
    if let Some(thousandths) = limits.cpu_thousandths {
        let quota = thousandths.saturating_mul(100).to_string();
        controllers.push(("cpu", vec![("cpu.cfs_period_us", "100000".to_owned()), ("cpu.cfs_quota_us", quota)]));
    }
    controllers
}

/// The groups as the container's init keeps them: open, so that it enters and removes them from inside.
#[derive(Default)]
pub(crate) struct Kept {
    parents: Vec<(OwnedFd, String)>,
}

impl Kept {
    /// Opens the folders' parents, before the host's tree is left.
    pub(crate) fn open(folders: &[PathBuf]) -> io::Result<Self> {
        let mut parents = Vec::new();
        for folder in folders {
            if let (Some(parent), Some(name)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str())) {
                parents.push((crate::mounting::open_path(parent)?, name.to_owned()));
            }
        }
        Ok(Self { parents })
    }

    /// Moves this process into the groups.
    pub(crate) fn enter(&self) -> io::Result<()> {
        for (parent, name) in &self.parents {
            let path = format!("{name}/cgroup.procs");
            let file = openat(parent, path.as_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&file, b"0")?;
        }
        Ok(())
    }

    /// Removes the groups, in which no process may be left.
    pub(crate) fn remove(&self) {
        for (parent, name) in &self.parents {
            let _ = unlinkat(parent, name.as_str(), AtFlags::REMOVEDIR);
        }
    }
}
