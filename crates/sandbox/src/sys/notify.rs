//! System calls that a filter hands over to another process.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;

use super::{check, check_long};

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification {
    identity: u64,
    /// The calling thread's number in this pid namespace.
    pub process: u32,
    /// The architecture of the call (`AUDIT_ARCH_*`).
    pub architecture: u32,
    /// The call's number.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// The receiving end of a filter.
pub(crate) struct Notifications(OwnedFd);

impl Notifications {
    pub(crate) fn new(listener: OwnedFd) -> Self {
        Self(listener)
    }

    /// The next call. Waits for one.
    pub(crate) fn receive(&self) -> io::Result<Notification> {
        // Kernels write as much as they know; ours may know more than this program.
        let mut space = [0u64; 64];
        const { assert!(size_of::<libc::seccomp_notif>() <= 512) };
        // SAFETY: the buffer is zeroed, as the kernel demands, aligned for u64 and larger than the structure of the request number used.
        unsafe {
            check(libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, space.as_mut_ptr()))?;
            let raw = ptr::read(space.as_ptr().cast::<libc::seccomp_notif>());
            Ok(Notification {
                identity: raw.id,
                process: raw.pid,
                architecture: raw.data.arch,
                number: raw.data.nr.cast_unsigned(),
                arguments: raw.data.args,
            })
        }
    }

    /// Whether the call still waits: what was read from its process's memory was then its own.
    pub(crate) fn is_waiting(&self, notification: &Notification) -> bool {
        let identity = notification.identity;
        // SAFETY: the request reads one number.
        let result = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, ptr::from_ref(&identity))
        };
        result == 0
    }

    /// Ends the call.
    pub(crate) fn answer(&self, notification: &Notification, result: Result<(), Errno>) -> io::Result<()> {
        let error = result.err().map_or(0, |errno| -errno.raw_os_error());
        let response = libc::seccomp_notif_resp { id: notification.identity, val: 0, error, flags: 0 };
        // SAFETY: the request reads one response.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, ptr::from_ref(&response)) })
            .map(drop)
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Installs a filter, as [`attach_seccomp`](super::attach_seccomp) does, some of whose calls are handed over to whoever has the result.
pub(crate) fn attach_seccomp_with_listener(program: &[[u8; 8]]) -> io::Result<OwnedFd> {
    let mut slot = MaybeUninit::uninit();
    super::kernel::with_filter(program, |filter| {
        // SAFETY: the kernel copies and verifies the filter, which `with_filter` describes truly.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                filter,
            )
        };
        slot.write(result);
        check_long(result).map(drop)
    })?;
    // SAFETY: written above when the call succeeded; the kernel has just made this descriptor, and nobody else knows it.
    unsafe {
        let number = i32::try_from(slot.assume_init()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}
