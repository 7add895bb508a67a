//! Running a command.

/// A command with what it sees (`pb.ExecOp`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOp {
    /// The process.
    pub meta: ExecMeta,
    /// File systems; the one at `/` is the root. Those with an input come first, sorted by target.
    pub mounts: Vec<Mount>,
    /// Which network the process sees.
    pub network: NetworkMode,
    /// With which privileges it runs.
    pub security: SecurityMode,
    /// Secrets given as environment variables.
    pub secret_environment: Vec<SecretEnvironment>,
    /// Devices by CDI name.
    pub cdi_devices: Vec<CdiDevice>,
}

/// The process of an [`ExecOp`] (`pb.Meta`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecMeta {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=value`, in order.
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// User as an image config spells it; empty for root.
    pub user: String,
    /// Proxy variables, which do not count for the cache.
    pub proxy: Option<ProxyEnvironment>,
    /// Additional lines of `/etc/hosts`.
    pub extra_hosts: Vec<HostIp>,
    /// Host name; empty for the default.
    pub hostname: String,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// Parent cgroup; empty for the default.
    pub cgroup_parent: String,
    /// Folders made only as mount points are removed afterwards, their parents too.
    pub remove_mount_stubs_recursive: bool,
    /// Exit codes that are a success; empty means 0.
    pub valid_exit_codes: Vec<i32>,
}

/// A name and its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostIp {
    /// Host name.
    pub host: String,
    /// Address in text.
    pub ip: String,
}

/// A resource limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ulimit {
    /// Docker's name, such as `nofile`.
    pub name: String,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// Proxy variables (`pb.ProxyEnv`); empty ones are not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyEnvironment {
    /// `HTTP_PROXY`.
    pub http: String,
    /// `HTTPS_PROXY`.
    pub https: String,
    /// `FTP_PROXY`.
    pub ftp: String,
    /// `NO_PROXY`.
    pub no: String,
    /// `ALL_PROXY`.
    pub all: String,
}

/// A secret as an environment variable (`pb.SecretEnv`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretEnvironment {
    /// Identifier of the secret.
    pub id: String,
    /// Name of the variable.
    pub name: String,
    /// Its absence is no error.
    pub optional: bool,
}

/// A device by CDI name (`pb.CDIDevice`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CdiDevice {
    /// Fully qualified device name.
    pub name: String,
    /// Its absence is no error.
    pub optional: bool,
}

/// Which network a process sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The build's own network.
    #[default]
    Sandbox,
    /// The host's network.
    Host,
    /// Loopback only.
    None,
}

/// With which privileges a process runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityMode {
    /// Docker's default capabilities and filters.
    #[default]
    Sandbox,
    /// All capabilities, no filters.
    Insecure,
}

/// A file system that a process sees (`pb.Mount`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Position of the op's input that is mounted; `None` for an empty one.
    pub input: Option<usize>,
    /// Folder of the input that is mounted; empty for all of it.
    pub selector: String,
    /// Where it is mounted.
    pub target: String,
    /// Which output of the op its changed content is; `None` when it is thrown away.
    pub output: Option<usize>,
    /// The process cannot write to it.
    pub readonly: bool,
    /// What is mounted.
    pub kind: MountKind,
    /// A name for the result.
    pub result_id: String,
    /// Whether the content of the input, not its definition, counts for the cache.
    pub content_cache: ContentCache,
}

/// What a [`Mount`] mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// The input, or an empty folder.
    #[default]
    Bind,
    /// A secret's file.
    Secret(SecretMount),
    /// The socket of an SSH agent.
    Ssh(SshMount),
    /// A folder that outlives the build.
    Cache(CacheMount),
    /// Memory, with its limit in bytes (0: none).
    Tmpfs {
        /// Limit in bytes; 0 for none.
        size: i64,
    },
}

/// A cache folder (`pb.CacheOpt`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheMount {
    /// Identifies the folder.
    pub id: String,
    /// What happens when two steps want it at the same time.
    pub sharing: CacheSharing,
}

/// How steps share a cache folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// All write to the same folder.
    #[default]
    Shared,
    /// Each gets a folder that nobody else uses.
    Private,
    /// One waits for the other.
    Locked,
}

/// A secret as a file (`pb.SecretOpt`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretMount {
    /// Identifier of the secret.
    pub id: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Its absence is no error.
    pub optional: bool,
}

/// An SSH agent's socket (`pb.SSHOpt`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshMount {
    /// Identifier of the agent; empty for the default.
    pub id: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Its absence is no error.
    pub optional: bool,
}

/// Whether a mount's content counts for the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentCache {
    /// Where it is read-only.
    #[default]
    Default,
    /// Always.
    On,
    /// Never.
    Off,
}
