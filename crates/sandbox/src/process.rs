//! Starting processes and waiting for them.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use onetag_oci::Platform;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::control_group::ControlGroups;
use crate::emulation::{BinfmtRow, Emulation, EmulatorChoice, Execution, PlatformSupport, ProbeMemory, Registered};
use crate::error::{Error, Result};
use crate::init::{self, Failure, FailureKind, Report};
use crate::mounting::{clone_tree, make_mount_points, open_root};
use crate::plan::{self, Surroundings};
use crate::spec::{MountKind, NetworkMode, ProcessSpec, RootFs, Stdio};
use crate::sys::{self, Child, CloneFlags, Launch};
use crate::users::UserError;
use onetag_oci::elf;

/// What a [`Sandbox`] is opened with.
#[derive(Clone, Debug, Default)]
pub struct SandboxOptions {
    /// Folders that are searched for emulators before the search path: the configured one.
    pub interpreter_folders: Vec<PathBuf>,
    /// The folders of PATH.
    pub search_path: Vec<PathBuf>,
    /// Folders that are searched for emulators last: what was kept for hosts that have none.
    pub kept_folders: Vec<PathBuf>,
    /// Which emulators may be used.
    pub emulator: EmulatorChoice,
    /// What probes found out in earlier commands, where that is kept.
    pub probe_memory: Option<Arc<dyn ProbeMemory>>,
}

/// Starts processes. Cheap to open and to clone; everything is found out when it is first needed.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    emulation: Emulation,
    program: OnceLock<OwnedFd>,
    resolv_conf: OnceLock<Vec<u8>>,
    memory_kills: Arc<MemoryKills>,
}

