//! Starting a process in new namespaces without copying this process's memory.
//!
//! The child shares our memory and our thread stands still until it has executed the program (`CLONE_VM | CLONE_VFORK`), as
//! `posix_spawn` does: a large process starts children as fast as a small one, and nothing is allocated after the clone.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The namespaces that the new process gets of its own (`CLONE_NEW*` bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CloneFlags(pub c_int);

impl CloneFlags {
    pub(crate) const MOUNT: Self = Self(libc::CLONE_NEWNS);
    pub(crate) const PID: Self = Self(libc::CLONE_NEWPID);
    pub(crate) const IPC: Self = Self(libc::CLONE_NEWIPC);
    pub(crate) const UTS: Self = Self(libc::CLONE_NEWUTS);
    pub(crate) const NETWORK: Self = Self(libc::CLONE_NEWNET);
    pub(crate) const USER: Self = Self(libc::CLONE_NEWUSER);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What to start.
pub(crate) struct Launch<'a> {
    /// The program, an open descriptor; it is executed by descriptor.
    pub program: BorrowedFd<'a>,
    /// The arguments, the name first. The environment is empty unless given.
    pub arguments: &'a [CString],
    /// The environment.
    pub environment: &'a [CString],
    /// Descriptor `n` of the new process is a duplicate of the n-th of these; all others close on exec.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// Executes descriptor `n` of the new process instead of `program`, by a name that survives the exec: for programs that the kernel
    /// hands to an interpreter.
    pub execute_descriptor: Option<i32>,
    /// Whether the program sees no file but its own descriptors, where that may be had: root's right. It is where they are named by their
    /// numbers, also for being executed by one.
    pub is_bare: bool,
    /// Namespaces joined before the new ones are made, in this order.
    pub join: &'a [BorrowedFd<'a>],
    /// New namespaces.
    pub namespaces: CloneFlags,
}

/// A started process.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its number, as long as it is not waited for.
    pub pid: rustix::process::Pid,
    /// The descriptor it is waited for and signalled through.
    pub pidfd: OwnedFd,
}

/// What the child reads: all of it is prepared before the clone.
struct Shared {
    program: RawFd,
    /// The program's name from there, empty for itself.
    path: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    sources: *const RawFd,
    source_count: usize,
    is_bare: bool,
    joins: *const RawFd,
    join_count: usize,
    inner_flags: c_int,
    inner_stack: *mut c_void,
    /// Written by the child: the error that kept it from executing.
    error: c_int,
    /// Written by the intermediate child: pid and pidfd of the process proper.
    inner_pid: c_int,
    inner_pidfd: c_int,
}

const STACK_BYTES: usize = 64 * 1024;

