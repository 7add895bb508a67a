//! The network of build steps: a namespace of its own behind a user-mode network stack.
//!
//! A stage of this program is pid 1 of a new pid namespace and owns a new user and network namespace; pasta (else slirp4netns) connects it
//! with the host's network. Both end when the starter closes its socket or ends, whatever the reason.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};

use crate::error::{Error, Result};
use crate::init::{Failure, Report, is_closed, receive, send};
use crate::sys::{self, Child, CloneFlags, Forked, Launch};

/// The name (argument 0) that says: hold a network.
pub(crate) const NETWORK_NAME: &str = "onetag-network";

const CONTROL: i32 = 3;
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// The address under which pasta passes name queries on to the host's resolver.
const PASTA_RESOLVER: &str = "169.254.1.1";
/// The same of slirp4netns.
const SLIRP_RESOLVER: &str = "10.0.2.3";

/// A network namespace that processes join. It lives as long as a handle does.
#[derive(Clone, Debug)]
pub struct NetworkHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    namespace: OwnedFd,
    resolv_conf: Vec<u8>,
    stage: Child,
    control: Option<OwnedFd>,
}

impl NetworkHandle {
    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.inner.namespace.as_fd()
    }

    pub(crate) fn resolv_conf(&self) -> &[u8] {
        &self.inner.resolv_conf
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The stage hears the hang-up and ends, with everything in its pid namespace.
        self.control = None;
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.stage.pidfd.as_fd()), WaitIdOptions::EXITED));
    }
}

/// Starts networks of a build's own.
#[derive(Debug)]
pub struct Network;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Helper {
    Pasta,
    Slirp,
}

impl Network {
    /// Makes a network namespace that reaches what the host reaches, but not the host's own loopback services. Takes as long as pasta needs
    /// (80 ms and more): start it beside other work, once a build. `search_path` is where pasta and slirp4netns are looked for.
    ///
    /// # Errors
    /// [`Error::Denied`] where neither helper works; the host's network is then the way, and the message says why.
    pub fn start(search_path: &[PathBuf]) -> Result<NetworkHandle> {
        let mut causes = Vec::new();
        for (helper, name) in [(Helper::Pasta, "pasta"), (Helper::Slirp, "slirp4netns")] {
            let Some(program) = search_path.iter().map(|folder| folder.join(name)).find(|path| path.is_file()) else {
                causes.push(format!("{name} is not installed"));
                continue;
            };
            match start_with(helper, &program) {
                Ok(handle) => return Ok(handle),
                Err(error) => causes.push(format!("{name}: {}", describe(&error))),
            }
        }
        let tunnel = Path::new("/dev/net/tun");
        let usable = File::options().read(true).write(true).open(tunnel).is_ok();
        if !usable {
            causes.push(format!("{} cannot be opened", tunnel.display()));
        }
        let hint = if usable { "sudo apt-get install passt" } else { crate::host::tunnel_hint(tunnel) };
        Err(Error::Denied { what: "a network of the build's own", cause: causes.join("; "), hint: hint.to_owned() })
    }
}

fn describe(error: &Error) -> String {
    match error {
        Error::Setup { action, source } => format!("{action}: {source}"),
        other => other.to_string(),
    }
}

