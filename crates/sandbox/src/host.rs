//! What this host allows, found by trying, and how to mend what it does not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use onetag_oci::Platform;

use crate::emulation::{How, PlatformSupport};
use crate::error::{Error, Result, SUBORDINATE_IDS_HINT};
use crate::process::{ExitStatus, Sandbox};
use crate::spec::{ProcessSpec, RootFs, Stdio};
use crate::user_namespace::Entered;

/// How a finding bears on work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is missing.
    Fine,
    /// Something is missing that only some work needs.
    Limited,
    /// Nothing can be executed.
    Broken,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, such as `user namespace`.
    pub subject: String,
    /// How it bears on work.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to type to mend it.
    pub hint: Option<String>,
}

impl Finding {
    fn fine(subject: &str, detail: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), verdict: Verdict::Fine, detail: detail.into(), hint: None }
    }

    fn limited(subject: &str, detail: impl Into<String>, hint: Option<String>) -> Self {
        Self { subject: subject.to_owned(), verdict: Verdict::Limited, detail: detail.into(), hint }
    }

    fn broken(subject: &str, detail: impl Into<String>, hint: Option<String>) -> Self {
        Self { subject: subject.to_owned(), verdict: Verdict::Broken, detail: detail.into(), hint }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// The findings, in the order in which they build on one another.
    pub findings: Vec<Finding>,
    /// How each platform's programs run.
    pub platforms: Vec<PlatformSupport>,
}

impl HostReport {
    /// The worst verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Fine)
    }

    /// Whether programs of the host's own platform can be executed.
    #[must_use]
    pub fn can_execute(&self) -> bool {
        self.verdict() < Verdict::Broken
    }
}

/// Tries what the sandbox does, step by step and as a whole. `entered` is what
/// [`enter_user_namespace`](crate::enter_user_namespace) said; `store` a folder of the store's, where a small folder is made and removed.
#[must_use]
pub fn examine(sandbox: &Sandbox, entered: &Result<Entered>, store: &Path, search_path: &[PathBuf]) -> HostReport {
    let mut findings = vec![kernel()];
    let mut platforms = Vec::new();
    let mut tried = vec![user_namespace(entered)];
    tried.extend(identities(entered));
    if entered.is_ok() {
        tried.push(whole_sequence(sandbox, store));
        platforms = sandbox.platforms_tried();
        tried.extend(emulators(&platforms));
    }
    let works = tried.iter().all(|finding| finding.verdict < Verdict::Broken);
    findings.extend(container(works));
    findings.extend(tried);
    findings.push(control_groups());
    findings.push(network(search_path));
    findings.push(disk(store));
    HostReport { findings, platforms }
}

/// Major and minor number of the running kernel.
pub(crate) fn kernel_version() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match kernel_version() {
        version if version >= (6, 7) => Finding::fine("kernel", format!("Linux {release}")),
        version if version >= (5, 12) => {
            let detail = format!(
                "Linux {release}: foreign platforms need emulators registered for the whole host (6.7 needs none)"
            );
            Finding::limited("kernel", detail, Some("sudo onetag binfmt install".to_owned()))
        }
        _ => Finding::broken("kernel", format!("Linux {release}: 5.12 or later is needed"), None),
    }
}

/// Whose container this runs in, if it is one.
fn container_kind() -> Option<&'static str> {
    let marks =
        [("/.dockerenv", "Docker"), ("/run/.containerenv", "podman"), ("/var/run/secrets/kubernetes.io", "Kubernetes")];
    marks.into_iter().find(|(path, _)| Path::new(path).exists()).map(|(_, kind)| kind)
}

/// What gives the device that networks are connected through.
pub(crate) fn tunnel_hint(device: &Path) -> &'static str {
    match (device.exists(), container_kind()) {
        (true, _) => "sudo chmod 666 /dev/net/tun",
        (false, None) => "sudo modprobe tun",
        (false, Some("Kubernetes")) => "give the pod /dev/net/tun by a device plugin",
        (false, Some(_)) => "docker run --device /dev/net/tun",
    }
}

/// Whether this runs inside a container, and what that needs.
fn container(works: bool) -> Option<Finding> {
    let kind = container_kind()?;
    if works {
        return Some(Finding::fine("container", format!("inside a container of {kind}")));
    }
    let hint = match kind {
        "Kubernetes" => {
            "securityContext: {procMount: Unmasked, seccompProfile: {type: Unconfined}, appArmorProfile: {type: Unconfined}}, hostUsers: false"
        }
        _ => CONTAINER_HINT,
    };
    Some(Finding::limited(
        "container",
        format!("inside a container of {kind}, which may deny mounts"),
        Some(hint.to_owned()),
    ))
}

/// What a container needs so that sandboxes work in it.
pub(crate) const CONTAINER_HINT: &str = "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined";

fn user_namespace(entered: &Result<Entered>) -> Finding {
    match entered {
        Ok(Entered::Root) => Finding::fine("user namespace", "not needed: this process may mount"),
        Ok(_) => Finding::fine("user namespace", "made and entered"),
        Err(error) => Finding::broken("user namespace", error.to_string(), error.hint()),
    }
}

