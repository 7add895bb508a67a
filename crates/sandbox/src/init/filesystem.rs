//! The root file system: the merged tree, the usual mounts, the specification's own, and the move into it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::control::{Failure, FailureKind};
use super::devices;
use super::paths::{MASKED_PROC, MASKED_SYS, READ_ONLY_PROC};
use super::stubs::Stubs;
use crate::mounting::{
    FsOption, attach, clone_tree, make, make_mount_points, open_in_root, open_plain, open_root, outside_place,
};
use crate::plan::{Content, Plan, PlannedKind, PlannedMount};
use crate::spec::RootFs;
use crate::sys::{self, MountAttributes};

/// What `build` leaves behind.
pub(super) struct Built {
    /// The payload's side of its terminal.
    pub terminal: Option<OwnedFd>,
    /// The controlling side, for the process that started us.
    pub terminal_control: Option<OwnedFd>,
    /// Mount points that were made.
    pub stubs: Stubs,
}

pub(super) fn failed(action: impl Into<String>) -> impl FnOnce(Errno) -> Failure {
    move |errno| Failure::setup(&action.into(), &errno.into())
}

/// Builds the tree and moves into it.
pub(super) fn build(plan: &Plan, content: &[u8], made: Option<OwnedFd>) -> Result<Built, Failure> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(failed("detach from the host's mounts"))?;
    let host =
        crate::mounting::open_path(Path::new("/")).map_err(|error| Failure::setup("open the host's root", &error))?;
    // Over the host's root: absolute paths start below it, so it hides nothing and still is attached, as copies of its mounts ask for.
    let mut builder = Builder { stubs: Stubs::default(), scratch: scratch(host.as_fd())?, files: 0 };
    let sources = plan.mounts.iter().map(|mount| builder.source(mount, content)).collect::<Result<Vec<_>, _>>()?;
    let place = outside_place(&plan.rootfs).map_err(|error| Failure::setup("open the root file system", &error))?;
    let tree = match made {
        Some(tree) => tree,
        None => {
            let targets = plan.mounts.iter().zip(&sources);
            let targets: Vec<_> =
                targets.map(|(mount, source)| (mount.target.as_str(), is_folder(source).ok())).collect();
            let extra = make_mount_points(&plan.rootfs, &targets)?;
            open_root(&plan.rootfs, extra.as_deref(), true)?
        }
    };
    if plan.confined {
        without_devices(&tree)?;
        let plain =
            plan.mounts.iter().zip(&sources).filter(|(mount, _)| !matches!(mount.kind, PlannedKind::Device { .. }));
        plain.map(|(_, source)| source).try_for_each(without_devices)?;
    }
    attach(tree.as_fd(), place.as_fd()).map_err(failed("attach the root file system"))?;
    let root = tree.as_fd();

    let proc = builder.standard(root, "proc", mount_proc)?;
    let sys = builder.standard(root, "sys", || mount_sys(plan))?;
    let terminal = devices::build(&mut builder, root, plan)?;
    for (mount, source) in plan.mounts.iter().zip(&sources) {
        builder.attach_at(root, source, &mount.target)?;
    }
    builder.generated(root, "/etc/hosts", slice(content, plan.hosts)?)?;
    builder.generated(root, "/etc/resolv.conf", slice(content, plan.resolv_conf)?)?;
    make_working_directory(root, plan);
    if plan.masked {
        builder.mask(proc.as_fd(), MASKED_PROC, "/proc")?;
        builder.mask(sys.as_fd(), MASKED_SYS, "/sys")?;
        for path in READ_ONLY_PROC {
            protect(proc.as_fd(), path)?;
        }
    }
    if plan.read_only_rootfs {
        sys::mount_attributes(root, MountAttributes::READ_ONLY, false)
            .map_err(|error| Failure::setup("make the root file system read-only", &error))?;
    }
    unmount("/", UnmountFlags::DETACH).map_err(failed("let go of the files in memory"))?;
    move_into(root)?;
    let (terminal, terminal_control) = terminal.map_or((None, None), |(inner, outer)| (Some(inner), Some(outer)));
    Ok(Built { terminal, terminal_control, stubs: builder.stubs })
}

