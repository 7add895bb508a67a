//! Reading definitions: bounded, never panicking, and only what this crate would write itself.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb;
use onetag_oci::{Digest, Platform};
use prost::Message;

use crate::{
    BuildOp, Builder, CacheMount, CacheSharing, CdiDevice, Chown, ContentCache, CopyAction, CopyMode, DecodeError,
    Definition, DiffOp, Edge, ExecMeta, ExecOp, FileAction, FileActionKind, FileOp, Graph, GraphError, HostIp,
    Location, MergeOp, Mkdir, Mkfile, Mount, MountKind, NetworkMode, Op, OpKind, OpMetadata, Owner, Position,
    ProgressGroup, ProxyEnvironment, Rm, SecretEnvironment, SecretMount, SecurityMode, SourceFile, SourceMap, SourceOp,
    SourceRange, SshMount, Symlink, Ulimit,
};

type Result<T> = std::result::Result<T, DecodeError>;

impl Definition {
    /// Reads a definition. Its ops are not looked at; [`Graph::from_definition`] does that.
    ///
    /// # Errors
    /// More than [`Definition::SIZE_LIMIT`] bytes, or not a `pb.Definition`.
    pub fn decode(bytes: &[u8]) -> Result<Definition> {
        if bytes.len() > Definition::SIZE_LIMIT {
            return Err(DecodeError::TooLarge { size: bytes.len(), limit: Definition::SIZE_LIMIT });
        }
        Ok(definition(pb::Definition::decode(bytes).map_err(DecodeError::Protobuf)?))
    }
}

impl Op {
    /// Reads an op.
    ///
    /// # Errors
    /// The bytes are not an op, or not those that [`Op::encode`] gives for it: its digest would change.
    pub fn decode(bytes: &[u8]) -> Result<Op> {
        let digest = Digest::sha256(bytes);
        let message = pb::Op::decode(bytes).map_err(DecodeError::Protobuf)?;
        let op = Reader { digest: &digest }.op(message)?;
        if op.encode() != bytes {
            return Err(DecodeError::NotCanonical { digest });
        }
        Ok(op)
    }
}

impl Graph {
    /// The graph of an encoded definition; its root is what the last op names.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn from_definition(bytes: &[u8]) -> Result<Graph> {
        let mut definition = Definition::decode(bytes)?;
        let Some(last) = definition.ops.pop() else { return Ok(Graph::default()) };
        let mut builder = Builder::default();
        for bytes in &definition.ops {
            let op = Op::decode(bytes)?;
            let metadata = definition.metadata.remove(&Digest::sha256(bytes)).unwrap_or_default();
            builder.add(op, metadata)?;
        }
        let root = terminal(&last)?;
        let source = definition.source.unwrap_or_default();
        for (digest, locations) in source.locations {
            locations.into_iter().for_each(|location| builder.locate(&digest, location));
        }
        Ok(builder.finish(vec![root], source.files)?)
    }
}

fn terminal(bytes: &[u8]) -> Result<Edge> {
    let digest = Digest::sha256(bytes);
    let message = pb::Op::decode(bytes).map_err(DecodeError::Protobuf)?;
    let edges = Reader { digest: &digest }.inputs(message.inputs)?;
    match <[Edge; 1]>::try_from(edges) {
        Ok([root]) if message.op.is_none() => Ok(root),
        _ => Err(GraphError::NoTerminal.into()),
    }
}

/// Turns messages into typed values and knows which op it is about.
struct Reader<'a> {
    digest: &'a Digest,
}

