//! What to run: the process, its root file system, its mounts and its limits.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use onetag_oci::Platform;
use serde::{Deserialize, Serialize};

use crate::network::NetworkHandle;

/// A root file system, or a tree that is mounted into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootFs {
    /// Layers under a writable one. `upper` and `work` MUST be empty folders of one file system that nobody else mounts.
    Overlay {
        /// The layers, topmost first, in overlay's whiteout form with `user.overlay.*` attributes.
        lowers: Vec<PathBuf>,
        /// Takes the changes.
        upper: PathBuf,
        /// A folder beside `upper` for overlay's own use; mount points that the layers lack are made here too, so that they never reach
        /// `upper`. It goes when the root file system is no longer used.
        work: PathBuf,
        /// Whether the upper is thrown away after a crash, which spares every `fsync` (steps yes, containers no).
        volatile: bool,
    },
    /// Layers that are only read.
    Layers {
        /// The layers, topmost first.
        lowers: Vec<PathBuf>,
    },
    /// A folder as it is (a file also, for a mount).
    Directory(PathBuf),
}

/// Something mounted into the root file system. Mounts are made in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where, an absolute path inside the root file system. Symbolic links in it are resolved inside the root; what is missing is made, and
    /// removed afterwards unless it was used.
    pub target: String,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A folder or file of the host, or a stack of layers.
    Bind {
        /// The tree.
        source: RootFs,
        /// A path inside the tree; symbolic links in it never lead out of the tree.
        subpath: Option<String>,
        /// Whether writing is refused.
        read_only: bool,
        /// Whether mounts below the source come along (`docker run -v` yes, build mounts no).
        recursive: bool,
    },
    /// A device node of the host's, which works inside as it does outside (`--device`).
    Device {
        /// The node.
        source: PathBuf,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Its size in bytes; the kernel's default else.
        size_bytes: Option<u64>,
        /// The mode of its root, such as `0o1777`.
        mode: u32,
    },
    /// One file with the given content, in memory only (secrets, generated configuration).
    File {
        /// The content.
        content: Vec<u8>,
        /// The mode, such as `0o400`.
        mode: u32,
        /// The owner inside the container.
        user: u32,
        /// The group inside the container.
        group: u32,
        /// Whether the mount is read-only.
        read_only: bool,
    },
}

/// The network of a process.
#[derive(Clone, Debug, Default)]
pub enum NetworkMode {
    /// The host's.
    #[default]
    Host,
    /// None but the loopback interface.
    None,
    /// One made by [`Network::start`](crate::Network::start), shared by all that name it.
    Shared(NetworkHandle),
}

/// How far a process is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Docker's default capabilities and system call filter; sensitive paths masked.
    #[default]
    Default,
    /// All that the caller may do itself: `--privileged`, `--security insecure`.
    Insecure,
}

/// One of the process's standard streams.
#[derive(Clone, Debug, Default)]
pub enum Stdio {
    /// The caller's.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// A pipe whose other end is in [`Process`](crate::Process).
    Pipe,
    /// This descriptor.
    Descriptor(Arc<OwnedFd>),
}

/// A resource limit, as `--ulimit` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    /// Its name without `RLIMIT_`, lower case: `nofile`, `nproc`, …
    pub name: String,
    /// The soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// The hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// Limits that need a control group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together in bytes.
    pub memory_swap_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processor time, in thousandths of one processor.
    pub cpu_thousandths: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn is_only_pids(&self) -> bool {
        self.pids.is_some() && Self { pids: None, ..self.clone() }.is_empty()
    }
}

/// Changes to the default capabilities (`--cap-add`, `--cap-drop`); names with or without `CAP_`, `ALL` means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapabilityChanges {
    /// Added, after the removals of `ALL`.
    pub add: Vec<String>,
    /// Removed.
    pub drop: Vec<String>,
}

/// A process to start. [`ProcessSpec::new`] gives what a build step has; fields are then set as needed.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Its root file system.
    pub rootfs: RootFs,
    /// Whether the root file system is mounted read-only.
    pub read_only_rootfs: bool,
    /// The program and its arguments; the program is looked for in the PATH of `env` when it has no slash.
    pub args: Vec<String>,
    /// The environment, `NAME=value` each; HOME is added from the user's entry when it is not there.
    pub env: Vec<String>,
    /// The working directory inside; made when it is missing.
    pub cwd: String,
    /// `user`, `uid`, `user:group`, `uid:gid`, as in an image configuration; empty is root.
    pub user: String,
    /// Supplementary groups, names or numbers, beside those of the user's entry.
    pub additional_groups: Vec<String>,
    /// The host name inside.
    pub hostname: String,
    /// Mounts beside the usual ones.
    pub mounts: Vec<Mount>,
    /// The network.
    pub network: NetworkMode,
    /// Confinement.
    pub security: Security,
    /// Whether the filter of system calls is left out, whatever else confines the process (`seccomp=unconfined`).
    pub unfiltered: bool,
    /// Whether no path of `/proc` and `/sys` is hidden or read-only for its own sake (`systempaths=unconfined`).
    pub unmasked: bool,
    /// Changes to the default capabilities.
    pub capabilities: CapabilityChanges,
    /// Whether exec may never gain privileges (`no_new_privs`); BuildKit and Docker leave it off.
    pub no_new_privileges: bool,
    /// Resource limits.
    pub resource_limits: Vec<ResourceLimit>,
    /// Control group limits.
    pub limits: Limits,
    /// The size of `/dev/shm`.
    pub shm_size_bytes: u64,
    /// Lines for `/etc/hosts`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// The content of `/etc/resolv.conf`; the host's, filtered for the network, when `None`.
    pub resolv_conf: Option<Vec<u8>>,
    /// The platform of the program.
    pub platform: Platform,
    /// Standard input. Ignored with a terminal.
    pub stdin: Stdio,
    /// Standard output. Ignored with a terminal.
    pub stdout: Stdio,
    /// Standard error. Ignored with a terminal.
    pub stderr: Stdio,
    /// A terminal of the container's own with this many rows and columns, whose other end is in [`Process`](crate::Process).
    pub terminal: Option<(u16, u16)>,
    /// Whether the process runs under an init of ours as pid 1 (steps, `run --init`) or is pid 1 itself.
    pub init: bool,
}

impl ProcessSpec {
    /// A build step's process: root, `/`, host network, default confinement, null input, piped output.
    #[must_use]
    pub fn new(rootfs: RootFs, args: Vec<String>) -> Self {
        Self {
            rootfs,
            read_only_rootfs: false,
            args,
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            additional_groups: Vec::new(),
            hostname: "buildkitsandbox".to_owned(),
            mounts: Vec::new(),
            network: NetworkMode::Host,
            security: Security::Default,
            unfiltered: false,
            unmasked: false,
            capabilities: CapabilityChanges::default(),
            no_new_privileges: false,
            resource_limits: Vec::new(),
            limits: Limits::default(),
            shm_size_bytes: 64 << 20,
            extra_hosts: Vec::new(),
            resolv_conf: None,
            platform: Platform::host(),
            stdin: Stdio::Null,
            stdout: Stdio::Pipe,
            stderr: Stdio::Pipe,
            terminal: None,
            init: true,
        }
    }
}