/// A small file system in memory for generated files and masks.
fn scratch(place: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let tree = make("tmpfs", &[FsOption::Text("mode", "755")], attributes).map_err(failed("mount a tmpfs"))?;
    attach(tree.as_fd(), place).map_err(failed("attach a tmpfs"))?;
    mkdirat(tree.as_fd(), "empty", Mode::from_raw_mode(0o555)).map_err(failed("make an empty folder"))?;
    Ok(tree)
}

/// Whether a tree's root is a folder.
fn is_folder(tree: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(tree.as_fd())?.st_mode) == FileType::Directory)
}

/// Makes every device in a tree a dead one.
fn without_devices(tree: &OwnedFd) -> Result<(), Failure> {
    sys::mount_attributes(tree.as_fd(), MountAttributes::NO_DEVICES, true)
        .map_err(|error| Failure::setup("mount without devices", &error))
}

fn mount_proc() -> Result<OwnedFd, Failure> {
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    make("proc", &[], attributes).map_err(|errno| match errno {
        Errno::PERM | Errno::ACCESS => Failure { kind: FailureKind::ProcDenied, errno: errno.raw_os_error() },
        errno => failed("mount /proc")(errno),
    })
}

fn mount_sys(plan: &Plan) -> Result<OwnedFd, Failure> {
    let mut attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if plan.confined {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    match make("sysfs", &[], attributes) {
        Ok(tree) => Ok(tree),
        // The network namespace belongs to another user namespace: the host's tree, read-only.
        Err(_) => {
            let tree = clone_tree(rustix::fs::CWD, "/sys", true).map_err(failed("copy the mount of /sys"))?;
            let attributes =
                MountAttributes::NO_SETUID.with(MountAttributes::NO_DEVICES).with(MountAttributes::NO_EXECUTION);
            sys::mount_attributes(tree.as_fd(), attributes.with(MountAttributes::READ_ONLY), true)
                .map_err(|error| Failure::setup("make /sys read-only", &error))?;
            Ok(tree)
        }
    }
}

/// Builds mounts into the tree.
pub(super) struct Builder {
    stubs: Stubs,
    scratch: OwnedFd,
    files: usize,
}

impl Builder {
    /// Mounts one of the usual trees on a folder that MUST be a real one: a symbolic link there would lead what follows elsewhere.
    pub(super) fn standard(
        &mut self,
        root: BorrowedFd<'_>,
        name: &str,
        tree: impl FnOnce() -> Result<OwnedFd, Failure>,
    ) -> Result<OwnedFd, Failure> {
        let place = match open_plain(root, name, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => self.stubs.open_or_make(root, name, true),
            result => result,
        }
        .map_err(failed(format!("open /{name} of the root file system as a folder")))?;
        let tree = tree()?;
        attach(tree.as_fd(), place.as_fd()).map_err(failed(format!("attach /{name}")))?;
        Ok(tree)
    }

    /// A detached read-only mount of a new file with this content.
    fn file(&mut self, content: &[u8], mode: u32, owner: (u32, u32), read_only: bool) -> Result<OwnedFd, Failure> {
        let name = format!("file-{}", self.files);
        self.files += 1;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(self.scratch.as_fd(), name.as_str(), flags, Mode::from_raw_mode(0o600))
            .map_err(failed("make a file in memory"))?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(file.as_fd(), rest))
                .map_err(failed("write a file in memory"))?;
            rest = &rest[written..];
        }
        if owner != (0, 0) {
            fchown(file.as_fd(), Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1))).map_err(|_| {
                Failure::new(FailureKind::Ids(format!("giving a mounted file to {}:{}", owner.0, owner.1)))
            })?;
        }
        fchmod(file.as_fd(), Mode::from_raw_mode(mode)).map_err(failed("set the mode of a file in memory"))?;
        let tree =
            clone_tree(self.scratch.as_fd(), &name, false).map_err(failed("copy the mount of a file in memory"))?;
        let attributes =
            MountAttributes::NO_SETUID.with(MountAttributes::NO_DEVICES).with(MountAttributes::NO_EXECUTION);
        let attributes = if read_only { attributes.with(MountAttributes::READ_ONLY) } else { attributes };
        sys::mount_attributes(tree.as_fd(), attributes, false)
            .map_err(|error| Failure::setup("set the attributes of a mount", &error))?;
        Ok(tree)
    }

    /// Attaches a tree to a path of the specification's, which may lead through symbolic links inside the root.
    fn attach_at(&mut self, root: BorrowedFd<'_>, tree: &OwnedFd, target: &str) -> Result<(), Failure> {
        let folder = is_folder(tree).map_err(failed(format!("look at the source of the mount {target}")))?;
        let mut attempts = 0;
        loop {
            let place = self
                .stubs
                .open_or_make(root, target, folder)
                .map_err(failed(format!("make the mount point {target}")))?;
            match attach(tree.as_fd(), place.as_fd()) {
                // Another container on the same folder has just removed its mount point, which was ours too.
                Err(Errno::NOENT) if attempts < 100 => attempts += 1,
                result => return result.map_err(failed(format!("mount {target}"))),
            }
        }
    }

    fn generated(&mut self, root: BorrowedFd<'_>, target: &str, content: &[u8]) -> Result<(), Failure> {
        let tree = self.file(content, 0o644, (0, 0), true)?;
        self.attach_at(root, &tree, target)
    }

    /// What a mount of the specification's puts in place, still detached.
    fn source(&mut self, mount: &PlannedMount, content: &[u8]) -> Result<OwnedFd, Failure> {
        match &mount.kind {
            PlannedKind::File { content: range, mode, user, group, read_only } => {
                self.file(slice(content, *range)?, *mode, (*user, *group), *read_only)
            }
            PlannedKind::Device { source } => device(source),
            PlannedKind::Tmpfs { size_bytes, mode } => {
                let mode = format!("{mode:o}");
                let size = size_bytes.map(|bytes| bytes.to_string());
                let mut options = vec![FsOption::Text("mode", &mode)];
                options.extend(size.as_deref().map(|size| FsOption::Text("size", size)));
                let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
                make("tmpfs", &options, attributes).map_err(failed(format!("mount a tmpfs for {}", mount.target)))
            }
            PlannedKind::Bind { source, subpath, read_only, recursive } => {
                bind_source(source, subpath.as_deref(), *read_only, *recursive, self.scratch.as_fd())
            }
        }
    }

    /// Hides paths below one of our own mounts: no link of the image's can lead this elsewhere.
    fn mask(&mut self, mount: BorrowedFd<'_>, paths: &[&str], shown: &str) -> Result<(), Failure> {
        for path in paths {
            let place = match open_plain(mount, path, OFlags::PATH) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => continue,
                result => result.map_err(failed(format!("open {shown}/{path}")))?,
            };
            let stat = fstat(place.as_fd()).map_err(failed(format!("look at {shown}/{path}")))?;
            let tree = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let tree =
                    clone_tree(self.scratch.as_fd(), "empty", false).map_err(failed("copy an empty folder's mount"))?;
                sys::mount_attributes(tree.as_fd(), MountAttributes::READ_ONLY, false)
                    .map_err(|error| Failure::setup("make a mask read-only", &error))?;
                tree
            } else {
                clone_tree(rustix::fs::CWD, "/dev/null", false).map_err(failed("copy the mount of /dev/null"))?
            };
            attach(tree.as_fd(), place.as_fd()).map_err(failed(format!("mask {shown}/{path}")))?;
        }
        Ok(())
    }
}