/// Starts a process. The calling thread stands still until the program is executed or has failed to be.
///
/// # Errors
/// What `clone`, `setns` or `execveat` says.
pub(crate) fn launch(request: &Launch<'_>) -> io::Result<Child> {
    // Sources at or above the number of targets, so that no duplication overwrites one that is still needed.
    let lowest = i32::try_from(request.descriptors.len()).unwrap_or(i32::MAX).max(3);
    let mut moved = Vec::with_capacity(request.descriptors.len());
    for descriptor in request.descriptors {
        moved.push(super::at_least(*descriptor, lowest)?);
    }
    let program = super::at_least(request.program, lowest)?;
    let sources: Vec<RawFd> = moved.iter().map(AsRawFd::as_raw_fd).collect();
    let joins: Vec<RawFd> = request.join.iter().map(AsRawFd::as_raw_fd).collect();
    let arguments = pointers(request.arguments);
    let environment = pointers(request.environment);
    let mut stacks = vec![0u128; 2 * STACK_BYTES / 16];
    let base: *mut u8 = stacks.as_mut_ptr().cast();
    // SAFETY: both offsets lie inside (or one past the end of) the allocation of 2 × STACK_BYTES bytes; stacks grow downwards on every
    // architecture this crate supports, and u128 alignment gives the 16 bytes they ask for.
    let (outer_stack, inner_stack) = unsafe { (base.add(STACK_BYTES), base.add(2 * STACK_BYTES)) };
    let named = request.execute_descriptor.filter(|_| request.is_bare);
    let path = CString::new(named.map(|number| number.to_string()).unwrap_or_default())?;
    let mut shared = Shared {
        program: named.map_or(request.execute_descriptor.unwrap_or(program.as_raw_fd()), |_| libc::AT_FDCWD),
        path: path.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        sources: sources.as_ptr(),
        source_count: sources.len(),
        is_bare: request.is_bare,
        joins: joins.as_ptr(),
        join_count: joins.len(),
        inner_flags: request.namespaces.0,
        inner_stack: inner_stack.cast(),
        error: 0,
        inner_pid: -1,
        inner_pidfd: -1,
    };
    let blocked = super::signals::Blocked::all()?;
    let mut pidfd: c_int = -1;
    let direct = joins.is_empty();
    let base_flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let flags = if direct { base_flags | request.namespaces.0 } else { base_flags | libc::CLONE_FILES };
    let entry = if direct { execute_program } else { join_and_clone };
    // SAFETY: the child runs `entry` on its own stack and touches only `shared` and memory prepared above; CLONE_VFORK keeps this thread,
    // and with it everything those pointers refer to, in place until the child has executed or exited. All signals are blocked, so no
    // handler runs in the shared memory.
    let pid =
        unsafe { libc::clone(entry, outer_stack.cast(), flags, ptr::from_mut(&mut shared).cast(), &raw mut pidfd) };
    let clone_error = io::Error::last_os_error();
    drop(blocked);
    if pid < 0 {
        return Err(clone_error);
    }
    // SAFETY: the kernel has just put a new descriptor there, and nobody else knows it.
    let outer = Child { pid: raw_pid(pid)?, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } };
    // SAFETY: the child has executed or exited, so this is an ordinary read of our own variable; volatile, since the compiler cannot know
    // that the call above changed it.
    let (error, inner_pid, inner_pidfd) = unsafe {
        (
            ptr::read_volatile(&raw const shared.error),
            ptr::read_volatile(&raw const shared.inner_pid),
            ptr::read_volatile(&raw const shared.inner_pidfd),
        )
    };
    drop(stacks);
    let inner = if inner_pid > 0 {
        // SAFETY: the intermediate child shared our descriptor table (CLONE_FILES), so the descriptor the kernel made for it is ours.
        Some(Child { pid: raw_pid(inner_pid)?, pidfd: unsafe { OwnedFd::from_raw_fd(inner_pidfd) } })
    } else {
        None
    };
    if direct {
        if error == 0 {
            return Ok(outer);
        }
        reap(&outer);
        return Err(io::Error::from_raw_os_error(error));
    }
    reap(&outer);
    match (inner, error) {
        (Some(child), 0) => Ok(child),
        (inner, error) => {
            if let Some(child) = inner {
                reap(&child);
            }
            Err(io::Error::from_raw_os_error(error))
        }
    }
}

fn raw_pid(pid: c_int) -> io::Result<rustix::process::Pid> {
    rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

fn reap(child: &Child) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;
    // An error leaves nothing to do: the child is gone either way.
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED));
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Runs in a child that shares our memory: joins namespaces, then starts the process proper as our own child.
extern "C" fn join_and_clone(argument: *mut c_void) -> c_int {
    let shared: *mut Shared = argument.cast();
    // SAFETY: `shared` and everything it points to outlives this child (CLONE_VFORK in `launch`); only system calls are made.
    unsafe {
        for index in 0..(*shared).join_count {
            if libc::setns(*(*shared).joins.add(index), 0) != 0 {
                (*shared).error = *libc::__errno_location();
                libc::_exit(127);
            }
        }
        let mut pidfd: c_int = -1;
        let flags = libc::CLONE_VM
            | libc::CLONE_VFORK
            | libc::CLONE_PIDFD
            | libc::CLONE_PARENT
            | libc::SIGCHLD
            | (*shared).inner_flags;
        let pid = libc::clone(execute_program, (*shared).inner_stack, flags, argument, &raw mut pidfd);
        if pid < 0 {
            (*shared).error = *libc::__errno_location();
        } else {
            (*shared).inner_pid = pid;
            (*shared).inner_pidfd = ptr::read_volatile(&raw const pidfd);
        }
        libc::_exit(0)
    }
}

/// Runs in a child that shares our memory: puts the descriptors in place and executes the program.
extern "C" fn execute_program(argument: *mut c_void) -> c_int {
    let shared: *mut Shared = argument.cast();
    // SAFETY: as in `join_and_clone`; the descriptor table is the child's own here.
    unsafe {
        for index in 0..(*shared).source_count {
            let target = c_int::try_from(index).unwrap_or(c_int::MAX);
            if libc::dup2(*(*shared).sources.add(index), target) < 0 {
                (*shared).error = *libc::__errno_location();
                libc::_exit(127);
            }
        }
        if (*shared).is_bare {
            if libc::chdir(c"/proc/self/fd".as_ptr()) != 0 {
                (*shared).error = *libc::__errno_location();
                libc::_exit(127);
            }
            // Refused to those who may not mount either: they see the host's files then.
            libc::chroot(c".".as_ptr());
        }
        libc::syscall(
            libc::SYS_execveat,
            (*shared).program,
            (*shared).path,
            (*shared).arguments,
            (*shared).environment,
            libc::AT_EMPTY_PATH,
        );
        (*shared).error = *libc::__errno_location();
        libc::_exit(127)
    }
}
