//! Control groups: limits of memory, processes and processor time, with the first version's hierarchies and the second's.
//!
//! A group is made below this process's own, or below its parent where the second version demands that groups with members have no
//! limited children. The container's init removes it when the container ends; a starter that outlives it removes it as well.

mod hierarchy;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use crate::error::{Error, Result, shown};
use crate::spec::Limits;
use hierarchy::{Version, View};

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
        let controllers = controllers(limits);
        let places = View::own().and_then(|view| view.places(&controllers)).map_err(|cause| denied(&cause))?;
        for place in places {
            let folder = groups.make(&place.parent)?;
            for controller in place.controllers {
                for (file, value) in settings(place.version, controller, limits) {
                    set(&folder, file, &value)?;
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
    let places = View::own()?.places(&["memory", "pids"])?;
    let place = places.first().ok_or("no control groups")?;
    let version = match place.version {
        Version::First => "version 1",
        Version::Second => "version 2",
    };
    Ok(format!("{version}, below {}", shown(&place.parent)))
}

/// What limits need.
fn controllers(limits: &Limits) -> Vec<&'static str> {
    let wanted = [
        ("memory", limits.memory_bytes.is_some()),
        ("pids", limits.pids.is_some()),
        ("cpu", limits.cpu_thousandths.is_some()),
    ];
    wanted.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(controller, _)| controller).collect()
}

/// The files of a group and what is written into them, for one controller, in order.
fn settings(version: Version, controller: &str, limits: &Limits) -> Vec<(&'static str, String)> {
    let quota = || limits.cpu_thousandths.unwrap_or_default().saturating_mul(100);
    let memory = limits.memory_bytes.unwrap_or_default();
    let swap = limits.memory_swap_bytes.unwrap_or(memory).max(memory);
    match (version, controller) {
        (Version::First, "memory") => {
            vec![("memory.limit_in_bytes", memory.to_string()), ("memory.memsw.limit_in_bytes", swap.to_string())]
        }
        // The first version counts memory and swap together, the second each on its own.
        (Version::Second, "memory") => {
            vec![("memory.max", memory.to_string()), ("memory.swap.max", (swap - memory).to_string())]
        }
        (_, "pids") => vec![("pids.max", limits.pids.unwrap_or_default().to_string())],
        (Version::First, "cpu") => {
            vec![("cpu.cfs_period_us", "100000".to_owned()), ("cpu.cfs_quota_us", quota().to_string())]
        }
        (Version::Second, "cpu") => vec![("cpu.max", format!("{} 100000", quota()))],
        _ => Vec::new(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_in_each_versions_words() {
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            memory_swap_bytes: Some(96 << 20),
            pids: Some(50),
            cpu_thousandths: Some(1500),
        };
        assert_eq!(controllers(&limits), ["memory", "pids", "cpu"]);
        let written = |version| {
            let all = controllers(&limits).into_iter().flat_map(|controller| settings(version, controller, &limits));
            all.map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            written(Version::First),
            "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes=100663296 pids.max=50 \
             cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000"
        );
        assert_eq!(
            written(Version::Second),
            "memory.max=67108864 memory.swap.max=33554432 pids.max=50 cpu.max=150000 100000"
        );
        // Without swap of its own a container has none.
        let limits = Limits { memory_bytes: Some(1), ..Limits::default() };
        assert_eq!(settings(Version::Second, "memory", &limits)[1].1, "0");
        assert_eq!(controllers(&limits), ["memory"]);
    }

    /// The kernel's own second version, as far as hosts that use the first have it: one controller is enough.
    #[test]
    fn a_group_of_the_second_version_is_made_entered_and_removed() {
        let root = Path::new("/sys/fs/cgroup/unified");
        let root = if root.exists() { root } else { Path::new("/sys/fs/cgroup") };
        let text = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let known = ["pids", "memory", "hugetlb", "cpu"];
        let controller = known.into_iter().find(|known| text.split_ascii_whitespace().any(|word| word == *known));
        let controller = onetag_testkit::require!(some controller, "no controller of the second version");
        let before = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        let own = root.join(format!("onetag-test-{}", std::process::id()));
        onetag_testkit::require!(fs::create_dir(&own).is_ok(), "only root may make groups below {}", shown(root));
        let member = own.join("member");
        fs::create_dir(&member).unwrap();
        let relative = member.strip_prefix(root).unwrap().display().to_string();
        // Down from the root each group has to pass the controller on.
        let top = View::of(root.parent().unwrap(), "0::/\n");
        let top = if root.ends_with("unified") { top } else { View::of(root, "0::/\n") };
        assert_eq!(top.places(&[controller]).unwrap()[0].parent, root.join(""));
        let mount = if root.ends_with("unified") { root.parent().unwrap() } else { root };
        let places = View::of(mount, &format!("0::/{relative}\n")).places(&[controller]).unwrap();
        // Nobody is in the member, so that it can have children itself.
        assert!(places[0].parent == member || places[0].parent == own, "{places:?}");
        let mut groups = ControlGroups::default();
        let made = groups.make(&places[0].parent).unwrap();
        let has = fs::read_to_string(made.join("cgroup.controllers")).unwrap();
        assert!(has.split_ascii_whitespace().any(|word| word == controller), "{has}");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(made.join("cgroup.procs"), child.id().to_string()).unwrap();
        let membership = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(groups);
        let gone = !made.exists();
        let removed = fs::remove_dir(&member).and_then(|()| fs::remove_dir(&own));
        if !before.split_ascii_whitespace().any(|word| word == controller) {
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("-{controller}"));
        }
        assert!(membership.contains(&format!("{}\n", made.strip_prefix(root).unwrap().display())), "{membership}");
        assert!(gone && removed.is_ok(), "{removed:?}");
    }
}