fn slice(content: &[u8], range: Content) -> Result<&[u8], Failure> {
    content
        .get(range.offset..range.offset.saturating_add(range.length))
        .ok_or_else(|| Failure::new(FailureKind::Invalid("a plan's content is cut short".to_owned())))
}

/// A device node of the host's; nothing else is mounted with devices.
fn device(source: &Path) -> Result<OwnedFd, Failure> {
    let node = crate::mounting::open_path(source)
        .map_err(|error| Failure::setup(&format!("open the device {}", source.display()), &error))?;
    let stat = fstat(node.as_fd()).map_err(failed(format!("look at the device {}", source.display())))?;
    if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::CharacterDevice | FileType::BlockDevice) {
        return Err(Failure::new(FailureKind::Invalid(format!("{} is not a device node", source.display()))));
    }
    clone_tree(node.as_fd(), "", false).map_err(failed(format!("copy the mount of {}", source.display())))
}

/// A bind mount's source as a detached tree, its subpath resolved inside it.
fn bind_source(
    source: &RootFs,
    subpath: Option<&str>,
    read_only: bool,
    recursive: bool,
    scratch: BorrowedFd<'_>,
) -> Result<OwnedFd, Failure> {
    let tree = match (source, subpath) {
        (RootFs::Directory(path), Some(subpath)) => {
            let root = crate::mounting::open_path(path)
                .map_err(|error| Failure::setup(&format!("open {}", path.display()), &error))?;
            let inner = open_in_root(root.as_fd(), Path::new(subpath), OFlags::PATH)
                .map_err(failed(format!("open {subpath} in {}", path.display())))?;
            clone_tree(inner.as_fd(), "", recursive).map_err(failed(format!("copy the mount of {subpath}")))?
        }
        (source, None) => open_root(source, None, recursive)?,
        (source, Some(subpath)) => {
            // A part of a merged tree can only be copied from an attached one.
            let whole = open_root(source, None, false)?;
            let name = "merged";
            match mkdirat(scratch, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed("make a folder in memory")(errno)),
            }
            let place = openat(scratch, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(failed("open a folder in memory"))?;
            attach(whole.as_fd(), place.as_fd()).map_err(failed("attach a merged tree"))?;
            let inner = open_in_root(whole.as_fd(), Path::new(subpath), OFlags::PATH)
                .map_err(failed(format!("open {subpath} in a merged tree")))?;
            clone_tree(inner.as_fd(), "", false).map_err(failed(format!("copy the mount of {subpath}")))?
        }
    };
    if read_only {
        sys::mount_attributes(tree.as_fd(), MountAttributes::READ_ONLY, recursive)
            .map_err(|error| Failure::setup("make a mount read-only", &error))?;
    }
    Ok(tree)
}

