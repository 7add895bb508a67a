//! Finding emulators.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::machine::Machine;
use super::probe;
use crate::mounting::open_path;
use crate::process::SandboxOptions;

/// The first emulator that executes the machine's program: statically linked names before others, folders in their order.
pub(crate) fn find(machine: Machine, options: &SandboxOptions) -> Option<PathBuf> {
    let qemu = machine.qemu();
    let names = [format!("qemu-{qemu}-static"), format!("qemu-{qemu}")];
    let folders = options.interpreter_folders.iter().chain(&options.search_path);
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
