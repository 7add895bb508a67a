//! The private `/dev`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::pty::OpenptFlags;

use super::control::Failure;
use super::filesystem::{Builder, failed};
use crate::mounting::{FsOption, attach, clone_tree, make};
use crate::plan::Plan;
use crate::sys;

/// The devices that every process has.
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Both sides of a terminal: the payload's, then the controlling one.
pub(super) type Terminal = (OwnedFd, OwnedFd);

/// Builds `/dev` and, when asked for, a terminal in it.
pub(super) fn build(builder: &mut Builder, root: BorrowedFd<'_>, plan: &Plan) -> Result<Option<Terminal>, Failure> {
    let device_tree = builder.standard(root, "dev", || {
        let options = [FsOption::Text("mode", "755"), FsOption::Text("size", "65536k")];
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
        if plan.confined {
            attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
        }
        make("tmpfs", &options, attributes).map_err(failed("mount a tmpfs for /dev"))
    })?;
    let dev = device_tree.as_fd();
    for name in NODES {
        node(dev, name)?;
    }
    if !plan.confined {
        host_devices(dev);
    }
    for (name, target) in LINKS {
        symlinkat(target, dev, name).map_err(failed(format!("make /dev/{name}")))?;
    }
    let pts = folder(dev, "pts")?;
    let terminals = mount_terminals()?;
    attach(terminals.as_fd(), pts.as_fd()).map_err(failed("attach /dev/pts"))?;
    let shm = folder(dev, "shm")?;
    let size = plan.shm_size_bytes.to_string();
    let guarded =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let memory = make("tmpfs", &[FsOption::Text("mode", "1777"), FsOption::Text("size", &size)], guarded)
        .map_err(failed("mount a tmpfs for /dev/shm"))?;
    attach(memory.as_fd(), shm.as_fd()).map_err(failed("attach /dev/shm"))?;
    // Kernels may be built without message queues.
    if let Ok(queues) = make("mqueue", &[], guarded) {
        let place = folder(dev, "mqueue")?;
        attach(queues.as_fd(), place.as_fd()).map_err(failed("attach /dev/mqueue"))?;
    }
    plan.terminal.map(|size| terminal(dev, terminals.as_fd(), size)).transpose()
}

fn folder(dev: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Failure> {
    mkdirat(dev, name, Mode::from_raw_mode(0o755)).map_err(failed(format!("make /dev/{name}")))?;
    openat(dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed(format!("open /dev/{name}")))
}

/// Mounts one of the host's devices. A device that a confined process makes itself does nothing: all of its other mounts are without devices.
fn node(dev: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(openat(dev, name, flags, Mode::from_raw_mode(0o666)).map_err(failed(format!("make /dev/{name}")))?);
    let place = openat(dev, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed(format!("open /dev/{name}")))?;
    let host = clone_tree(rustix::fs::CWD, &format!("/dev/{name}"), false)
        .map_err(failed(format!("copy the mount of the host's /dev/{name}")))?;
    attach(host.as_fd(), place.as_fd()).map_err(failed(format!("attach /dev/{name}")))
}

/// A privileged process sees the host's devices, as far as they can be made.
fn host_devices(dev: BorrowedFd<'_>) {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let Ok(entries) = std::fs::read_dir("/dev") else { return };
    for entry in entries.flatten() {
        let (Ok(metadata), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) else { continue };
        let kind = if metadata.file_type().is_char_device() {
            FileType::CharacterDevice
        } else if metadata.file_type().is_block_device() {
            FileType::BlockDevice
        } else {
            continue;
        };
        if ["ptmx", "console"].contains(&name.as_str()) || NODES.contains(&name.as_str()) {
            continue;
        }
        // What cannot be made is not there: a container of an ordinary user has no block devices.
        let _ = mknodat(dev, name.as_str(), kind, Mode::from_raw_mode(metadata.mode() & 0o777), metadata.rdev());
    }
}

fn mount_terminals() -> Result<OwnedFd, Failure> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [FsOption::Text("ptmxmode", "0666"), FsOption::Text("mode", "0620"), FsOption::Text("gid", "5")];
    match make("devpts", &options, attributes) {
        // The group of terminals is not mapped in a namespace with one id.
        Err(Errno::INVAL) => make("devpts", &options[..2], attributes),
        result => result,
    }
    .map_err(failed("mount /dev/pts"))
}

/// Opens a terminal of the container's own and makes it its console.
fn terminal(dev: BorrowedFd<'_>, terminals: BorrowedFd<'_>, size: (u16, u16)) -> Result<Terminal, Failure> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let outer = openat(terminals, "ptmx", flags, Mode::empty()).map_err(failed("open a terminal"))?;
    rustix::pty::unlockpt(outer.as_fd()).map_err(failed("unlock a terminal"))?;
    let inner_flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let inner = rustix::pty::ioctl_tiocgptpeer(outer.as_fd(), inner_flags).map_err(failed("open a terminal"))?;
    // A size of zero is what a terminal has before anybody sets it.
    let _ = sys::set_window_size(outer.as_fd(), size.0, size.1);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(openat(dev, "console", flags, Mode::from_raw_mode(0o620)).map_err(failed("make /dev/console"))?);
    let place = openat(dev, "console", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("open /dev/console"))?;
    // The first terminal of a new devpts is number 0.
    let console = clone_tree(terminals, "0", false).map_err(failed("copy the mount of a terminal"))?;
    attach(console.as_fd(), place.as_fd()).map_err(failed("attach /dev/console"))?;
    Ok((inner, outer))
}