/// Makes a path below one of our own mounts read-only by mounting it over itself.
fn protect(mount: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    let place = match open_plain(mount, path, OFlags::PATH) {
        Err(Errno::NOENT) => return Ok(()),
        result => result.map_err(failed(format!("open /proc/{path}")))?,
    };
    let tree = clone_tree(place.as_fd(), "", true).map_err(failed(format!("copy the mount of /proc/{path}")))?;
    sys::mount_attributes(tree.as_fd(), MountAttributes::READ_ONLY, true)
        .map_err(|error| Failure::setup(&format!("make /proc/{path} read-only"), &error))?;
    attach(tree.as_fd(), place.as_fd()).map_err(failed(format!("attach /proc/{path}")))
}

/// Makes a missing working directory; it is part of the result, as in BuildKit.
fn make_working_directory(root: BorrowedFd<'_>, plan: &Plan) {
    if plan.read_only_rootfs || plan.cwd.is_empty() {
        return;
    }
    // Not to be removed afterwards. A failure shows when the payload changes into it.
    let _ = Stubs::default().open_or_make(root, &plan.cwd, true);
}

/// Makes the tree this process's root and lets go of the host's.
fn move_into(root: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::process::fchdir(root).map_err(failed("enter the root file system"))?;
    rustix::process::pivot_root(".", ".").map_err(failed("make the root file system the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("let go of the host's file systems"))?;
    rustix::process::chdir("/").map_err(failed("enter the root file system"))
}
