//! Descriptors that cross an exec.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A duplicate, closed on exec, whose number is at least `lowest`.
pub(crate) fn at_least(descriptor: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, lowest)?)
}

/// Takes over a descriptor that this program was started with, or says that it is not open.
///
/// Used once per number, by the re-executed program alone.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD reads a flag of whatever descriptor that number is, if any.
    super::check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: the descriptor is open, was passed to this program by its parent, and the caller takes each number once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: closing is a plain system call; the re-executed program calls this before it owns any descriptor at or above `first`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0 as libc::c_uint) };
    match super::check_long(result) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(65_536);
            let last = u32::try_from(limit.min(1 << 20)).unwrap_or(1 << 20);
            for number in first..last {
                // SAFETY: as above.
                unsafe { libc::close(RawFd::try_from(number).unwrap_or(RawFd::MAX)) };
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}
