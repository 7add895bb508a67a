//! Ops and definitions as bytes. Fields stand in the order of their numbers, the member of a `oneof` last.

use onetag_oci::Platform;

use crate::wire::Writer;
use crate::{
    BuildOp, CacheMount, CacheSharing, Chown, ContentCache, CopyAction, CopyMode, Definition, DiffOp, Edge, ExecMeta,
    ExecOp, FileAction, FileActionKind, Mount, MountKind, NetworkMode, Op, OpKind, OpMetadata, Owner, Position,
    SecurityMode, SourceMap,
};

impl Op {
    /// The bytes whose digest is the vertex.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        inputs(&mut writer, &self.inputs);
        if let Some(value) = &self.platform {
            writer.message(10, |w| platform(w, value));
        }
        writer.message(11, |w| w.strings(1, &self.constraints));
        match &self.kind {
            OpKind::Exec(op) => writer.message(2, |w| exec(w, op)),
            OpKind::Source(op) => writer.message(3, |w| {
                w.string(1, &op.identifier);
                for (key, value) in &op.attributes {
                    w.entry(2, key, |entry| entry.bytes_always(2, value.as_bytes()));
                }
            }),
            OpKind::File(op) => writer.message(4, |w| {
                op.actions.iter().for_each(|action| w.message(2, |w| file_action(w, action)));
            }),
            OpKind::Build(op) => writer.message(5, |w| build(w, op)),
            OpKind::Merge(op) => writer.message(6, |w| {
                op.inputs.iter().for_each(|&input| w.message(1, |w| w.index(1, Some(input))));
            }),
            OpKind::Diff(op) => writer.message(7, |w| diff(w, op)),
        }
        writer.finish()
    }
}

/// The op that ends a definition: it names the result and does nothing.
pub(crate) fn terminal(root: &Edge) -> Vec<u8> {
    let mut writer = Writer::default();
    inputs(&mut writer, std::slice::from_ref(root));
    writer.finish()
}

fn inputs(writer: &mut Writer, edges: &[Edge]) {
    for edge in edges {
        writer.message(1, |w| {
            w.string(1, &edge.vertex.to_string());
            w.index(2, Some(edge.output));
        });
    }
}

fn platform(w: &mut Writer, platform: &Platform) {
    w.string(1, &platform.architecture);
    w.string(2, &platform.os);
    w.string(3, platform.variant.as_deref().unwrap_or_default());
    w.string(4, platform.os_version.as_deref().unwrap_or_default());
    w.strings(5, &platform.os_features);
}

fn exec(w: &mut Writer, op: &ExecOp) {
    w.message(1, |w| exec_meta(w, &op.meta));
    op.mounts.iter().for_each(|value| w.message(2, |w| mount(w, value)));
    let network = match op.network {
        NetworkMode::Sandbox => 0,
        NetworkMode::Host => 1,
        NetworkMode::None => 2,
    };
    w.unsigned(3, network);
    w.boolean(4, op.security == SecurityMode::Insecure);
    for secret in &op.secret_environment {
        w.message(5, |w| {
            w.string(1, &secret.id);
            w.string(2, &secret.name);
            w.boolean(3, secret.optional);
        });
    }
    for device in &op.cdi_devices {
        w.message(6, |w| {
            w.string(1, &device.name);
            w.boolean(2, device.optional);
        });
    }
}

fn exec_meta(w: &mut Writer, meta: &ExecMeta) {
    w.strings(1, &meta.args);
    w.strings(2, &meta.env);
    w.string(3, &meta.cwd);
    w.string(4, &meta.user);
    if let Some(proxy) = &meta.proxy {
        w.message(5, |w| {
            w.string(1, &proxy.http);
            w.string(2, &proxy.https);
            w.string(3, &proxy.ftp);
            w.string(4, &proxy.no);
            w.string(5, &proxy.all);
        });
    }
    for host in &meta.extra_hosts {
        w.message(6, |w| {
            w.string(1, &host.host);
            w.string(2, &host.ip);
        });
    }
    w.string(7, &meta.hostname);
    for ulimit in &meta.ulimits {
        w.message(9, |w| {
            w.string(1, &ulimit.name);
            w.signed(2, ulimit.soft);
            w.signed(3, ulimit.hard);
        });
    }
    w.string(10, &meta.cgroup_parent);
    w.boolean(11, meta.remove_mount_stubs_recursive);
    w.packed(12, meta.valid_exit_codes.iter().map(|&code| i64::from(code)));
}

