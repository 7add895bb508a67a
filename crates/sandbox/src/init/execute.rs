//! The payload, from the fork to its exec.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::control::{Failure, FailureKind};
use super::{Prepared, identity};
use crate::control_group::Kept;
use crate::plan::Plan;
use crate::sys;
use onetag_oci::elf::{self, Header};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the payload. Comes back only with what kept it from that.
pub(super) fn payload(plan: &Plan, prepared: &Prepared, groups: &Kept, control: BorrowedFd<'_>) -> Failure {
    match become_payload(plan, prepared, groups, control) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn become_payload(
    plan: &Plan,
    prepared: &Prepared,
    groups: &Kept,
    control: BorrowedFd<'_>,
) -> Result<std::convert::Infallible, Failure> {
    let _ = rustix::process::setsid();
    let found = identity::find(plan)?;
    groups.enter().map_err(|error| Failure::setup("enter the control groups", &error))?;
    if let Some(terminal) = &prepared.terminal {
        take_terminal(terminal, &found)?;
    }
    identity::assume(plan, &found, control)?;
    if !plan.init {
        // Changing ids and capabilities has cleared it. Whatever ends the watching process ends the payload too.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
    let cwd = if plan.cwd.is_empty() { "/" } else { &plan.cwd };
    rustix::process::chdir(cwd)
        .map_err(|errno| Failure::setup(&format!("change to the working directory {cwd}"), &errno.into()))?;
    verify_inside()?;
    let mut environment = plan.env.clone();
    if !environment.iter().any(|entry| entry.starts_with("HOME=")) {
        environment.push(format!("HOME={}", found.home));
    }
    let program = look_up(&plan.args[0], &environment)?;
    let strings = |texts: &[String]| -> Vec<CString> {
        texts.iter().filter_map(|text| CString::new(text.as_str()).ok()).collect()
    };
    let (arguments, environment) = (strings(&plan.args), strings(&environment));
    let name = CString::new(program.as_os_str().as_encoded_bytes()).map_err(|_| Failure::new(FailureKind::NotFound))?;
    sys::reset_for_exec();
    match sys::execute(&name, &arguments, &environment) {
        Ok(never) => Ok(never),
        Err(error) => Err(explain(&program, &error)),
    }
}

/// A working directory of the image's must not be one of the host's that a leaked descriptor leads to: its path is then not below the root.
fn verify_inside() -> Result<(), Failure> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().first() == Some(&b'/') => Ok(()),
        _ => Err(Failure::new(FailureKind::Invalid("the working directory lies outside of the container".to_owned()))),
    }
}

fn take_terminal(terminal: &OwnedFd, identity: &crate::users::Identity) -> Result<(), Failure> {
    let failed = |action: &'static str| move |errno: Errno| Failure::setup(action, &errno.into());
    // As its owner the payload can open it again by name; its group stays the terminals'.
    let _ = rustix::fs::fchown(terminal, Some(rustix::fs::Uid::from_raw(identity.user)), None);
    sys::make_controlling_terminal(terminal.as_fd())
        .map_err(|error| Failure::setup("make the terminal the controlling one", &error))?;
    rustix::stdio::dup2_stdin(terminal).map_err(failed("use the terminal as standard input"))?;
    rustix::stdio::dup2_stdout(terminal).map_err(failed("use the terminal as standard output"))?;
    rustix::stdio::dup2_stderr(terminal).map_err(failed("use the terminal as standard error"))
}

/// Finds the program as a shell does: a name with a slash is a path, another is looked for in PATH.
fn look_up(program: &str, environment: &[String]) -> Result<PathBuf, Failure> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = false;
    for folder in path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let candidate = Path::new(folder).join(program);
        if !candidate.is_file() {
            continue;
        }
        if accessat(CWD, &candidate, Access::EXEC_OK, AtFlags::EACCESS).is_ok() {
            return Ok(candidate);
        }
        denied = true;
    }
    Err(Failure::new(if denied { FailureKind::NotExecutable } else { FailureKind::NotFound }))
}

/// Says why the kernel refused to execute a file.
fn explain(program: &Path, error: &io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(0);
    let kind = match errno {
        libc::EACCES | libc::EPERM => FailureKind::NotExecutable,
        libc::ENOENT | libc::ENOEXEC | libc::ELIBBAD | libc::EINVAL => explain_content(program, errno),
        _ => FailureKind::Execute,
    };
    Failure { kind, errno }
}

fn explain_content(program: &Path, errno: i32) -> FailureKind {
    // Enough for every ELF header, program header table and #! line in practice.
    let mut start = Vec::new();
    match File::open(program) {
        Ok(file) => drop(file.take(64 * 1024).read_to_end(&mut start)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return FailureKind::NoSuchFile,
        Err(_) => return FailureKind::Execute,
    }
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let interpreter = line.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        let interpreter = String::from_utf8_lossy(interpreter).trim_end_matches('\r').to_owned();
        if let Ok(mut file) = File::open(&interpreter) {
            let mut head = [0; 64];
            let length = file.read(&mut head).unwrap_or(0);
            if let Some(header) = Header::parse(&head[..length]) {
                return FailureKind::Foreign { machine: header.machine, class: header.class };
            }
        }
        return FailureKind::MissingLoader(interpreter);
    }
    match (Header::parse(&start), errno) {
        (Some(_), libc::ENOENT) => match elf::loader(&start) {
            Some(loader) => FailureKind::MissingLoader(loader),
            None => FailureKind::NoSuchFile,
        },
        (Some(header), _) => FailureKind::Foreign { machine: header.machine, class: header.class },
        (None, libc::ENOEXEC) => FailureKind::UnknownFormat,
        (None, _) => FailureKind::Execute,
    }
}

/// Tells the init, which waits at the other end.
pub(super) fn tell(pipe: OwnedFd, failure: &Failure) {
    if let Ok(bytes) = serde_json::to_vec(failure) {
        let _ = File::from(pipe).write_all(&bytes);
    }
}