impl Reader<'_> {
    fn wrong(&self, field: &'static str, value: i64) -> DecodeError {
        DecodeError::Value { digest: self.digest.clone(), field, value }
    }

    fn required<T>(&self, field: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| DecodeError::Missing { digest: self.digest.clone(), field })
    }

    /// A position: -1 is none, anything else below 0 wrong.
    fn index(&self, field: &'static str, value: i64) -> Result<Option<usize>> {
        match value {
            -1 => Ok(None),
            value => usize::try_from(value).map(Some).map_err(|_| self.wrong(field, value)),
        }
    }

    fn position(&self, field: &'static str, value: i64) -> Result<usize> {
        usize::try_from(value).map_err(|_| self.wrong(field, value))
    }

    fn bits(&self, field: &'static str, value: i32) -> Result<u32> {
        u32::try_from(value).map_err(|_| self.wrong(field, value.into()))
    }

    fn inputs(&self, inputs: Vec<pb::Input>) -> Result<Vec<Edge>> {
        let edge = |input: pb::Input| match input.digest.parse() {
            Ok(vertex) => Ok(Edge { vertex, output: self.position("index", input.index)? }),
            Err(_) => Err(DecodeError::Input { digest: self.digest.clone(), input: input.digest }),
        };
        inputs.into_iter().map(edge).collect()
    }

    fn op(&self, message: pb::Op) -> Result<Op> {
        let kind = match self.required("op", message.op)? {
            pb::op::Op::Exec(exec) => OpKind::Exec(Box::new(self.exec(exec)?)),
            pb::op::Op::Source(source) => {
                OpKind::Source(SourceOp { identifier: source.identifier, attributes: source.attrs })
            }
            pb::op::Op::File(file) => {
                let actions = file.actions.into_iter().map(|action| self.file_action(action));
                OpKind::File(FileOp { actions: actions.collect::<Result<_>>()? })
            }
            pb::op::Op::Build(build) => OpKind::Build(Box::new(self.build(build)?)),
            pb::op::Op::Merge(merge) => {
                let inputs = merge.inputs.into_iter().map(|input| self.position("merge.input", input.input));
                OpKind::Merge(MergeOp { inputs: inputs.collect::<Result<_>>()? })
            }
            pb::op::Op::Diff(diff) => {
                let lower = self.required("diff.lower", diff.lower)?.input;
                let upper = self.required("diff.upper", diff.upper)?.input;
                OpKind::Diff(DiffOp {
                    lower: self.index("diff.lower", lower)?,
                    upper: self.index("diff.upper", upper)?,
                })
            }
        };
        Ok(Op {
            inputs: self.inputs(message.inputs)?,
            kind,
            platform: message.platform.map(platform),
            constraints: self.required("constraints", message.constraints)?.filter,
        })
    }

    fn exec(&self, exec: pb::ExecOp) -> Result<ExecOp> {
        let secret =
            |secret: pb::SecretEnv| SecretEnvironment { id: secret.id, name: secret.name, optional: secret.optional };
        let device = |device: pb::CdiDevice| CdiDevice { name: device.name, optional: device.optional };
        Ok(ExecOp {
            meta: exec_meta(self.required("exec.meta", exec.meta)?),
            mounts: exec.mounts.into_iter().map(|mount| self.mount(mount)).collect::<Result<_>>()?,
            network: match exec.network {
                0 => NetworkMode::Sandbox,
                1 => NetworkMode::Host,
                2 => NetworkMode::None,
                value => return Err(self.wrong("exec.network", value.into())),
            },
            security: match exec.security {
                0 => SecurityMode::Sandbox,
                1 => SecurityMode::Insecure,
                value => return Err(self.wrong("exec.security", value.into())),
            },
            secret_environment: exec.secretenv.into_iter().map(secret).collect(),
            cdi_devices: exec.cdi_devices.into_iter().map(device).collect(),
        })
    }

    fn mount(&self, mount: pb::Mount) -> Result<Mount> {
        let kind = match mount.mount_type {
            0 => MountKind::Bind,
            1 => {
                let secret = self.required("mount.secretOpt", mount.secret_opt)?;
                MountKind::Secret(SecretMount {
                    id: secret.id,
                    uid: secret.uid,
                    gid: secret.gid,
                    mode: secret.mode,
                    optional: secret.optional,
                })
            }
            2 => {
                let ssh = self.required("mount.SSHOpt", mount.ssh_opt)?;
                MountKind::Ssh(SshMount {
                    id: ssh.id,
                    uid: ssh.uid,
                    gid: ssh.gid,
                    mode: ssh.mode,
                    optional: ssh.optional,
                })
            }
            3 => {
                let cache = self.required("mount.cacheOpt", mount.cache_opt)?;
                let sharing = match cache.sharing {
                    0 => CacheSharing::Shared,
                    1 => CacheSharing::Private,
                    2 => CacheSharing::Locked,
                    value => return Err(self.wrong("cacheOpt.sharing", value.into())),
                };
                MountKind::Cache(CacheMount { id: cache.id, sharing })
            }
            4 => MountKind::Tmpfs { size: self.required("mount.TmpfsOpt", mount.tmpfs_opt)?.size },
            value => return Err(self.wrong("mount.mountType", value.into())),
        };
        Ok(Mount {
            input: self.index("mount.input", mount.input)?,
            selector: mount.selector,
            target: mount.dest,
            output: self.index("mount.output", mount.output)?,
            readonly: mount.readonly,
            kind,
            result_id: mount.result_id,
            content_cache: match mount.content_cache {
                0 => ContentCache::Default,
                1 => ContentCache::On,
                2 => ContentCache::Off,
                value => return Err(self.wrong("mount.contentCache", value.into())),
            },
        })
    }

    fn file_action(&self, action: pb::FileAction) -> Result<FileAction> {
        use pb::file_action::Action;
        let kind = match self.required("file.action", action.action)? {
            Action::Copy(copy) => FileActionKind::Copy(Box::new(self.copy(copy)?)),
            Action::Mkfile(file) => FileActionKind::Mkfile(Mkfile {
                path: file.path,
                mode: self.bits("mkfile.mode", file.mode)?,
                data: file.data,
                owner: self.chown(file.owner)?,
                timestamp: timestamp(file.timestamp),
            }),
            Action::Mkdir(folder) => FileActionKind::Mkdir(Mkdir {
                path: folder.path,
                mode: self.bits("mkdir.mode", folder.mode)?,
                make_parents: folder.make_parents,
                owner: self.chown(folder.owner)?,
                timestamp: timestamp(folder.timestamp),
            }),
            Action::Rm(rm) => FileActionKind::Rm(Rm {
                path: rm.path,
                allow_not_found: rm.allow_not_found,
                allow_wildcard: rm.allow_wildcard,
            }),
            Action::Symlink(link) => FileActionKind::Symlink(Symlink {
                target: link.oldpath,
                path: link.newpath,
                owner: self.chown(link.owner)?,
                timestamp: timestamp(link.timestamp),
            }),
        };
        Ok(FileAction {
            input: self.index("file.input", action.input)?,
            secondary_input: self.index("file.secondaryInput", action.secondary_input)?,
            output: self.index("file.output", action.output)?,
            kind,
        })
    }

    fn copy(&self, copy: pb::FileActionCopy) -> Result<CopyAction> {
        let mode = match copy.mode {
            _ if !copy.mode_str.is_empty() => CopyMode::Symbolic(copy.mode_str),
            -1 => CopyMode::Keep,
            bits => CopyMode::Octal(self.bits("copy.mode", bits)?),
        };
        Ok(CopyAction {
            source: copy.src,
            destination: copy.dest,
            owner: self.chown(copy.owner)?,
            mode,
            follow_symlink: copy.follow_symlink,
            dir_copy_contents: copy.dir_copy_contents,
            attempt_unpack: copy.attempt_unpack_docker_compatibility,
            create_dest_path: copy.create_dest_path,
            allow_wildcard: copy.allow_wildcard,
            allow_empty_wildcard: copy.allow_empty_wildcard,
            timestamp: timestamp(copy.timestamp),
            include_patterns: copy.include_patterns,
            exclude_patterns: copy.exclude_patterns,
            always_replace_existing_dest_paths: copy.always_replace_existing_dest_paths,
            required_paths: copy.required_paths,
        })
    }

    fn chown(&self, chown: Option<pb::ChownOpt>) -> Result<Option<Chown>> {
        let Some(chown) = chown else { return Ok(None) };
        Ok(Some(Chown { user: self.owner(chown.user)?, group: self.owner(chown.group)? }))
    }

    fn owner(&self, owner: Option<pb::UserOpt>) -> Result<Option<Owner>> {
        let Some(owner) = owner else { return Ok(None) };
        Ok(Some(match self.required("owner.user", owner.user)? {
            pb::user_opt::User::ById(id) => Owner::Id(id),
            pb::user_opt::User::ByName(named) => {
                Owner::Name { name: named.name, input: self.index("owner.input", named.input)? }
            }
        }))
    }

    fn build(&self, build: pb::BuildOp) -> Result<BuildOp> {
        let input = |(name, input): (String, pb::BuildInput)| Ok((name, self.position("build.input", input.input)?));
        Ok(BuildOp {
            builder: self.index("build.builder", build.builder)?,
            inputs: build.inputs.into_iter().map(input).collect::<Result<_>>()?,
            definition: build.def.map(definition),
            attributes: build.attrs,
        })
    }
}