fn mount(w: &mut Writer, mount: &Mount) {
    w.index(1, mount.input);
    w.string(2, &mount.selector);
    w.string(3, &mount.target);
    w.index(4, mount.output);
    w.boolean(5, mount.readonly);
    match &mount.kind {
        MountKind::Bind => {}
        MountKind::Secret(secret) => {
            w.unsigned(6, 1);
            let fields = (secret.id.as_str(), secret.uid, secret.gid, secret.mode, secret.optional);
            w.message(21, |w| identified(w, fields));
        }
        MountKind::Ssh(ssh) => {
            w.unsigned(6, 2);
            let fields = (ssh.id.as_str(), ssh.uid, ssh.gid, ssh.mode, ssh.optional);
            w.message(22, |w| identified(w, fields));
        }
        MountKind::Cache(cache) => {
            w.unsigned(6, 3);
            w.message(20, |w| cache_mount(w, cache));
        }
        MountKind::Tmpfs { size } => {
            w.unsigned(6, 4);
            w.message(19, |w| w.signed(1, *size));
        }
    }
    w.string(23, &mount.result_id);
    let content_cache = match mount.content_cache {
        ContentCache::Default => 0,
        ContentCache::On => 1,
        ContentCache::Off => 2,
    };
    w.unsigned(24, content_cache);
}

/// Secrets and SSH sockets have the same five fields.
fn identified(w: &mut Writer, (id, uid, gid, mode, optional): (&str, u32, u32, u32, bool)) {
    w.string(1, id);
    w.unsigned(2, u64::from(uid));
    w.unsigned(3, u64::from(gid));
    w.unsigned(4, u64::from(mode));
    w.boolean(5, optional);
}

fn cache_mount(w: &mut Writer, cache: &CacheMount) {
    w.string(1, &cache.id);
    let sharing = match cache.sharing {
        CacheSharing::Shared => 0,
        CacheSharing::Private => 1,
        CacheSharing::Locked => 2,
    };
    w.unsigned(2, sharing);
}

fn file_action(w: &mut Writer, action: &FileAction) {
    w.index(1, action.input);
    w.index(2, action.secondary_input);
    w.index(3, action.output);
    match &action.kind {
        FileActionKind::Copy(value) => w.message(4, |w| copy(w, value)),
        FileActionKind::Mkfile(value) => w.message(5, |w| {
            w.string(1, &value.path);
            w.unsigned(2, u64::from(value.mode));
            w.bytes(3, &value.data);
            owner(w, 4, value.owner.as_ref());
            timestamp(w, 5, value.timestamp);
        }),
        FileActionKind::Mkdir(value) => w.message(6, |w| {
            w.string(1, &value.path);
            w.unsigned(2, u64::from(value.mode));
            w.boolean(3, value.make_parents);
            owner(w, 4, value.owner.as_ref());
            timestamp(w, 5, value.timestamp);
        }),
        FileActionKind::Rm(value) => w.message(7, |w| {
            w.string(1, &value.path);
            w.boolean(2, value.allow_not_found);
            w.boolean(3, value.allow_wildcard);
        }),
        FileActionKind::Symlink(value) => w.message(8, |w| {
            w.string(1, &value.target);
            w.string(2, &value.path);
            owner(w, 3, value.owner.as_ref());
            timestamp(w, 4, value.timestamp);
        }),
    }
}