fn start_with(helper: Helper, program: &Path) -> Result<NetworkHandle> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    let failed = |action: &str, error: io::Error| Error::setup(action, error);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| failed("make a socket pair", errno.into()))?;
    let null: OwnedFd = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| failed("open /dev/null", error))?
        .into();
    let invalid = |_| Error::Invalid("a path holds NUL".to_owned());
    let kind = if helper == Helper::Pasta { c"pasta" } else { c"slirp4netns" };
    let arguments = [
        CString::from(c"onetag-network"),
        kind.into(),
        CString::new(program.as_os_str().as_encoded_bytes()).map_err(invalid)?,
    ];
    let child = sys::launch(&Launch {
        program: crate::process::protected_program(&PROGRAM)?,
        arguments: &arguments,
        environment: &[],
        descriptors: &[null.as_fd(), null.as_fd(), null.as_fd(), theirs.as_fd()],
        execute_descriptor: None,
        is_bare: false,
        join: &[],
        namespaces: CloneFlags::PID,
    })
    .map_err(|error| failed("start a process for a network", error))?;
    drop(theirs);
    let resolver = if helper == Helper::Pasta { PASTA_RESOLVER } else { SLIRP_RESOLVER };
    let number = child.pid.as_raw_nonzero();
    // From here on dropping this ends the stage.
    let namespace = null;
    let mut inner =
        Inner { namespace, resolv_conf: resolver_configuration(resolver), stage: child, control: Some(ours) };
    let control = inner.control.as_ref().map(AsFd::as_fd).ok_or_else(|| Error::Invalid(String::new()))?;
    hear(control)?;
    map_identity(number.get())?;
    let namespace =
        File::open(format!("/proc/{number}/ns/net")).map_err(|error| failed("open a network namespace", error))?;
    // The stage's number here: in its own pid namespace it is 1.
    send(control, &Report::Exited(number.get()));
    hear(control)?;
    inner.namespace = namespace.into();
    Ok(NetworkHandle { inner: Arc::new(inner) })
}

/// Waits for the stage's next word.
fn hear(control: BorrowedFd<'_>) -> Result<()> {
    let failed = |error: io::Error| Error::setup("connect a network", error);
    let mut entries = [PollFd::new(&control, PollFlags::IN)];
    let ready =
        rustix::io::retry_on_intr(|| poll(&mut entries, Some(&PATIENCE))).map_err(|errno| failed(errno.into()))?;
    if ready == 0 {
        return Err(failed(io::ErrorKind::TimedOut.into()));
    }
    match receive(control).map_err(failed)? {
        Some((Report::Failed(failure), _)) => Err(failed(failure.source())),
        Some(_) => Ok(()),
        None => Err(failed(io::ErrorKind::BrokenPipe.into())),
    }
}

/// Gives a new user namespace the same ids that this one has.
pub(crate) fn map_identity(process: i32) -> Result<()> {
    for name in ["uid_map", "gid_map"] {
        let own = fs::read_to_string(format!("/proc/self/{name}"))
            .map_err(|error| Error::setup(format!("read /proc/self/{name}"), error))?;
        let lines: Vec<String> = own
            .lines()
            .filter_map(|line| {
                let mut numbers = line.split_ascii_whitespace();
                let (inside, count) = (numbers.next()?, numbers.nth(1)?);
                Some(format!("{inside} {inside} {count}"))
            })
            .collect();
        fs::write(format!("/proc/{process}/{name}"), lines.join("\n"))
            .map_err(|error| Error::setup("map the ids of a new user namespace", error))?;
    }
    Ok(())
}

