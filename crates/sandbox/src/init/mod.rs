//! The init stage: this program, executed again by [`Sandbox::spawn`](crate::Sandbox::spawn) inside new namespaces.
//!
//! It has one thread. Descriptor 3 is the control socket to the process that started it, descriptor 4 the plan. It builds the root file
//! system, moves into it, starts the payload, and stays as pid 1: it reaps, passes signals on, and reports the end. When the control
//! socket closes, whatever the reason, it ends and everything in its pid namespace ends with it.

mod control;
mod devices;
mod execute;
mod filesystem;
mod identity;
mod paths;
mod stubs;
mod supervise;

pub(crate) use control::{Failure, FailureKind, Report, UserFailure, is_closed, receive, send, send_descriptor};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::control_group::Kept;
use crate::plan::{self, Plan};
use crate::sys;

/// The name (argument 0) that says: this is the init of a sandbox.
pub(crate) const INIT_NAME: &str = "onetag-init";

const CONTROL: i32 = 3;
const PLAN: i32 = 4;
/// The root file system as a detached tree, when the starter has made it.
const ROOT: i32 = 5;
/// Argument 1 when there is one.
pub(crate) const WITH_ROOT: &str = "with-root";

/// Runs the init stage. Never returns.
pub(crate) fn run() -> ! {
    let Ok(control) = sys::inherited(CONTROL) else { sys::exit_now(125) };
    if let Err(failure) = start(&control) {
        control::send(control.as_fd(), &Report::Failed(failure));
    }
    sys::exit_now(125)
}

fn start(control: &OwnedFd) -> Result<(), Failure> {
    let file = sys::inherited(PLAN).map_err(|error| Failure::setup("take over the plan", &error))?;
    let with_root = std::env::args_os().nth(1).is_some_and(|argument| argument == WITH_ROOT);
    let root = if with_root { Some(sys::inherited(ROOT)) } else { None };
    let root = root.transpose().map_err(|error| Failure::setup("take over the root file system", &error))?;
    sys::close_from(if with_root { 6 } else { 5 })
        .map_err(|error| Failure::setup("close inherited descriptors", &error))?;
    for descriptor in [Some(control), Some(&file), root.as_ref()].into_iter().flatten() {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)
            .map_err(|errno| Failure::setup("take over descriptors", &errno.into()))?;
    }
    sys::block_all().map_err(|error| Failure::setup("block signals", &error))?;
    // Nothing inside may read this process's memory or open what it has open.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if control::is_closed(control.as_fd()) {
        sys::exit_now(125);
    }
    let _ = rustix::process::setsid();
    let (plan, content) = plan::read(file).map_err(|error| Failure::setup("read the plan", &error))?;
    let groups = Kept::open(&plan.control_groups).map_err(|error| Failure::setup("open the control groups", &error))?;
    if !plan.control_groups.is_empty() {
        // Killed with its starter it could not remove them: the closed socket ends it instead, a moment later.
        let _ = rustix::process::set_parent_process_death_signal(None);
        if control::is_closed(control.as_fd()) {
            groups.remove();
            sys::exit_now(125);
        }
    }
    let result = if plan.init {
        supervise::as_pid_one(control, &plan, &content, &groups, root)
    } else {
        supervise::from_outside(control, &plan, &content, &groups, root)
    };
    groups.remove();
    result
}

/// What is left to do when the root file system is in place.
pub(crate) struct Prepared {
    /// The payload's side of its own terminal.
    terminal: Option<OwnedFd>,
    /// Mount points that were made and are to be removed.
    stubs: stubs::Stubs,
}

/// Builds the root file system and moves into it.
fn prepare(control: BorrowedFd<'_>, plan: &Plan, content: &[u8], root: Option<OwnedFd>) -> Result<Prepared, Failure> {
    rustix::process::umask(rustix::fs::Mode::empty());
    if plan.new_network {
        sys::loopback_up().map_err(|error| Failure::setup("bring the loopback interface up", &error))?;
    }
    if !plan.hostname.is_empty() {
        rustix::system::sethostname(plan.hostname.as_bytes())
            .map_err(|errno| Failure::setup(&format!("set the host name {:?}", plan.hostname), &errno.into()))?;
    }
    let built = filesystem::build(plan, content, root)?;
    if let Some(terminal) = &built.terminal_control {
        control::send_descriptor(control, &Report::Terminal, terminal.as_fd())
            .map_err(|error| Failure::setup("hand over the terminal", &error))?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(Prepared { terminal: built.terminal, stubs: built.stubs })
}