fn timestamp(nanoseconds: i64) -> Option<i64> {
    (nanoseconds != -1).then_some(nanoseconds)
}

fn platform(platform: pb::Platform) -> Platform {
    let text = |text: String| (!text.is_empty()).then_some(text);
    Platform {
        os: platform.os,
        architecture: platform.architecture,
        variant: text(platform.variant),
        os_version: text(platform.os_version),
        os_features: platform.os_features,
    }
}

fn exec_meta(meta: pb::Meta) -> ExecMeta {
    let proxy = |proxy: pb::ProxyEnv| ProxyEnvironment {
        http: proxy.http_proxy,
        https: proxy.https_proxy,
        ftp: proxy.ftp_proxy,
        no: proxy.no_proxy,
        all: proxy.all_proxy,
    };
    ExecMeta {
        args: meta.args,
        env: meta.env,
        cwd: meta.cwd,
        user: meta.user,
        proxy: meta.proxy_env.map(proxy),
        extra_hosts: meta.extra_hosts.into_iter().map(|host| HostIp { host: host.host, ip: host.ip }).collect(),
        hostname: meta.hostname,
        ulimits: meta
            .ulimit
            .into_iter()
            .map(|limit| Ulimit { name: limit.name, soft: limit.soft, hard: limit.hard })
            .collect(),
        cgroup_parent: meta.cgroup_parent,
        remove_mount_stubs_recursive: meta.remove_mount_stubs_recursive,
        valid_exit_codes: meta.valid_exit_codes,
    }
}

