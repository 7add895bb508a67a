//! Device nodes for root's emulated processes.
//!
//! They run in a user namespace, where the kernel lets nobody make a device. Their system call filter hands `mknod` of devices over to this
//! process, which has the right, and does it in their root file system. What is made there works no more than a device that a native
//! process makes: all mounts of a confined process are without devices.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, mknodat, openat};
use rustix::io::Errno;

use crate::mounting::open_in_root;
use crate::seccomp::{self, DeviceCall};
use crate::sys::{Notification, Notifications};

const LONGEST_PATH: usize = 4096;
const MAKE_DEVICES: u32 = 27;
const OVERRIDE_PERMISSIONS: u32 = 1;

/// Serves a filter until its last process is gone.
pub(crate) fn serve(listener: OwnedFd) {
    let notifications = Notifications::new(listener);
    loop {
        let mut entries = [PollFd::from_borrowed_fd(notifications.as_fd(), PollFlags::IN)];
        match poll(&mut entries, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let events = entries[0].revents();
        if events.contains(PollFlags::IN) {
            // One that was interrupted meanwhile is gone.
            if let Ok(notification) = notifications.receive() {
                let result = make(&notifications, &notification);
                let _ = notifications.answer(&notification, result);
            }
        } else if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return;
        }
    }
}

/// Makes the device that a process asks for.
fn make(notifications: &Notifications, notification: &Notification) -> Result<(), Errno> {
    let call = seccomp::device_call(notification.architecture, notification.number).ok_or(Errno::NOSYS)?;
    let arguments = &notification.arguments;
    let (folder, rest) = match call {
        DeviceCall::Plain => (libc::AT_FDCWD, &arguments[..]),
        // The lower half is the descriptor.
        DeviceCall::At => (i32::from_ne_bytes(low(arguments[0])), &arguments[1..]),
    };
    let (address, mode, device) =
        (rest[0], u32::from_ne_bytes(low(rest[1])), u64::from(u32::from_ne_bytes(low(rest[2]))));
    let process = PathBuf::from(format!("/proc/{}", notification.process));
    let caller = Caller::read(&process)?;
    if !caller.may_make_devices() {
        return Err(Errno::PERM);
    }
    let path = read_path(&process, address)?;
    let root = open(&process.join("root"))?;
    let base = if path.is_absolute() {
        PathBuf::from("/")
    } else if folder == libc::AT_FDCWD {
        fs::read_link(process.join("cwd")).map_err(errno)?
    } else {
        fs::read_link(process.join("fd").join(folder.to_string())).map_err(errno)?
    };
    let path = base.join(path);
    // A path that ends in a slash or in dots names a folder, which is no device.
    let name = path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/")).ok_or(Errno::NOENT)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let parent = open_in_root(root.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY)?;
    // What was read belongs to the process only if it is still waiting.
    if !notifications.is_waiting(notification) {
        return Err(Errno::SRCH);
    }
    let kind = FileType::from_raw_mode(mode);
    if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        return Err(Errno::INVAL);
    }
    let permissions = Mode::from_raw_mode(mode & 0o7777 & !caller.umask);
    mknodat(parent.as_fd(), name, kind, Mode::empty(), device_number(device))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(parent.as_fd(), name, flags, Mode::empty())?;
    give(made.as_fd(), &caller, permissions)
}

fn give(made: BorrowedFd<'_>, caller: &Caller, permissions: Mode) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", made.as_raw_fd());
    if caller.user != 0 || caller.group != 0 {
        let (user, group) = (Uid::from_raw(caller.user), Gid::from_raw(caller.group));
        rustix::fs::chownat(made, "", Some(user), Some(group), rustix::fs::AtFlags::EMPTY_PATH)?;
    }
    rustix::fs::chmod(path.as_str(), permissions)
}

fn low(argument: u64) -> [u8; 4] {
    u32::try_from(argument & 0xffff_ffff).unwrap_or(0).to_ne_bytes()
}

/// The kernel's 32-bit device number as the C library's 64-bit one.
fn device_number(device: u64) -> u64 {
    let major = u32::try_from(device >> 8 & 0xfff).unwrap_or(0);
    let minor = u32::try_from(device & 0xff | device >> 12 & 0xf_ff00).unwrap_or(0);
    rustix::fs::makedev(major, minor)
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    crate::mounting::open_path(path).map_err(errno)
}

/// The string at an address of the process's.
fn read_path(process: &Path, address: u64) -> Result<PathBuf, Errno> {
    let memory = File::open(process.join("mem")).map_err(errno)?;
    let mut bytes = Vec::new();
    // In pieces that end where pages do: the next page may not be there.
    while bytes.len() < LONGEST_PATH {
        let at = address.checked_add(bytes.len() as u64).ok_or(Errno::FAULT)?;
        let length = usize::try_from(256 - at % 256).unwrap_or(256);
        let mut piece = vec![0; length];
        memory.read_exact_at(&mut piece, at).map_err(|_| Errno::FAULT)?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(&piece[..end]);
            if bytes.is_empty() {
                return Err(Errno::NOENT);
            }
            return Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&bytes)));
        }
        bytes.extend_from_slice(&piece);
    }
    Err(Errno::NAMETOOLONG)
}

/// Who asks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Caller {
    user: u32,
    group: u32,
    umask: u32,
    capabilities: u64,
}

impl Caller {
    fn read(process: &Path) -> Result<Self, Errno> {
        Self::parse(&fs::read_to_string(process.join("status")).map_err(errno)?).ok_or(Errno::PERM)
    }

    /// Reads the kernel's description: ids are those that count for files, the last of four.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let last = |name: &str| field(name)?.split_ascii_whitespace().nth(3)?.parse().ok();
        Some(Self {
            user: last("Uid")?,
            group: last("Gid")?,
            umask: u32::from_str_radix(field("Umask")?.trim(), 8).ok()?,
            capabilities: u64::from_str_radix(field("CapEff")?.trim(), 16).ok()?,
        })
    }

    /// The file is made with our rights, so the caller must have those that make them irrelevant.
    fn may_make_devices(&self) -> bool {
        [MAKE_DEVICES, OVERRIDE_PERMISSIONS].iter().all(|number| self.capabilities >> number & 1 == 1)
    }
}

/// Takes over the descriptor that came with a message.
pub(crate) fn start(listener: OwnedFd) {
    let served = std::thread::Builder::new().name("device nodes".to_owned()).spawn(move || serve(listener));
    // Without a thread the listener is closed, and the calls fail as if they did not exist.
    drop(served);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_callers() {
        assert_eq!(device_number(0x0103), rustix::fs::makedev(1, 3));
        assert_eq!(device_number(0x1234_5678), rustix::fs::makedev(0x456, 0x1_2378));
        let text = "Umask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nCapEff:\t0000000008000002\n";
        let caller = Caller::parse(text).unwrap();
        assert_eq!(caller, Caller { user: 4, group: 8, umask: 0o22, capabilities: 0x0800_0002 });
        assert!(caller.may_make_devices());
        assert!(!Caller { capabilities: 0x0800_0000, ..caller }.may_make_devices());
        assert_eq!(Caller::parse(""), None);
    }
}
