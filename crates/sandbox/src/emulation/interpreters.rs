//! Finding emulators.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use onetag_oci::Platform;

use super::machine::{self, Machine};
use super::memory::{Question, Works};
use super::{Emulation, probe, table};
use crate::mounting::open_path;

/// An emulator that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Emulator {
    pub(crate) path: PathBuf,
    /// Whether it understands being told a program's own name beside its path.
    pub(crate) keeps_names: bool,
}

/// Whether records of earlier commands count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recall {
    Allowed,
    /// Everything is executed anew.
    Refused,
}

/// The first emulator that executes the machine's program: statically linked names before others, folders in their order.
pub(crate) fn find(emulation: &Emulation, machine: Machine, recall: Recall) -> Option<Emulator> {
    let options = emulation.options();
    let qemu = machine.qemu();
    let names = [format!("qemu-{qemu}-static"), format!("qemu-{qemu}")];
    let folders = options.interpreter_folders.iter().chain(&options.search_path).chain(&options.kept_folders);
    for folder in folders.filter(|folder| folder.is_absolute()) {
        for name in &names {
            let path = folder.join(name);
            let Ok(file) = open_path(&path) else { continue };
            if let Some(works) = answer(emulation, machine, &path, &file.into(), recall) {
                return Some(Emulator { path, keeps_names: works == Works::Fully });
            }
        }
    }
    None
}

/// Whether and how an emulator works, from the memory or by trying.
fn answer(emulation: &Emulation, machine: Machine, path: &Path, file: &File, recall: Recall) -> Option<Works> {
    let memory = emulation.options().probe_memory.as_deref();
    let known = memory.and_then(|memory| Some((memory, Question::of_emulator(machine, path, file)?)));
    if let Some((memory, question)) = &known
        && recall == Recall::Allowed
        && let Some(works) = question.recall(*memory)
    {
        return Some(works);
    }
    let found = try_out(emulation, machine, path, file);
    if let Some((memory, question)) = &known {
        question.keep(*memory, found);
    }
    found
}

/// Executes the machine's program as a container's would be, where this kernel has private tables, else by calling the emulator.
fn try_out(emulation: &Emulation, machine: Machine, path: &Path, file: &File) -> Option<Works> {
    if table::is_available()
        && let Ok(runs) = emulation.with_trial_table(|table| {
            for works in [Works::Fully, Works::WithoutNames] {
                let emulator = Emulator { path: path.to_owned(), keeps_names: works == Works::Fully };
                if table.executes_by(machine, &emulator)? {
                    return Ok(Some(works));
                }
            }
            Ok(None)
        })
    {
        return runs;
    }
    let name = path.file_name()?.to_str()?;
    probe::runs_under(file.as_fd(), name, machine).then_some(Works::Fully)
}

/// The platforms whose programs an emulator executes here, found out by executing one of each. Only those are tried that its name,
/// `qemu-MACHINE` with or without `-static`, stands for.
pub(crate) fn emulated_platforms(emulation: &Emulation, path: &Path) -> Vec<Platform> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let stem = name.strip_suffix("-static").unwrap_or(name);
    let Some(qemu) = stem.strip_prefix("qemu-") else { return Vec::new() };
    let Ok(file) = open_path(path).map(File::from) else { return Vec::new() };
    let mut platforms = machine::all();
    platforms.retain(|platform| {
        Machine::of(platform).is_some_and(|machine| {
            machine.qemu() == qemu && answer(emulation, machine, path, &file, Recall::Refused).is_some()
        })
    });
    platforms
}
