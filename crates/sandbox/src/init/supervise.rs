//! Starting the payload and staying with it to the end.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait, waitpid};

use super::control::{self, Failure, Report};
use super::stubs::Stubs;
use super::{execute, prepare};
use crate::control_group::Kept;
use crate::plan::Plan;
use crate::sys::{self, CloneFlags, Forked, SignalDescriptor};

/// This process is pid 1 of the sandbox and stays it.
pub(super) fn as_pid_one(
    control: &OwnedFd,
    plan: &Plan,
    content: &[u8],
    groups: &Kept,
    root: Option<OwnedFd>,
) -> Result<(), Failure> {
    let prepared = prepare(control.as_fd(), plan, content, root)?;
    let (reader, writer) = pipe()?;
    let payload = match sys::fork().map_err(|error| Failure::setup("fork", &error))? {
        Forked::Child => {
            drop(reader);
            let failure = execute::payload(plan, &prepared, groups, control.as_fd());
            execute::tell(writer, &failure);
            sys::exit_now(125)
        }
        Forked::Parent(pid) => pid,
    };
    drop(writer);
    drop(prepared.terminal);
    let (result, stubs) = (await_start(reader), prepared.stubs);
    let outcome = result.and_then(|()| {
        // From here the control socket tells whether the starter lives, whichever of its threads started us; that thread may
        // end as soon as it hears of the start.
        let _ = rustix::process::set_parent_process_death_signal(None);
        control::send(control.as_fd(), &Report::Started);
        let signals = signals()?;
        forget_standard_streams();
        Ok(watch(control.as_fd(), &signals, payload, true))
    });
    end_all();
    if !stubs.is_empty() {
        stubs.remove();
    }
    let status = outcome?;
    report(control.as_fd(), status, groups);
    sys::exit_now(0)
}

/// The payload is to be pid 1 itself: this process starts it in a new pid namespace and watches from outside.
pub(super) fn from_outside(
    control: &OwnedFd,
    plan: &Plan,
    content: &[u8],
    groups: &Kept,
    root: Option<OwnedFd>,
) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| Failure::setup("make namespaces", error);
    sys::unshare(CloneFlags::PID).map_err(|error| failed(&error))?;
    let (reader, writer) = pipe()?;
    let (stubs_reader, stubs_writer) = pipe()?;
    // The payload lives in a pid namespace that does not end with this process, so nothing but this process may end it: from
    // before the fork on, the control socket tells whether the starter lives.
    let _ = rustix::process::set_parent_process_death_signal(None);
    if control::is_closed(control.as_fd()) {
        groups.remove();
        sys::exit_now(125);
    }
    let payload = match sys::fork().map_err(|error| Failure::setup("fork", &error))? {
        Forked::Child => {
            drop((reader, stubs_reader));
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            let failure = match prepare(control.as_fd(), plan, content, root) {
                Ok(prepared) => {
                    prepared.stubs.tell(stubs_writer);
                    execute::payload(plan, &prepared, groups, control.as_fd())
                }
                Err(failure) => failure,
            };
            execute::tell(writer, &failure);
            sys::exit_now(125)
        }
        Forked::Parent(pid) => pid,
    };
    drop((writer, stubs_writer));
    // The payload has moved every process of this mount namespace into its root, this one as well.
    let stubs = Stubs::hear(stubs_reader);
    let outcome = await_start(reader).and_then(|()| {
        control::send(control.as_fd(), &Report::Started);
        let signals = signals()?;
        forget_standard_streams();
        Ok(watch(control.as_fd(), &signals, payload, false))
    });
    if outcome.is_err() {
        let _ = waitpid(Some(payload), WaitOptions::empty());
    }
    stubs.remove();
    let status = outcome?;
    report(control.as_fd(), status, groups);
    sys::exit_now(0)
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Failure::setup("make a pipe", &errno.into()))
}

fn signals() -> Result<SignalDescriptor, Failure> {
    SignalDescriptor::new().map_err(|error| Failure::setup("watch signals", &error))
}

/// Waits until the payload executes (the pipe closes) or says why it cannot.
fn await_start(reader: OwnedFd) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    File::from(reader).read_to_end(&mut bytes).map_err(|error| Failure::setup("wait for the payload", &error))?;
    if bytes.is_empty() {
        return Ok(());
    }
    Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| Failure::setup("start the payload", &Errno::IO.into())))
}

/// The payload's streams must close when it closes them, so this process keeps none.
fn forget_standard_streams() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Reaps and passes signals on until the payload has ended. `None` when the starter hung up first; the payload is then killed.
fn watch(control: BorrowedFd<'_>, signals: &SignalDescriptor, payload: Pid, is_first: bool) -> Option<WaitStatus> {
    let mut hung_up = false;
    loop {
        // The payload may have ended before the signal descriptor existed, so reaping comes before waiting.
        if let Some(status) = reap(payload, is_first) {
            return if hung_up { None } else { Some(status) };
        }
        let mut entries =
            [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN), PollFd::new(&control, PollFlags::RDHUP)];
        let watched = if hung_up { &mut entries[..1] } else { &mut entries[..] };
        if poll(watched, None).is_err() {
            continue;
        }
        if !hung_up && !watched[1].revents().is_empty() {
            hung_up = true;
            let _ = kill_process(payload, Signal::KILL);
            if is_first {
                return None;
            }
        }
        while let Some(number) = signals.next() {
            if number == libc::SIGCHLD {
                continue;
            }
            if let Some(signal) = Signal::from_named_raw(number) {
                let _ = kill_process(payload, signal);
            }
        }
    }
}

/// Takes in every process that has ended; the payload's status when it is among them.
fn reap(payload: Pid, everything: bool) -> Option<WaitStatus> {
    loop {
        let result = if everything { wait(WaitOptions::NOHANG) } else { waitpid(Some(payload), WaitOptions::NOHANG) };
        match result {
            Ok(Some((pid, status))) if pid == payload => return Some(status),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Ends every process of this pid namespace and waits until they are gone.
fn end_all() {
    // Anywhere but in a pid namespace of our own, this would reach the host's processes.
    if !getpid().is_init() {
        return;
    }
    loop {
        // SIGKILL to -1 reaches every process but this one.
        let _ = sys::kill_all();
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Tells how the payload ended. Whoever hears it reads what the control groups counted and removes them; without a listener we do.
fn report(control: BorrowedFd<'_>, status: Option<WaitStatus>, groups: &Kept) {
    let Some(status) = status else { return groups.remove() };
    let report = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Report::Exited(code),
        (None, Some(signal)) => Report::Signaled(signal),
        (None, None) => return,
    };
    control::send(control, &report);
}
