//! The mounts of `RUN`.

use onetag_llb::{
    CacheMount, CacheSharing, Chown, ExecOp, FileActionKind, Mkdir, Mount, MountKind, OpMetadata, Owner,
    SecretEnvironment, SecretMount, SshMount, capability,
};

use super::error::{At, DockerfileError, Result};
use super::nodes::{FileNode, MountNode, NodeKind, NodeOptions, Output};
use super::part::Part;
use super::stage::StageId;
use super::{DockerfileErrorKind, Lowering, paths};
use crate::instruction::{self, MountType, Sharing};
use crate::values::clean_path;

/// A `RUN` while its options are collected.
#[derive(Default)]
pub(crate) struct RunParts {
    pub exec: ExecOp,
    pub mounts: Vec<MountNode>,
    pub secrets: Vec<Mount>,
    pub agents: Vec<Mount>,
    pub metadata: OpMetadata,
}

impl RunParts {
    pub(crate) fn mount(&mut self, node: MountNode) {
        super::nodes::mount_capabilities(&node, &mut self.metadata);
        self.mounts.push(node);
    }
}

impl Lowering<'_> {
    /// Adds the mounts of a `RUN`; `sources` holds the stage of each.
    pub(crate) fn add_mounts(
        &mut self,
        id: StageId,
        mounts: &[instruction::Mount],
        sources: &[StageId],
        parts: &mut RunParts,
    ) -> Result<()> {
        let mut errors = Vec::new();
        for (index, (mount, &source)) in mounts.iter().zip(sources).enumerate() {
            let added = match mount.kind {
                MountType::Secret => {
                    add_secret(mount, parts);
                    Ok(())
                }
                MountType::Ssh => add_agent(mount, parts),
                MountType::Bind | MountType::Cache | MountType::Tmpfs => self.add_mount(id, mount, source, parts),
            };
            errors.extend(added.about(|| Part::Flag("mount", index)).err());
        }
        DockerfileError::first_of(errors)
    }

    fn add_mount(
        &mut self,
        id: StageId,
        mount: &instruction::Mount,
        source: StageId,
        parts: &mut RunParts,
    ) -> Result<()> {
        // A cache without `from` begins empty, a bind mount shows the main context.
        let from_context = mount.from.is_empty() && mount.kind != MountType::Cache;
        if !from_context && !self.stages.all[source].is_dispatched {
            let (from, target) = (mount.from.clone(), mount.target.clone());
            return Err(DockerfileErrorKind::MountFromLater { from, target }.into());
        }
        let output = match mount.kind {
            MountType::Tmpfs => None,
            _ if from_context => Some(self.context),
            _ => self.stages.all[source].state.output,
        };
        let target = self.mount_target(id, mount)?;
        let (output, selector) = self.mount_source(mount, output);
        let kind = match mount.kind {
            MountType::Tmpfs => MountKind::Tmpfs { size: mount.size_bytes },
            MountType::Cache => MountKind::Cache(self.cache(mount)),
            _ => MountKind::Bind,
        };
        let llb = Mount { selector, target, readonly: mount.readonly, kind, ..Mount::default() };
        parts.mount(MountNode { source: output, mount: llb, has_output: false });
        let needed = paths::join("/", &mount.source);
        if mount.from.is_empty() && mount.kind != MountType::Cache {
            self.stage(id).context_paths.insert(needed);
        } else {
            let set = self.stages.all[source].paths;
            self.nodes.need_path(set, &needed);
        }
        Ok(())
    }

    fn mount_target(&self, id: StageId, mount: &instruction::Mount) -> Result<String> {
        let target = if clean_path(&mount.target).starts_with('/') {
            mount.target.clone()
        } else {
            clean_path(&format!("/{}/{}", self.stages.all[id].state.directory, mount.target))
        };
        if target == "/" { Err(DockerfileErrorKind::MountTarget(target).into()) } else { Ok(target) }
    }

    /// What is mounted and which folder of it. A cache whose owner or mode is said begins as a folder made so.
    fn mount_source(&mut self, mount: &instruction::Mount, output: Output) -> (Output, String) {
        let folder = paths::join("/", &mount.source);
        if folder != "/" {
            return (output, folder);
        }
        if mount.uid.is_none() && mount.gid.is_none() && mount.mode.is_none() {
            return (output, String::new());
        }
        let owner = |id: Option<u32>| Some(Owner::Id(id.unwrap_or_default()));
        let folder = Mkdir {
            path: "/cache".to_owned(),
            mode: mount.mode.unwrap_or(0o755) & 0o777,
            make_parents: false,
            owner: Some(Chown { user: owner(mount.uid), group: owner(mount.gid) }),
            timestamp: None,
        };
        let options =
            NodeOptions::named("[internal] setting cache mount permissions").capability(capability::FILE_BASE);
        let action = FileNode { source: None, kind: FileActionKind::Mkdir(folder) };
        (Some(self.nodes.add(NodeKind::File(output, vec![action]), options)), "/cache".to_owned())
    }

    fn cache(&self, mount: &instruction::Mount) -> CacheMount {
        let id = if mount.id.is_empty() { clean_path(&mount.target) } else { mount.id.clone() };
        let sharing = match mount.sharing {
            None | Some(Sharing::Shared) => CacheSharing::Shared,
            Some(Sharing::Private) => CacheSharing::Private,
            Some(Sharing::Locked) => CacheSharing::Locked,
        };
        let namespace = self.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS").unwrap_or(&self.options.cache_namespace);
        CacheMount { id: format!("{namespace}/{id}"), sharing }
    }
}

fn add_secret(mount: &instruction::Mount, parts: &mut RunParts) {
    let id = match (mount.source.as_str(), mount.id.as_str(), mount.target.as_str()) {
        ("", "", target) => paths::base(target),
        ("", id, _) => id,
        (source, _, _) => source,
    };
    let optional = !mount.required;
    parts.metadata.add_capability(capability::EXEC_MOUNT_SECRET);
    if let Some(name) = &mount.env {
        parts.metadata.add_capability(capability::EXEC_SECRET_ENV);
        let secret = SecretEnvironment { id: id.to_owned(), name: name.clone(), optional };
        parts.exec.secret_environment.push(secret);
    }
    let target = match mount.target.as_str() {
        "" if mount.env.is_some() => return,
        "" => format!("/run/secrets/{}", paths::base(id)),
        target => target.to_owned(),
    };
    let (uid, gid, mode) = ownership(mount, 0o400);
    let secret = SecretMount { id: id.to_owned(), uid, gid, mode, optional };
    parts.secrets.push(Mount { target, output: Some(0), kind: MountKind::Secret(secret), ..Mount::default() });
}

fn add_agent(mount: &instruction::Mount, parts: &mut RunParts) -> Result<()> {
    if !mount.source.is_empty() {
        return Err(DockerfileErrorKind::SshSource.into());
    }
    parts.metadata.add_capability(capability::EXEC_MOUNT_SSH);
    let (uid, gid, mode) = ownership(mount, 0o600);
    let ssh = SshMount { id: mount.id.clone(), uid, gid, mode, optional: !mount.required };
    let target = match mount.target.as_str() {
        "" => format!("/run/buildkit/ssh_agent.{}", parts.agents.len()),
        target => target.to_owned(),
    };
    parts.agents.push(Mount { target, output: Some(0), kind: MountKind::Ssh(ssh), ..Mount::default() });
    Ok(())
}

fn ownership(mount: &instruction::Mount, default_mode: u32) -> (u32, u32, u32) {
    (mount.uid.unwrap_or_default(), mount.gid.unwrap_or_default(), mount.mode.unwrap_or(default_mode))
}