impl Sandbox {
    /// Opens a sandbox. Does no I/O.
    #[must_use]
    pub fn new(options: SandboxOptions) -> Self {
        let emulation = Emulation::new(options);
        let inner = Inner {
            emulation,
            program: OnceLock::new(),
            resolv_conf: OnceLock::new(),
            memory_kills: Arc::new(MemoryKills::default()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Finds out how programs of these platforms run, and readies the emulators they need. A build calls it with all of its platforms, so
    /// that later starts find everything in place; `spawn` does it for a platform that was not prepared.
    ///
    /// # Errors
    /// [`Error::NoInterpreter`] for the first platform that cannot run here.
    pub fn prepare(&self, platforms: &[Platform]) -> Result<()> {
        self.inner.emulation.prepare(platforms)
    }

    /// How programs of a platform run on this host.
    #[must_use]
    pub fn support(&self, platform: &Platform) -> PlatformSupport {
        self.inner.emulation.support(platform)
    }

    /// How programs of every platform that is known run on this host; found out by executing one of each, now or in an earlier command.
    #[must_use]
    pub fn platforms(&self) -> Vec<PlatformSupport> {
        self.inner.emulation.platforms()
    }

    /// The same, executed now: what earlier commands found out does not count.
    #[must_use]
    pub fn platforms_tried(&self) -> Vec<PlatformSupport> {
        self.inner.emulation.platforms_tried()
    }

    /// The platforms whose programs an emulator executes here, found out by executing one of each. Only those are tried that its name,
    /// `qemu-MACHINE` with or without `-static`, stands for.
    #[must_use]
    pub fn emulated_platforms(&self, emulator: &Path) -> Vec<Platform> {
        self.inner.emulation.emulated_platforms(emulator)
    }

    /// Every platform, how it runs and by what, executed now: `onetag binfmt`.
    #[must_use]
    pub fn binfmt(&self) -> Vec<BinfmtRow> {
        self.inner.emulation.rows()
    }

    /// Registers the emulators that work for the whole host, for these platforms or (none given) for all that have one. `persistent` also
    /// writes them where systemd reads them at the next start.
    ///
    /// # Errors
    /// [`Error::Denied`] without root, or for `persistent` without systemd; [`Error::NoInterpreter`] for a platform asked for by name.
    pub fn binfmt_install(&self, platforms: &[Platform], persistent: bool) -> Result<Vec<Registered>> {
        self.inner.emulation.install(platforms, persistent)
    }

    /// Removes such registrations.
    ///
    /// # Errors
    /// [`Error::Denied`] without root.
    pub fn binfmt_uninstall(&self, platforms: &[Platform]) -> Result<Vec<Registered>> {
        self.inner.emulation.uninstall(platforms)
    }

    /// Starts a process; comes back when it executes.
    ///
    /// # Errors
    /// Everything that keeps it from executing; nothing is then left running or mounted.
    pub fn spawn(&self, spec: &ProcessSpec) -> Result<Process> {
        let execution = self.inner.emulation.execution(&spec.platform)?;
        let (groups, limit) = match ControlGroups::create(&spec.limits) {
            Ok(groups) => (groups, None),
            // An ordinary user's processes can be counted without a group.
            Err(_) if spec.limits.is_only_pids() && crate::user_namespace::is_inside() => {
                (ControlGroups::default(), spec.limits.pids)
            }
            Err(error) => return Err(error),
        };
        let surroundings = Surroundings {
            resolv_conf: match &spec.network {
                NetworkMode::Shared(network) => network.resolv_conf(),
                NetworkMode::Host | NetworkMode::None => self.inner.resolv_conf.get_or_init(host_resolv_conf),
            },
            control_groups: groups.folders().to_vec(),
            process_limit: limit,
            single_id: crate::user_namespace::single_id(),
            makes_devices: matches!(execution, Execution::Private(_)) && crate::user_namespace::is_initial(),
        };
        self.inner.memory_kills.begin();
        let (plan, content) = plan::plan(spec, surroundings)?;
        let plan_file = plan::write(&plan, &content)?;
        let failed = |action: &'static str| move |errno: Errno| Error::setup(action, errno);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(failed("make a socket pair"))?;
        // Mounted with the host's rights, its devices can be made with them too.
        let root = if plan.hand_devices_over { premounted(spec)? } else { None };
        let streams = Streams::open(spec).map_err(|error| Error::setup("open the standard streams", error))?;
        let mut namespaces = CloneFlags::MOUNT.with(CloneFlags::IPC).with(CloneFlags::UTS);
        if spec.init {
            namespaces = namespaces.with(CloneFlags::PID);
        }
        let mut join: Vec<BorrowedFd<'_>> = Vec::new();
        match &spec.network {
            NetworkMode::Host => {}
            NetworkMode::None => namespaces = namespaces.with(CloneFlags::NETWORK),
            NetworkMode::Shared(network) => join.push(network.namespace()),
        }
        if let Execution::Private(table) = &execution {
            join.push(table.user_namespace());
        }
        let mut arguments = vec![CString::from(c"onetag-init")];
        debug_assert_eq!(arguments[0].as_bytes(), init::INIT_NAME.as_bytes());
        let mut descriptors =
            vec![streams.inner(0), streams.inner(1), streams.inner(2), theirs.as_fd(), plan_file.as_fd()];
        if let Some(root) = &root {
            arguments.push(CString::from(c"with-root"));
            debug_assert_eq!(arguments[1].as_bytes(), init::WITH_ROOT.as_bytes());
            descriptors.push(root.as_fd());
        }
        let child = sys::launch(&Launch {
            program: self.program()?,
            arguments: &arguments,
            environment: &[],
            descriptors: &descriptors,
            execute_descriptor: None,
            is_bare: false,
            join: &join,
            namespaces,
        })
        .map_err(|error| Error::setup("start a process in new namespaces", error))?;
        drop(theirs);
        let [stdin, stdout, stderr] = streams.outer;
        let process = Process {
            child,
            control: ours,
            status: Mutex::new(None),
            _execution: execution,
            groups,
            memory_kills: Arc::clone(&self.inner.memory_kills),
            stdin,
            stdout,
            stderr,
            terminal: None,
        };
        process.await_start(spec, plan.single_id)
    }

    /// This program, from a read-only mount that no namespace shows: a container can reach it through proc and must not write it.
    pub(crate) fn program(&self) -> Result<BorrowedFd<'_>> {
        protected_program(&self.inner.program)
    }
}

/// How many processes the kernel has killed for want of memory on this whole host: for containers without a control group.
#[derive(Debug)]
struct MemoryKills(AtomicU64);

impl Default for MemoryKills {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl MemoryKills {
    fn count() -> Option<u64> {
        let text = std::fs::read_to_string("/proc/vmstat").ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }

    /// Remembers the count before the first process.
    fn begin(&self) {
        if self.0.load(Ordering::Relaxed) == u64::MAX {
            self.0.store(Self::count().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Whether it has grown since.
    fn has_grown(&self) -> bool {
        Self::count().is_some_and(|count| count > self.0.swap(count, Ordering::Relaxed))
    }
}

/// This program as a descriptor to execute.
pub(crate) fn protected_program(slot: &OnceLock<OwnedFd>) -> Result<BorrowedFd<'_>> {
    if let Some(program) = slot.get() {
        return Ok(program.as_fd());
    }
    let guarded = || -> io::Result<OwnedFd> {
        let tree = clone_tree(rustix::fs::CWD, "/proc/self/exe", false)?;
        sys::mount_attributes(tree.as_fd(), sys::MountAttributes::READ_ONLY, false)?;
        Ok(tree)
    };
    let program = match guarded() {
        Ok(program) => program,
        // Without the right to mount there is no container either, only probes.
        Err(_) => crate::mounting::open_path("/proc/self/exe".as_ref())
            .map_err(|error| Error::setup("open this program through /proc/self/exe", error))?,
    };
    Ok(slot.get_or_init(|| program).as_fd())
}

/// An overlay root as a detached tree, with the mount points that its layers may lack.
fn premounted(spec: &ProcessSpec) -> Result<Option<OwnedFd>> {
    let targets: Vec<(&str, Option<bool>)> = spec
        .mounts
        .iter()
        .map(|mount| {
            let is_folder = match &mount.kind {
                MountKind::Tmpfs { .. } => Some(true),
                MountKind::File { .. } | MountKind::Device { .. } => Some(false),
                MountKind::Bind { source: RootFs::Directory(path), subpath: None, .. } => Some(path.is_dir()),
                MountKind::Bind { subpath: None, .. } => Some(true),
                MountKind::Bind { .. } => None,
            };
            (mount.target.as_str(), is_folder)
        })
        .collect();
    match make_mount_points(&spec.rootfs, &targets)? {
        Some(extra) => open_root(&spec.rootfs, Some(&extra), false).map(Some),
        None => Ok(None),
    }
}

/// The host's resolver configuration, as far as it is sensible to pass on.
fn host_resolv_conf() -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = File::open("/etc/resolv.conf") {
        let _ = file.take(64 * 1024).read_to_end(&mut bytes);
    }
    bytes
}

/// The standard streams: what the process gets, and what stays here.
struct Streams {
    inner: [Option<Arc<OwnedFd>>; 3],
    outer: [Option<File>; 3],
}

impl Streams {
    fn open(spec: &ProcessSpec) -> io::Result<Self> {
        let mut streams = Self { inner: [None, None, None], outer: [None, None, None] };
        for (index, kind) in [&spec.stdin, &spec.stdout, &spec.stderr].into_iter().enumerate() {
            let kind = if spec.terminal.is_some() { &Stdio::Null } else { kind };
            streams.inner[index] = match kind {
                Stdio::Inherit => None,
                Stdio::Null => {
                    let null = File::options().read(true).write(true).open("/dev/null")?;
                    Some(Arc::new(null.into()))
                }
                Stdio::Descriptor(descriptor) => Some(Arc::clone(descriptor)),
                Stdio::Pipe => {
                    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
                    let (inner, outer) = if index == 0 { (reader, writer) } else { (writer, reader) };
                    streams.outer[index] = Some(outer.into());
                    Some(Arc::new(inner))
                }
            };
        }
        Ok(streams)
    }

    fn inner(&self, index: usize) -> BorrowedFd<'_> {
        match (&self.inner[index], index) {
            (Some(descriptor), _) => descriptor.as_fd(),
            (None, 0) => rustix::stdio::stdin(),
            (None, 1) => rustix::stdio::stdout(),
            (None, _) => rustix::stdio::stderr(),
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this status.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The kernel killed it for want of memory.
    OutOfMemory,
}

impl ExitStatus {
    /// Whether it exited with 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The exit status as a shell has it: 128 and the signal's number when a signal ended it.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::OutOfMemory => 137,
        }
    }
}

/// A running process, with everything it starts. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    control: OwnedFd,
    status: Mutex<Option<ExitStatus>>,
    /// Keeps the emulators registered as long as the process lives.
    _execution: Execution,
    groups: ControlGroups,
    memory_kills: Arc<MemoryKills>,
    /// The writing end of its standard input, when that is a pipe.
    pub stdin: Option<File>,
    /// The reading end of its standard output, when that is a pipe.
    pub stdout: Option<File>,
    /// The reading end of its standard error, when that is a pipe.
    pub stderr: Option<File>,
    /// The controlling end of its terminal, when it has one: for reading and writing.
    pub terminal: Option<File>,
}

impl Process {
    fn await_start(mut self, spec: &ProcessSpec, single_id: Option<String>) -> Result<Self> {
        loop {
            let message = init::receive(self.control.as_fd())
                .map_err(|error| Error::setup("hear from a container's init", error))?;
            match message {
                Some((Report::Terminal, descriptor)) => self.terminal = descriptor.map(File::from),
                Some((Report::Listener, Some(listener))) => crate::device_nodes::start(listener),
                Some((Report::Listener, None)) => {}
                Some((Report::Started, _)) => return Ok(self),
                Some((Report::Failed(failure), _)) => {
                    self.finish(ExitStatus::Code(125));
                    return Err(failure_error(failure, spec, single_id));
                }
                Some((Report::Exited(_) | Report::Signaled(_), _)) | None => {
                    let status = self.collect();
                    let cause = io::Error::other(format!("it ended with {status:?}"));
                    return Err(Error::setup("start a container's init", cause));
                }
            }
        }
    }

    /// Waits for the process to end. Everything it started has ended then too. Several threads may wait.
    ///
    /// # Errors
    /// Only when the kernel refuses to wait.
    pub fn wait(&self) -> Result<ExitStatus> {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = *status {
            return Ok(status);
        }
        let mut reported = None;
        loop {
            let message = init::receive(self.control.as_fd())
                .map_err(|error| Error::setup("hear from a container's init", error))?;
            match message {
                Some((Report::Exited(code), _)) => reported = Some(ExitStatus::Code(code)),
                Some((Report::Signaled(signal), _)) => reported = Some(ExitStatus::Signal(signal)),
                Some(_) => {}
                None => break,
            }
            if reported.is_some() {
                break;
            }
        }
        self.reap();
        let mut ended = reported.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
        // A shell passes the end of its child on as 137.
        if matches!(reported, Some(ExitStatus::Signal(libc::SIGKILL) | ExitStatus::Code(137)))
            && (self.groups.memory_kills() > 0 || self.memory_kills.has_grown())
        {
            ended = ExitStatus::OutOfMemory;
        }
        self.groups.remove();
        Ok(*status.insert(ended))
    }

    fn reap(&self) {
        // An error says that it is gone already.
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.child.pidfd.as_fd()), WaitIdOptions::EXITED));
    }

    fn finish(&self, with: ExitStatus) {
        self.reap();
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(with);
    }

    fn collect(&self) -> ExitStatus {
        self.finish(ExitStatus::Signal(libc::SIGKILL));
        ExitStatus::Signal(libc::SIGKILL)
    }

    /// Ends the process and everything it started. Any thread may call it, also while another waits; a process that has ended is left be.
    pub fn kill(&self) {
        // The init hears the hang-up and ends everything; the signal is for one that does not get to listen.
        let _ = shutdown(self.control.as_fd(), Shutdown::Write);
    }

    /// Sends a signal to the process (not to what it started).
    ///
    /// # Errors
    /// When there is no such signal or the process has ended.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(number).ok_or(io::ErrorKind::InvalidInput)?;
        if signal == Signal::KILL {
            self.kill();
            return Ok(());
        }
        Ok(pidfd_send_signal(self.child.pidfd.as_fd(), signal)?)
    }

    /// The process number of the container's init, in this pid namespace.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.child.pid.as_raw_nonzero().get()
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// When it has none.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let terminal = self.terminal.as_ref().ok_or(io::ErrorKind::NotFound)?;
        sys::set_window_size(terminal.as_fd(), rows, columns)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.status.get_mut().unwrap_or_else(PoisonError::into_inner).is_some();
        if !ended {
            self.kill();
            let _ = self.wait();
        }
    }
}