fn definition(message: pb::Definition) -> Definition {
    let by_digest = |(digest, value): (String, pb::OpMetadata)| Some((digest.parse().ok()?, metadata(value)));
    Definition {
        ops: message.def,
        metadata: message.metadata.into_iter().filter_map(by_digest).collect(),
        source: message.source.map(source_map),
    }
}

fn metadata(metadata: pb::OpMetadata) -> OpMetadata {
    OpMetadata {
        ignore_cache: metadata.ignore_cache,
        description: metadata.description,
        export_cache: metadata.export_cache.map(|export| export.value),
        caps: metadata.caps,
        progress_group: metadata.progress_group.map(|group| ProgressGroup {
            id: group.id,
            name: group.name,
            weak: group.weak,
        }),
    }
}

fn source_map(source: pb::Source) -> SourceMap {
    let position = |position: Option<pb::Position>| {
        let position = position.unwrap_or_default();
        Position {
            line: u32::try_from(position.line).unwrap_or_default(),
            character: u32::try_from(position.character).unwrap_or_default(),
        }
    };
    let range = |range: pb::Range| SourceRange { start: position(range.start), end: position(range.end) };
    let location = |location: pb::Location| {
        let file = usize::try_from(location.source_index).ok()?;
        Some(Location { file, ranges: location.ranges.into_iter().map(range).collect() })
    };
    let locations: BTreeMap<Digest, Vec<Location>> = source
        .locations
        .into_iter()
        .filter_map(|(digest, list)| {
            Some((digest.parse().ok()?, list.locations.into_iter().filter_map(location).collect()))
        })
        .collect();
    let file = |info: pb::SourceInfo| SourceFile { filename: info.filename, language: info.language, data: info.data };
    SourceMap { files: source.infos.into_iter().map(file).collect(), locations }
}
