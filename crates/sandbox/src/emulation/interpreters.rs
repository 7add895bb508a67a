//! Finding emulators.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use onetag_oci::Platform;

use super::machine::{self, Machine};
use super::probe;
use crate::mounting::open_path;
use crate::process::SandboxOptions;

/// The first emulator that executes the machine's program: statically linked names before others, folders in their order.
pub(crate) fn find(machine: Machine, options: &SandboxOptions) -> Option<PathBuf> {
    let qemu = machine.qemu();
    let names = [format!("qemu-{qemu}-static"), format!("qemu-{qemu}")];
    let folders = options.interpreter_folders.iter().chain(&options.search_path).chain(&options.kept_folders);
    for folder in folders.filter(|folder| folder.is_absolute()) {
        for name in &names {
            let path = folder.join(name);
            let Ok(file) = open_path(&path) else { continue };
            if probe::runs_under(file.as_fd(), name, machine) {
                return Some(path);
            }
        }
    }
    None
}

/// The platforms whose programs an emulator executes here, found out by executing one of each. Only those are tried that its name,
/// `qemu-MACHINE` with or without `-static`, stands for.
#[must_use]
pub fn emulated_platforms(path: &Path) -> Vec<Platform> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let stem = name.strip_suffix("-static").unwrap_or(name);
    let Some(qemu) = stem.strip_prefix("qemu-") else { return Vec::new() };
    let Ok(file) = open_path(path) else { return Vec::new() };
    let mut platforms = machine::all();
    platforms.retain(|platform| {
        Machine::of(platform)
            .is_some_and(|machine| machine.qemu() == qemu && probe::runs_under(file.as_fd(), name, machine))
    });
    platforms
}
