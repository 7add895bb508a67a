//! Single system calls: identity, namespaces, limits, filters, terminals, exec.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::{check, check_long};

/// Mount attributes (`MOUNT_ATTR_*`) to set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountAttributes(pub u64);

impl MountAttributes {
    pub(crate) const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    pub(crate) const NO_SETUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    pub(crate) const NO_DEVICES: Self = Self(libc::MOUNT_ATTR_NODEV);
    pub(crate) const NO_EXECUTION: Self = Self(libc::MOUNT_ATTR_NOEXEC);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Sets attributes of the mount that `mount` is the root of, and of all below it when `recursive`.
pub(crate) fn mount_attributes(mount: BorrowedFd<'_>, set: MountAttributes, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set.0, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty string and the structure is as large as we say.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    check_long(result).map(drop)
}

/// Leaves the given namespaces for new ones.
pub(crate) fn unshare(namespaces: super::CloneFlags) -> io::Result<()> {
    // SAFETY: only namespace bits are passed; descriptors and memory stay shared as they are.
    check(unsafe { libc::unshare(namespaces.0) }).map(drop)
}

/// Which side of a fork this is.
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The old one, with the number of the new.
    Parent(rustix::process::Pid),
}

/// Forks this process, which MUST have one thread only.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: callers are the single-threaded init and probe stages (and `enter_user_namespace`, which runs before any thread); so the
    // child may use the whole standard library.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        pid => rustix::process::Pid::from_raw(pid)
            .map(Forked::Parent)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// Ends this process without running exit handlers.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: no precondition.
    unsafe { libc::_exit(code) }
}

/// Sets the calling thread's supplementary groups.
pub(crate) fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and length describe one slice.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }).map(drop)
}

/// Removes a capability from the bounding set.
pub(crate) fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) }).map(drop)
}

/// Forbids gaining privileges by exec, for good.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0, 0, 0) }).map(drop)
}

/// Sets the thread's effective, permitted and inheritable capability sets.
pub(crate) fn set_all_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let half =
        |value: u64, upper: bool| u32::try_from(if upper { value >> 32 } else { value & 0xffff_ffff }).unwrap_or(0);
    let data = [false, true].map(|upper| Data {
        effective: half(effective, upper),
        permitted: half(permitted, upper),
        inheritable: half(inheritable, upper),
    });
    let header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: version 3 takes two data records, which is what is passed.
    check_long(unsafe { libc::syscall(libc::SYS_capset, ptr::from_ref(&header), data.as_ptr()) }).map(drop)
}

/// Calls with a filter in the kernel's form.
pub(super) fn with_filter(
    program: &[[u8; 8]],
    install: impl FnOnce(*const libc::sock_fprog) -> io::Result<()>,
) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let instructions: Vec<libc::sock_filter> = program
        .iter()
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let filter = libc::sock_fprog { len: length, filter: instructions.as_ptr().cast_mut() };
    install(ptr::from_ref(&filter))
}

/// Installs a seccomp filter for this thread and all it will execute.
pub(crate) fn attach_seccomp(program: &[[u8; 8]]) -> io::Result<()> {
    with_filter(program, |filter| {
        // SAFETY: the kernel copies and verifies the filter, which `with_filter` describes truly.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0 as libc::c_ulong, filter) };
        check_long(result).map(drop)
    })
}

/// Sets a resource limit by its number (`RLIMIT_*`).
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: prlimit64 reads one structure; pid 0 is this process.
    check_long(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, ptr::from_ref(&limit), ptr::null_mut::<libc::rlimit64>())
    })
    .map(drop)
}

/// Makes `terminal` the controlling terminal of this session leader.
pub(crate) fn make_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Sets a terminal's size.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, ptr::from_ref(&size)) }).map(drop)
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is a valid value of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *target = (*byte).cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, ptr::from_ref(&request)) }).map(drop)
}

/// Executes a program; comes back only with the error.
pub(crate) fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Result<Infallible> {
    let collect = |strings: &[CString]| -> Vec<_> { strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect() };
    let (arguments, environment) = (collect(arguments), collect(environment));
    // SAFETY: both arrays end with a null pointer and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Kills every other process of this pid namespace. This process MUST be its pid 1.
pub(crate) fn kill_all() -> io::Result<()> {
    if !rustix::process::getpid().is_init() {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // SAFETY: a plain system call; the check above keeps it inside a pid namespace that is ours alone.
    check(unsafe { libc::kill(-1, libc::SIGKILL) }).map(drop)
}