/// The error that a failure in the init stage means.
fn failure_error(failure: Failure, spec: &ProcessSpec, single_id: Option<String>) -> Error {
    let program = spec.args.first().cloned().unwrap_or_default();
    let source = failure.source();
    match failure.kind {
        FailureKind::Setup(action) => Error::Setup { action, source },
        FailureKind::Invalid(message) => Error::Invalid(message),
        FailureKind::ProcDenied => Error::Denied {
            what: "mounting /proc",
            cause: "a part of this process's own /proc is masked, as container runtimes do it".to_owned(),
            hint: crate::host::CONTAINER_HINT.to_owned(),
        },
        FailureKind::Ids(action) => Error::NeedsSubordinateIds {
            action,
            cause: single_id.unwrap_or_else(|| "the id is in none of this user namespace's ranges".to_owned()),
        },
        FailureKind::User(user) => Error::User(match user {
            init::UserFailure::User(name) => UserError::NoSuchUser(name),
            init::UserFailure::Group(name) => UserError::NoSuchGroup(name),
            init::UserFailure::Range(text) => UserError::OutOfRange(text),
        }),
        FailureKind::NotFound => Error::ExecutableNotFound { program },
        FailureKind::NoSuchFile => Error::NoSuchFile { program },
        FailureKind::NotExecutable => Error::NotExecutable { program },
        FailureKind::MissingLoader(loader) => Error::MissingLoader { program, loader },
        FailureKind::UnknownFormat => Error::UnknownFormat { program },
        FailureKind::Execute => Error::Execute { program, source },
        FailureKind::Foreign { machine, class } => Error::NoInterpreter {
            platform: Box::new(spec.platform.clone()),
            machine: elf::machine_name(machine, class),
            program,
            hint: crate::emulation::foreign_hint(&spec.platform, machine, class),
        },
    }
}