/// The host's resolver configuration with the helper's address as the only server: the host's own may be one that only the host reaches.
fn resolver_configuration(server: &str) -> Vec<u8> {
    let mut text = String::new();
    let mut bytes = Vec::new();
    if let Ok(file) = File::open("/etc/resolv.conf") {
        let _ = file.take(64 * 1024).read_to_end(&mut bytes);
    }
    for line in String::from_utf8_lossy(&bytes).lines() {
        if ["search", "domain", "options"].iter().any(|word| line.trim_start().starts_with(word)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str(&format!("nameserver {server}\n"));
    text.into_bytes()
}

/// The stage that holds a network. Never returns.
pub(crate) fn run_network_stage() -> ! {
    let Ok(control) = sys::inherited(CONTROL) else { sys::exit_now(125) };
    let _ = sys::close_from(4);
    let _ = rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::CLOEXEC);
    let _ = rustix::process::setsid();
    if let Err(failure) = hold(control.as_fd()) {
        send(control.as_fd(), &Report::Failed(failure));
        sys::exit_now(125);
    }
    // Everything in this pid namespace ends with its first process.
    while !is_closed(control.as_fd()) {
        let mut entries = [PollFd::new(&control, PollFlags::RDHUP)];
        let _ = poll(&mut entries, None);
    }
    sys::exit_now(0)
}

fn hold(control: BorrowedFd<'_>) -> std::result::Result<(), Failure> {
    let failed = |action: &'static str| move |error: io::Error| Failure::setup(action, &error);
    let mut arguments = std::env::args().skip(1);
    let (kind, program) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let (go, starter) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed("make a pipe")(errno.into()))?;
    let (ready, readiness) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed("make a pipe")(errno.into()))?;
    // The helper stays in the host's network; this process leaves it.
    let helper = match sys::fork().map_err(failed("fork"))? {
        Forked::Child => {
            drop(starter);
            execute_helper(&kind, &program, go, &readiness);
            sys::exit_now(126)
        }
        Forked::Parent(pid) => pid,
    };
    drop((go, readiness));
    sys::unshare(CloneFlags::USER.with(CloneFlags::NETWORK)).map_err(failed("make a network namespace"))?;
    send(control, &Report::Started);
    let number = match receive(control).map_err(failed("hear from the starter"))? {
        Some((Report::Exited(number), _)) => number,
        _ => sys::exit_now(0),
    };
    sys::loopback_up().map_err(failed("bring the loopback interface up"))?;
    rustix::io::write(&starter, number.to_string().as_bytes())
        .map_err(|errno| failed("start the network helper")(errno.into()))?;
    drop(starter);
    // pasta goes to the background when it is ready; slirp4netns writes a byte.
    let mut byte = [0];
    let written = rustix::io::retry_on_intr(|| rustix::io::read(&ready, &mut byte)).unwrap_or(0);
    if kind == "pasta" || written == 0 {
        let status = rustix::io::retry_on_intr(|| waitpid(Some(helper), WaitOptions::empty()))
            .map_err(|errno| failed("wait for the network helper")(errno.into()))?;
        if status.and_then(|(_, status)| status.exit_status()) != Some(0) {
            return Err(Failure::setup("connect the network", &io::Error::from_raw_os_error(libc::EIO)));
        }
    }
    send(control, &Report::Started);
    Ok(())
}

/// Becomes the helper, as soon as the namespaces' process number is told.
fn execute_helper(kind: &str, program: &str, go: OwnedFd, readiness: &OwnedFd) {
    let mut number = String::new();
    if File::from(go).read_to_string(&mut number).is_err() || number.is_empty() {
        return;
    }
    let mut arguments: Vec<&str> = vec![program];
    let ready = std::os::fd::AsRawFd::as_raw_fd(readiness).to_string();
    if kind == "pasta" {
        let resolvers = ["--dns-forward", PASTA_RESOLVER];
        arguments.extend([
            "--quiet",
            "--config-net",
            "--no-map-gw",
            "-t",
            "none",
            "-u",
            "none",
            "-T",
            "none",
            "-U",
            "none",
        ]);
        arguments.extend(resolvers);
        if rustix::process::geteuid().is_root() {
            arguments.extend(["--runas", "0"]);
        }
        arguments.push(&number);
    } else {
        let _ = rustix::io::fcntl_setfd(readiness, rustix::io::FdFlags::empty());
        arguments.extend([
            "--configure",
            "--mtu=65520",
            "--disable-host-loopback",
            "--ready-fd",
            &ready,
            &number,
            "tap0",
        ]);
    }
    let strings: Vec<CString> = arguments.iter().filter_map(|text| CString::new(*text).ok()).collect();
    // pasta takes an ignored SIGPIPE for a failure of its own.
    sys::reset_for_exec();
    if let Ok(program) = CString::new(program) {
        let _ = sys::execute(&program, &strings, &[]);
    }
}
