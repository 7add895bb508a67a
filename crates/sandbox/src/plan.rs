//! What the init stage is told: the specification, resolved into what it does. Making it does no I/O.
//!
//! A plan travels in a memory file: the length of its JSON form (8 bytes, little endian), that form, then the content of generated files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::capabilities::CapabilitySet;
use crate::error::{Error, Result};
use crate::spec::{MountKind, NetworkMode, ProcessSpec, RootFs, Security};

/// A range of the bytes behind the JSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub offset: usize,
    pub length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedMount {
    pub target: String,
    pub kind: PlannedKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PlannedKind {
    Bind { source: RootFs, subpath: Option<String>, read_only: bool, recursive: bool },
    Device { source: std::path::PathBuf },
    Tmpfs { size_bytes: Option<u64>, mode: u32 },
    File { content: Content, mode: u32, user: u32, group: u32, read_only: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub rootfs: RootFs,
    pub read_only_rootfs: bool,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub user: String,
    pub additional_groups: Vec<String>,
    pub hostname: String,
    pub mounts: Vec<PlannedMount>,
    pub hosts: Content,
    pub resolv_conf: Content,
    /// Whether the network namespace is new, so that its loopback interface is brought up.
    pub new_network: bool,
    pub confined: bool,
    /// Whether system calls are filtered.
    pub filtered: bool,
    /// Whether paths of `/proc` and `/sys` are hidden or made read-only.
    pub masked: bool,
    /// Capabilities kept in the bounding set; `None` keeps all.
    pub bounding: Option<CapabilitySet>,
    pub no_new_privileges: bool,
    /// Whether the starter makes devices for the payload.
    pub hand_devices_over: bool,
    pub resource_limits: Vec<(u32, u64, u64)>,
    pub shm_size_bytes: u64,
    pub terminal: Option<(u16, u16)>,
    /// Whether this process is pid 1 and stays it; else it starts pid 1 and watches it from outside.
    pub init: bool,
    /// The control groups that the process is put into: folders that exist.
    pub control_groups: Vec<std::path::PathBuf>,
    /// Why this user has one id only, when that is so.
    pub single_id: Option<String>,
}

/// Facts about the invocation that a plan needs beside the specification.
pub(crate) struct Surroundings<'a> {
    pub resolv_conf: &'a [u8],
    pub control_groups: Vec<std::path::PathBuf>,
    /// The number of processes, where no control group counts them.
    pub process_limit: Option<u64>,
    pub single_id: Option<String>,
    /// Whether the starter can make devices that the process cannot.
    pub makes_devices: bool,
}

/// Resolves a specification. The bytes are the generated files' content.
pub(crate) fn plan(spec: &ProcessSpec, surroundings: Surroundings<'_>) -> Result<(Plan, Vec<u8>)> {
    if spec.args.is_empty() || spec.args[0].is_empty() {
        return Err(Error::Invalid("no command was given".to_owned()));
    }
    for text in spec.args.iter().chain(&spec.env).chain([&spec.cwd, &spec.user, &spec.hostname]) {
        if text.contains('\0') {
            return Err(Error::Invalid("arguments and environment must not contain NUL".to_owned()));
        }
    }
    let mut bytes = Vec::new();
    let mut keep = |content: &[u8]| {
        let offset = bytes.len();
        bytes.extend_from_slice(content);
        Content { offset, length: content.len() }
    };
    let mounts = spec
        .mounts
        .iter()
        .map(|mount| {
            let kind = match &mount.kind {
                MountKind::Bind { source, subpath, read_only, recursive } => PlannedKind::Bind {
                    source: source.clone(),
                    subpath: subpath.clone(),
                    read_only: *read_only,
                    recursive: *recursive,
                },
                MountKind::Device { source } => PlannedKind::Device { source: source.clone() },
                MountKind::Tmpfs { size_bytes, mode } => PlannedKind::Tmpfs { size_bytes: *size_bytes, mode: *mode },
                MountKind::File { content, mode, user, group, read_only } => PlannedKind::File {
                    content: keep(content),
                    mode: *mode,
                    user: *user,
                    group: *group,
                    read_only: *read_only,
                },
            };
            PlannedMount { target: mount.target.clone(), kind }
        })
        .collect();
    let hosts = keep(&hosts_file(spec));
    let resolv_conf = keep(spec.resolv_conf.as_deref().unwrap_or(surroundings.resolv_conf));
    let confined = spec.security == Security::Default;
    let filtered = confined && !spec.unfiltered;
    let bounding = if confined { Some(CapabilitySet::DOCKER_DEFAULT.changed(&spec.capabilities)?) } else { None };
    let mut resource_limits = spec
        .resource_limits
        .iter()
        .map(|limit| Ok((crate::limits::number(&limit.name)?, limit.soft, limit.hard)))
        .collect::<Result<Vec<_>>>()?;
    if let Some(count) = surroundings.process_limit {
        resource_limits.push((crate::limits::number("nproc")?, count, count));
    }
    let plan = Plan {
        rootfs: spec.rootfs.clone(),
        read_only_rootfs: spec.read_only_rootfs,
        args: spec.args.clone(),
        env: spec.env.clone(),
        cwd: spec.cwd.clone(),
        user: spec.user.clone(),
        additional_groups: spec.additional_groups.clone(),
        hostname: spec.hostname.clone(),
        mounts,
        hosts,
        resolv_conf,
        new_network: matches!(spec.network, NetworkMode::None),
        confined,
        filtered,
        masked: confined && !spec.unmasked,
        bounding,
        no_new_privileges: spec.no_new_privileges,
        hand_devices_over: filtered && surroundings.makes_devices,
        resource_limits,
        shm_size_bytes: spec.shm_size_bytes,
        terminal: spec.terminal,
        init: spec.init,
        control_groups: surroundings.control_groups,
        single_id: surroundings.single_id,
    };
    Ok((plan, bytes))
}

/// What `/etc/hosts` holds, as BuildKit writes it.
fn hosts_file(spec: &ProcessSpec) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut text = String::from("127.0.0.1\tlocalhost");
    if !spec.hostname.is_empty() {
        let _ = write!(text, " {}", spec.hostname);
    }
    text.push_str("\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in &spec.extra_hosts {
        let _ = writeln!(text, "{address}\t{name}");
    }
    text.into_bytes()
}

/// Writes a plan into a sealed memory file, at position 0.
pub(crate) fn write(plan: &Plan, content: &[u8]) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, memfd_create};
    let failed = |error: std::io::Error| Error::setup("write the plan of a process", error);
    let json =
        serde_json::to_vec(plan).map_err(|_| Error::Invalid("a path of the specification is not UTF-8".to_owned()))?;
    let mut file: File = memfd_create("onetag-plan", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?.into();
    let mut all = Vec::with_capacity(8 + json.len() + content.len());
    all.extend_from_slice(&(json.len() as u64).to_le_bytes());
    all.extend_from_slice(&json);
    all.extend_from_slice(content);
    file.write_all(&all).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(failed)?;
    Ok(file.into())
}

/// Reads what [`write`] wrote.
pub(crate) fn read(file: OwnedFd) -> std::io::Result<(Plan, Vec<u8>)> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut all = Vec::new();
    File::from(file).read_to_end(&mut all)?;
    let (length, rest) = all.split_first_chunk::<8>().ok_or_else(invalid)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| invalid())?;
    let json = rest.get(..length).ok_or_else(invalid)?;
    let plan = serde_json::from_slice(json).map_err(|_| invalid())?;
    Ok((plan, rest[length..].to_vec()))
}