fn copy(w: &mut Writer, copy: &CopyAction) {
    w.string(1, &copy.source);
    w.string(2, &copy.destination);
    owner(w, 3, copy.owner.as_ref());
    let (mode, mode_text) = match &copy.mode {
        CopyMode::Keep => (-1, ""),
        CopyMode::Octal(bits) => (i64::from(*bits), ""),
        CopyMode::Symbolic(text) => (0, text.as_str()),
    };
    w.signed(4, mode);
    w.boolean(5, copy.follow_symlink);
    w.boolean(6, copy.dir_copy_contents);
    w.boolean(7, copy.attempt_unpack);
    w.boolean(8, copy.create_dest_path);
    w.boolean(9, copy.allow_wildcard);
    w.boolean(10, copy.allow_empty_wildcard);
    timestamp(w, 11, copy.timestamp);
    w.strings(12, &copy.include_patterns);
    w.strings(13, &copy.exclude_patterns);
    w.boolean(14, copy.always_replace_existing_dest_paths);
    w.string(15, mode_text);
    w.strings(16, &copy.required_paths);
}

fn timestamp(w: &mut Writer, field: u32, nanoseconds: Option<i64>) {
    w.signed(field, nanoseconds.unwrap_or(-1));
}

fn owner(w: &mut Writer, field: u32, chown: Option<&Chown>) {
    let Some(chown) = chown else { return };
    w.message(field, |w| {
        for (field, owner) in [(1, &chown.user), (2, &chown.group)] {
            match owner {
                None => {}
                Some(Owner::Id(id)) => w.message(field, |w| w.unsigned_always(2, u64::from(*id))),
                Some(Owner::Name { name, input }) => w.message(field, |w| {
                    w.message(1, |w| {
                        w.string(1, name);
                        w.index(2, *input);
                    });
                }),
            }
        }
    });
}

fn diff(w: &mut Writer, op: &DiffOp) {
    for (field, input) in [(1, op.lower), (2, op.upper)] {
        w.message(field, |w| w.index(1, input));
    }
}

fn build(w: &mut Writer, op: &BuildOp) {
    w.index(1, op.builder);
    for (name, input) in &op.inputs {
        w.entry(2, name, |entry| entry.message(2, |w| w.index(1, Some(*input))));
    }
    if let Some(value) = &op.definition {
        w.message(3, |w| definition(w, value));
    }
    for (key, value) in &op.attributes {
        w.entry(4, key, |entry| entry.bytes_always(2, value.as_bytes()));
    }
}

pub(crate) fn definition(w: &mut Writer, definition: &Definition) {
    definition.ops.iter().for_each(|op| w.bytes_always(1, op));
    for (digest, value) in &definition.metadata {
        w.entry(2, &digest.to_string(), |entry| entry.message(2, |w| metadata(w, value)));
    }
    if let Some(value) = &definition.source {
        w.message(3, |w| source_map(w, value));
    }
}

fn metadata(w: &mut Writer, metadata: &OpMetadata) {
    w.boolean(1, metadata.ignore_cache);
    for (key, value) in &metadata.description {
        w.entry(2, key, |entry| entry.bytes_always(2, value.as_bytes()));
    }
    if let Some(value) = metadata.export_cache {
        w.message(4, |w| w.boolean(1, value));
    }
    for (name, value) in &metadata.caps {
        w.entry(5, name, |entry| entry.unsigned_always(2, u64::from(*value)));
    }
    if let Some(group) = &metadata.progress_group {
        w.message(6, |w| {
            w.string(1, &group.id);
            w.string(2, &group.name);
            w.boolean(3, group.weak);
        });
    }
}

fn source_map(w: &mut Writer, map: &SourceMap) {
    let position = |w: &mut Writer, position: Position| {
        w.unsigned(1, u64::from(position.line));
        w.unsigned(2, u64::from(position.character));
    };
    for (digest, locations) in &map.locations {
        w.entry(1, &digest.to_string(), |entry| {
            entry.message(2, |w| {
                for location in locations {
                    w.message(1, |w| {
                        w.index(1, Some(location.file));
                        for range in &location.ranges {
                            w.message(2, |w| {
                                w.message(1, |w| position(w, range.start));
                                w.message(2, |w| position(w, range.end));
                            });
                        }
                    });
                }
            });
        });
    }
    for file in &map.files {
        w.message(2, |w| {
            w.string(1, &file.filename);
            w.bytes(2, &file.data);
            w.string(4, &file.language);
        });
    }
}
