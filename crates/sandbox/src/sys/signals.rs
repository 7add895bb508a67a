//! Signal masks and the descriptor that signals are read from.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set it is given.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Blocks all signals of this thread as long as it lives.
pub(super) struct Blocked(libc::sigset_t);

impl Blocked {
    pub(super) fn all() -> io::Result<Self> {
        let mut old = MaybeUninit::uninit();
        let all = full_set();
        // SAFETY: both sets are valid for the call; the old one is initialised by it.
        unsafe {
            let error = libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, old.as_mut_ptr());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            Ok(Self(old.assume_init()))
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the kernel.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// Blocks all signals for the rest of this thread's life (or until `reset_for_exec`).
pub(crate) fn block_all() -> io::Result<()> {
    std::mem::forget(Blocked::all()?);
    Ok(())
}

/// Gives every signal its default action and unblocks all of them, as a program expects when it starts.
pub(crate) fn reset_for_exec() {
    for signal in 1..=64 {
        // SAFETY: setting a default action has no precondition; numbers that cannot be set are refused by the kernel.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that the second call reads.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// A descriptor that all (blocked) signals are read from.
pub(crate) struct SignalDescriptor(OwnedFd);

impl SignalDescriptor {
    /// A descriptor for all signals. They MUST be blocked, or they take their usual way.
    pub(crate) fn new() -> io::Result<Self> {
        let all = full_set();
        // SAFETY: the set is valid; the result is checked and owned by nobody else.
        unsafe {
            let fd = super::check(libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// The number of the next pending signal.
    pub(crate) fn next(&self) -> Option<i32> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: the buffer holds exactly one record; it is read only when the kernel filled it whole.
        unsafe {
            let read = libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size_of::<libc::signalfd_siginfo>());
            if usize::try_from(read).ok()? < size_of::<libc::signalfd_siginfo>() {
                return None;
            }
            i32::try_from(info.assume_init().ssi_signo).ok()
        }
    }
}

impl AsFd for SignalDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
