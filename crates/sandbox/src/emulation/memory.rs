//! What probes found out, kept from one command to the next by whoever opened the sandbox.
//!
//! A record stands under what was asked and says of what it is the answer: the emulator's file, this start of the kernel, who asked. Where
//! any of it is another, or the record is damaged, the probe is executed anew. Only what works is kept: what does not may have failed for
//! want of memory.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::machine::Machine;
use super::registration::Entry;
use super::table;
use crate::user_namespace::Asker;

/// Another number where the programs or the way they are executed are others.
const FORMAT: u32 = 1;

/// Keeps records for other commands of the same user. Losing one costs a probe.
pub trait ProbeMemory: std::fmt::Debug + Send + Sync {
    /// The record that was last kept under a key.
    fn recall(&self, key: &str) -> Option<Vec<u8>>;
    /// Keeps a record in place of the one that was there.
    fn keep(&self, key: &str, record: &[u8]);
}

/// What is kept about something that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Works {
    /// With programs' own names, or handed over by the host in its way.
    Fully,
    /// An emulator that does not understand being told a program's own name.
    WithoutNames,
}

impl Works {
    fn word(self) -> &'static str {
        match self {
            Self::Fully => "fully",
            Self::WithoutNames => "without names",
        }
    }
}

/// A question to a probe.
#[derive(Debug)]
pub(crate) struct Question {
    key: String,
    /// Of what an answer is one.
    circumstances: String,
}

impl Question {
    /// Whether this emulator executes the machine's programs.
    pub(crate) fn of_emulator(machine: Machine, path: &Path, file: &File) -> Option<Self> {
        let mut circumstances = circumstances()?;
        describe(&mut circumstances, &file.metadata().ok()?);
        Some(Self { key: format!("emulator {machine:?} {}", path.display()), circumstances })
    }

    /// Whether the host's handler executes them, where its table is mounted: only when that is in use and has one that may.
    pub(crate) fn of_host(machine: Machine, folder: &Path) -> Option<Self> {
        if fs::read_to_string(folder.join("status")).ok()?.trim() != "enabled" {
            return None;
        }
        let [entry]: [Entry; 1] = table::entries_for(machine, folder).try_into().ok()?;
        let mut circumstances = circumstances()?;
        let file = folder.join(&entry.name);
        circumstances.push_str(&fs::read_to_string(&file).ok()?);
        describe(&mut circumstances, &fs::metadata(&file).ok()?);
        describe(&mut circumstances, &fs::metadata(&entry.interpreter).ok()?);
        Some(Self { key: format!("host {machine:?}"), circumstances })
    }

    /// The answer that is kept, when it is one to this very question.
    pub(crate) fn recall(&self, memory: &dyn ProbeMemory) -> Option<Works> {
        let record = memory.recall(&self.key)?;
        [Works::Fully, Works::WithoutNames].into_iter().find(|works| record == self.record(*works))
    }

    /// Keeps an answer; none for what does not work.
    pub(crate) fn keep(&self, memory: &dyn ProbeMemory, answer: Option<Works>) {
        match answer {
            Some(works) => memory.keep(&self.key, &self.record(works)),
            None if self.recall(memory).is_some() => memory.keep(&self.key, b""),
            None => {}
        }
    }

    fn record(&self, works: Works) -> Vec<u8> {
        format!("{}{}\n", self.circumstances, works.word()).into_bytes()
    }
}

fn circumstances() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let Asker { user, namespace } = Asker::get();
    let ids = if crate::user_namespace::single_id().is_some() { "one id" } else { "ids" };
    let inside = crate::user_namespace::is_inside();
    Some(format!("format {FORMAT}\nboot {}\nuser {user} of {namespace}, inside {inside}, {ids}\n", boot.trim()))
}

fn describe(text: &mut String, file: &fs::Metadata) {
    let _ = writeln!(
        text,
        "file {}:{} mode {:o} of {}:{} size {} modified {}.{} changed {}.{}",
        file.dev(),
        file.ino(),
        file.mode(),
        file.uid(),
        file.gid(),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    );
}