fn identities(entered: &Result<Entered>) -> Option<Finding> {
    Some(match entered {
        Ok(Entered::Ranges { users, groups }) if *users.min(groups) > 65_535 => {
            Finding::fine("subordinate ids", format!("{users} user ids, {groups} group ids"))
        }
        Ok(Entered::Ranges { users, groups }) => Finding::limited(
            "subordinate ids",
            format!("{users} user ids and {groups} group ids; images use up to 65536"),
            Some(SUBORDINATE_IDS_HINT.to_owned()),
        ),
        Ok(Entered::SingleId { cause }) => Finding::limited(
            "subordinate ids",
            format!("only one id: {cause}; steps that change owners will fail"),
            Some(SUBORDINATE_IDS_HINT.to_owned()),
        ),
        Ok(Entered::Root) | Err(_) => return None,
    })
}

/// Runs the smallest program in an overlay with everything a container has.
fn whole_sequence(sandbox: &Sandbox, store: &Path) -> Finding {
    let subject = "sandbox";
    match run_probe(sandbox, store) {
        Ok(ExitStatus::Code(42)) => {
            Finding::fine(subject, "namespaces, overlay, /proc, /dev, /sys, filters and exec work together")
        }
        Ok(status) => Finding::broken(subject, format!("the smallest program ended with {status:?}"), None),
        Err(error) => {
            let hint = error.hint().or_else(|| mount_hint(&error));
            Finding::broken(subject, with_causes(&error), hint)
        }
    }
}

/// What mends a refused mount.
fn mount_hint(error: &Error) -> Option<String> {
    let Error::Setup { source, .. } = error else { return None };
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match crate::user_namespace::denied(source) {
            Error::Denied { hint, .. } => Some(hint),
            _ => None,
        },
        _ => None,
    }
}

/// An error with everything that caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn run_probe(sandbox: &Sandbox, store: &Path) -> Result<ExitStatus> {
    let failed = |error: io::Error| Error::setup(format!("make a folder in {}", store.display()), error);
    let folder = store.join(format!(".examination-{}", std::process::id()));
    let result = (|| {
        for name in ["base", "upper", "work"] {
            fs::create_dir_all(folder.join(name)).map_err(failed)?;
        }
        let program = folder.join("base/probe");
        fs::write(&program, crate::emulation::host_program()).map_err(failed)?;
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(failed)?;
        let rootfs = RootFs::Overlay {
            lowers: vec![folder.join("base")],
            upper: folder.join("upper"),
            work: folder.join("work"),
            volatile: true,
        };
        let mut spec = ProcessSpec::new(rootfs, vec!["/probe".to_owned()]);
        spec.platform = Platform::host();
        (spec.stdout, spec.stderr) = (Stdio::Null, Stdio::Null);
        sandbox.spawn(&spec)?.wait()
    })();
    // What overlay leaves in its work folder may be read by nobody; a leftover is an empty folder or two.
    let _ = fs::set_permissions(folder.join("work/overlay/work"), std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let _ = fs::remove_dir_all(&folder);
    result
}

fn emulators(platforms: &[PlatformSupport]) -> Vec<Finding> {
    platforms
        .iter()
        .map(|support| {
            let subject = support.platform.to_string();
            match &support.how {
                How::Native => Finding::fine(&subject, "native"),
                How::Compatible => Finding::fine(&subject, "run by the processor"),
                How::HostHandler { interpreter: Some(path) } => {
                    Finding::fine(&subject, format!("emulated by the host's {}", path.display()))
                }
                How::HostHandler { interpreter: None } => Finding::fine(&subject, "emulated by the host"),
                How::Private { interpreter, .. } => {
                    Finding::fine(&subject, format!("emulated by {}", interpreter.display()))
                }
                How::Unsupported { cause, hint } => Finding::limited(&subject, cause, Some(hint.clone())),
            }
        })
        .collect()
}

fn control_groups() -> Finding {
    match crate::control_group::availability() {
        Ok(detail) => Finding::fine("control groups", detail),
        Err(cause) => Finding::limited(
            "control groups",
            format!("{cause}: limits of memory, processes and processor time are not enforced"),
            None,
        ),
    }
}

fn network(search_path: &[PathBuf]) -> Finding {
    match crate::network::Network::start(search_path) {
        Ok(_) => Finding::fine("network", "steps can have a network of their own"),
        Err(error) => {
            Finding::limited("network", format!("steps use the host's network: {}", with_causes(&error)), error.hint())
        }
    }
}

fn disk(store: &Path) -> Finding {
    const COMFORTABLE_BYTES: u64 = 5 << 30;
    match rustix::fs::statvfs(store) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let detail = format!("{:.1} GiB free at {}", free as f64 / f64::from(1 << 30), store.display());
            if free >= COMFORTABLE_BYTES {
                Finding::fine("disk", detail)
            } else {
                Finding::limited("disk", detail, Some("onetag prune".to_owned()))
            }
        }
        Err(errno) => Finding::broken("disk", format!("{}: {errno}", store.display()), None),
    }
}
