//! Executing the smallest program of a machine type: the processor's way, a handler's, an emulator's.
//!
//! A probe sees no file but its own descriptors, as a container shows nothing of the host: an emulator that needs libraries, or a handler
//! that is looked for where it is used, does not pass.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::machine::Machine;
use super::program::{SUCCESS, program};
use crate::sys::{self, CloneFlags, Launch};

const PATIENCE_SECONDS: i64 = 5;

/// How a probe's program is executed.
enum Way<'a> {
    /// By the kernel, itself or through a handler of the table of these user namespaces, ours where there is none.
    Kernel(&'a [BorrowedFd<'a>]),
    /// By an emulator of this name that gets it as an argument.
    Emulator(BorrowedFd<'a>, &'a str),
}

/// Whether the kernel executes the machine's program, itself or through a handler.
pub(crate) fn runs_directly(machine: Machine) -> bool {
    succeeds(machine, &Way::Kernel(&[])).unwrap_or(false)
}

/// Whether the kernel executes the machine's program in a user namespace.
pub(crate) fn runs_in(namespace: BorrowedFd<'_>, machine: Machine) -> bool {
    succeeds(machine, &Way::Kernel(&[namespace])).unwrap_or(false)
}

/// Whether an emulator executes the machine's program when it is told to. How it is called by the kernel does not show.
pub(crate) fn runs_under(emulator: BorrowedFd<'_>, name: &str, machine: Machine) -> bool {
    succeeds(machine, &Way::Emulator(emulator, name)).unwrap_or(false)
}

fn in_memory(machine: Machine) -> io::Result<OwnedFd> {
    let mut file: File = memfd_create("onetag-probe", MemfdFlags::CLOEXEC)?.into();
    file.write_all(&program(machine))?;
    // A file open for writing cannot be executed.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    Ok(File::open(path)?.into())
}

fn succeeds(machine: Machine, way: &Way<'_>) -> io::Result<bool> {
    let program = in_memory(machine)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let descriptors = [null.as_fd(), null.as_fd(), null.as_fd(), program.as_fd()];
    let (executed, join, arguments) = match way {
        Way::Kernel(namespaces) => (program.as_fd(), *namespaces, vec![CString::from(c"probe")]),
        // Its name in the folder of descriptors, where the probe is.
        Way::Emulator(emulator, name) => (*emulator, &[][..], vec![CString::new(*name)?, CString::from(c"3")]),
    };
    let child = sys::launch(&Launch {
        program: executed,
        arguments: &arguments,
        environment: &[],
        descriptors: &descriptors,
        execute_descriptor: matches!(way, Way::Kernel(_)).then_some(3),
        is_bare: true,
        join,
        namespaces: CloneFlags::default(),
    })?;
    let mut entries = [PollFd::new(&child.pidfd, PollFlags::IN)];
    let timeout = Timespec { tv_sec: PATIENCE_SECONDS, tv_nsec: 0 };
    if !matches!(rustix::io::retry_on_intr(|| poll(&mut entries, Some(&timeout))), Ok(1)) {
        let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    }
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED))?;
    Ok(status.and_then(|status| status.exit_status()) == Some(SUCCESS))
}

/// What an emulator says its version is: the number in the first line.
pub(crate) fn version(emulator: &std::path::Path) -> Option<String> {
    let output = std::process::Command::new(emulator)
        .arg("--version")
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next()?;
    line.split_ascii_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_program_runs() {
        let own = super::super::machine::all()
            .iter()
            .filter_map(Machine::of)
            .find(|machine| machine.is_hosts_own())
            .expect("the host is one of the machines");
        assert!(runs_directly(own));
    }
}
