//! A binfmt_misc of our own, and the host's.
//!
//! The table belongs to a user namespace that is made for it, with the same ids as ours: the processes that need emulation join it, and all
//! others keep what the host has registered. The mount is held by a descriptor; with the last one it is gone.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::MountAttrFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::interpreters::Emulator;
use super::machine::Machine;
use super::probe;
use super::registration::Entry;
use crate::error::{Error, Result};
use crate::init::{Failure, Report, receive, send, send_descriptor};
use crate::mounting::make;
use crate::sys::{self, CloneFlags, Launch};

/// The name (argument 0) that says: make a table.
pub(crate) const TABLE_NAME: &str = "onetag-emulation";

const CONTROL: i32 = 3;

/// The entry of an emulator that is tried.
const TRIAL: &str = "onetag-probe";

/// A binfmt_misc of our own.
#[derive(Debug)]
pub(crate) struct PrivateTable {
    mount: OwnedFd,
    /// The namespace that processes join.
    namespace: OwnedFd,
    registered: Mutex<BTreeSet<Machine>>,
}

impl PrivateTable {
    pub(crate) fn create(program: &OnceLock<OwnedFd>) -> Result<Self> {
        let (mount, namespace) = create_with_namespace(program)?;
        Ok(Self { mount, namespace, registered: Mutex::default() })
    }

    /// The namespace that a process must join to have this table.
    pub(crate) fn user_namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Registers an emulator, once a machine.
    pub(crate) fn register(&self, machine: Machine, emulator: &Emulator) -> Result<()> {
        let machine = machine.family();
        let mut registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        if registered.contains(&machine) {
            return Ok(());
        }
        self.write("register", &registration(machine, &format!("onetag-{}", machine.qemu()), emulator)?).map_err(
            |error| Error::setup(format!("register {} in a private binfmt_misc", emulator.path.display()), error),
        )?;
        registered.insert(machine);
        Ok(())
    }

    /// Whether the kernel executes a machine's program by this emulator. MUST not be called for a table that processes use.
    pub(crate) fn executes_by(&self, machine: Machine, emulator: &Emulator) -> io::Result<bool> {
        let Ok(line) = registration(machine, TRIAL, emulator) else { return Ok(false) };
        if self.write("register", &line).is_err() {
            return Ok(false);
        }
        let runs = probe::runs_in(self.namespace.as_fd(), machine);
        self.write(TRIAL, "-1")?;
        Ok(runs)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let file = openat(self.mount.as_fd(), name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&file, text.as_bytes())?;
        Ok(())
    }
}

/// Its file is opened now (F), it gets the program's credentials (C) and, where it understands that, the program's own name beside its
/// path (P).
pub(crate) fn flags(keeps_names: bool) -> &'static str {
    if keeps_names { "FPC" } else { "FC" }
}

/// The line that registers an emulator.
pub(crate) fn registration(machine: Machine, name: &str, emulator: &Emulator) -> Result<String> {
    let interpreter = crate::error::text(&emulator.path)?;
    let (magic, mask) = machine.magic();
    let escaped = |bytes: [u8; 20]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\x{byte:02x}");
            text
        })
    };
    // The first character is the separator; it must not be in the path.
    let separator = [':', ';', ',', '|', '\t']
        .into_iter()
        .find(|candidate| !interpreter.contains(*candidate))
        .ok_or_else(|| Error::Invalid(format!("the path {interpreter} cannot be registered")))?;
    let fields = ["", name, "M", "0", &escaped(magic), &escaped(mask), &interpreter, flags(emulator.keeps_names)];
    Ok(fields.join(&separator.to_string()))
}

/// Starts a process that makes an identity-mapped user namespace, mounts the table there and hands both over.
fn create_with_namespace(program: &OnceLock<OwnedFd>) -> Result<(OwnedFd, OwnedFd)> {
    let failed = |action: &str, error: io::Error| Error::setup(action, error);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| failed("make a socket pair", errno.into()))?;
    let null: OwnedFd = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| failed("open /dev/null", error))?
        .into();
    let child = sys::launch(&Launch {
        program: crate::process::protected_program(program)?,
        arguments: &[CString::from(c"onetag-emulation")],
        environment: &[],
        descriptors: &[null.as_fd(), null.as_fd(), null.as_fd(), theirs.as_fd()],
        execute_descriptor: None,
        is_bare: false,
        join: &[],
        namespaces: CloneFlags::default(),
    })
    .map_err(|error| failed("start a process that makes a user namespace", error))?;
    drop(theirs);
    let heard = |report: Option<(Report, Option<OwnedFd>)>| match report {
        Some((Report::Failed(failure), _)) => {
            Err(failed("mount a private binfmt_misc", io::Error::from_raw_os_error(failure.errno)))
        }
        Some((_, descriptor)) => Ok(descriptor),
        None => Err(failed("mount a private binfmt_misc", io::ErrorKind::BrokenPipe.into())),
    };
    let hear = || receive(ours.as_fd()).map_err(|error| failed("hear from the emulation stage", error)).and_then(heard);
    let result = (|| {
        // It has its namespace now; without maps it would lose its rights with the next exec.
        hear()?;
        let process = format!("/proc/{}", child.pid.as_raw_nonzero());
        crate::network::map_identity(child.pid.as_raw_nonzero().get())?;
        let namespace =
            fs::File::open(format!("{process}/ns/user")).map_err(|error| failed("open a user namespace", error))?;
        send(ours.as_fd(), &Report::Started);
        match hear()? {
            Some(mount) => Ok((mount, namespace.into())),
            None => Err(failed("mount a private binfmt_misc", io::ErrorKind::BrokenPipe.into())),
        }
    })();
    drop(ours);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED));
    result
}

/// The stage that makes a table inside the new user namespace. Never returns.
pub(crate) fn run_table_stage() -> ! {
    let Ok(control) = sys::inherited(CONTROL) else { sys::exit_now(125) };
    let _ = sys::close_from(4);
    // Unshared here rather than by clone: exec in a namespace without maps takes all rights away.
    if let Err(error) = sys::unshare(CloneFlags::USER.with(CloneFlags::MOUNT)) {
        send(control.as_fd(), &Report::Failed(Failure::setup("make a user namespace", &error)));
        sys::exit_now(125)
    }
    send(control.as_fd(), &Report::Started);
    // The answer comes when the maps are written; without one the starter is gone.
    if !matches!(receive(control.as_fd()), Ok(Some((Report::Started, _)))) {
        sys::exit_now(125);
    }
    match make("binfmt_misc", &[], MountAttrFlags::empty()) {
        Ok(mount) => {
            let _ = send_descriptor(control.as_fd(), &Report::Terminal, mount.as_fd());
        }
        Err(errno) => {
            send(control.as_fd(), &Report::Failed(Failure::setup("mount a private binfmt_misc", &errno.into())));
        }
    }
    sys::exit_now(0)
}

/// Whether this kernel has one binfmt_misc a user namespace (Linux 6.7).
pub(crate) fn is_available() -> bool {
    let version = crate::host::kernel_version();
    let listed = fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("binfmt_misc"));
    version >= (6, 7) && (listed || Path::new("/proc/sys/fs/binfmt_misc").exists())
}

pub(crate) const HOST_TABLE: &str = "/proc/sys/fs/binfmt_misc";

/// Whether anything is registered on the host.
pub(crate) fn host_has_handlers() -> bool {
    // Where the table is not mounted here, something may still be registered.
    match fs::read_dir(HOST_TABLE) {
        Ok(entries) => {
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.retain(|name| name != "register" && name != "status");
            !names.is_empty() || !Path::new(HOST_TABLE).join("register").exists()
        }
        Err(_) => true,
    }
}

/// The enabled entries of a mounted table for a machine's programs.
pub(crate) fn entries_for(machine: Machine, folder: &Path) -> Vec<Entry> {
    let program = super::program::program(machine);
    let mut entries = super::registration::entries(folder).unwrap_or_default();
    entries.retain(|entry| entry.enabled && entry.matches(&program));
    entries
}

/// The interpreter that the host's table names for a machine.
pub(crate) fn host_handler(machine: Machine) -> Option<PathBuf> {
    entries_for(machine, Path::new(HOST_TABLE)).into_iter().next().map(|entry| entry.interpreter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str, keeps_names: bool) -> String {
        registration(Machine::Arm64, "onetag-aarch64", &Emulator { path: path.into(), keeps_names }).unwrap()
    }

    #[test]
    fn a_registration_line_is_the_kernels() {
        let named = line("/usr/bin/qemu-aarch64-static", true);
        assert_eq!(
            named,
            ":onetag-aarch64:M:0:\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\
             \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:/usr/bin/qemu-aarch64-static:FPC"
        );
        assert_eq!(line("/usr/bin/qemu-aarch64-static", false), named.replace(":FPC", ":FC"));
        assert!(line("/a:b", true).starts_with(";onetag-aarch64;M;"));
    }
}
