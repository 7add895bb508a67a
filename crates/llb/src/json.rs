//! Ops as JSON lines, the form in which `buildctl debug dump-llb` prints a definition.

use onetag_oci::{Digest, Platform, go_json};
use serde_json::{Map, Value};

use crate::wire::index;
use crate::{
    BuildOp, CacheSharing, Chown, ContentCache, CopyAction, CopyMode, Definition, ExecMeta, ExecOp, FileAction,
    FileActionKind, Graph, Mount, MountKind, NetworkMode, Op, OpKind, OpMetadata, Owner, SecurityMode,
};

impl Graph {
    /// One line an op of the first root's definition: the op, its digest, its metadata.
    pub fn to_json_lines(&self) -> Vec<u8> {
        let Some(root) = self.roots().first() else { return Vec::new() };
        let definition = self.definition(root);
        let mut lines = Vec::new();
        for bytes in &definition.ops {
            let digest = Digest::sha256(bytes);
            let op = match self.get(&digest) {
                Some(vertex) => op_value(&vertex.op),
                None => terminal_value(&root.vertex, root.output),
            };
            line(&mut lines, op, &digest, &definition);
        }
        lines
    }
}

/// An op in the same form.
pub fn op_json(op: &Op) -> Value {
    op_value(op)
}

/// The op that names a result, without its input.
pub fn result_json() -> Value {
    Object::new().value("Op", Value::Null).finish()
}

fn line(lines: &mut Vec<u8>, op: Value, digest: &Digest, definition: &Definition) {
    let metadata = definition.metadata.get(digest).map(metadata_value).unwrap_or_default();
    let fields = Object::new()
        .value("Op", op)
        .value("Digest", Value::String(digest.to_string()))
        .value("OpMetadata", metadata)
        .finish();
    lines.extend_from_slice(&go_json(&fields));
    lines.push(b'\n');
}

/// A JSON object that leaves out what Go's `omitempty` leaves out.
struct Object(Map<String, Value>);

impl Object {
    fn new() -> Object {
        Object(Map::new())
    }

    fn value(mut self, key: &str, value: Value) -> Object {
        self.0.insert(key.to_owned(), value);
        self
    }

    fn optional(self, key: &str, value: Option<Value>) -> Object {
        match value {
            Some(value) => self.value(key, value),
            None => self,
        }
    }

    fn string(self, key: &str, value: &str) -> Object {
        self.optional(key, (!value.is_empty()).then(|| Value::from(value)))
    }

    fn number(self, key: &str, value: i64) -> Object {
        self.optional(key, (value != 0).then(|| Value::from(value)))
    }

    fn boolean(self, key: &str, value: bool) -> Object {
        self.optional(key, value.then_some(Value::Bool(true)))
    }

    fn strings(self, key: &str, values: &[String]) -> Object {
        self.list(key, values.iter().map(|value| Value::from(value.as_str())).collect())
    }

    fn list(self, key: &str, values: Vec<Value>) -> Object {
        self.optional(key, (!values.is_empty()).then_some(Value::Array(values)))
    }

    fn map<'a, V: Into<Value> + Clone + 'a>(
        self,
        key: &str,
        entries: impl IntoIterator<Item = (&'a String, &'a V)>,
    ) -> Object {
        let map: Map<String, Value> =
            entries.into_iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        self.optional(key, (!map.is_empty()).then_some(Value::Object(map)))
    }

    fn finish(self) -> Value {
        Value::Object(self.0)
    }
}

fn input_value(vertex: &Digest, output: usize) -> Value {
    Object::new().string("digest", &vertex.to_string()).number("index", output as i64).finish()
}

fn terminal_value(vertex: &Digest, output: usize) -> Value {
    Object::new().list("inputs", vec![input_value(vertex, output)]).value("Op", Object::new().finish()).finish()
}

fn op_value(op: &Op) -> Value {
    let inputs = op.inputs.iter().map(|edge| input_value(&edge.vertex, edge.output)).collect();
    let (name, kind) = match &op.kind {
        OpKind::Exec(exec) => ("exec", exec_value(exec)),
        OpKind::Source(source) => {
            ("source", Object::new().string("identifier", &source.identifier).map("attrs", &source.attributes).finish())
        }
        OpKind::File(file) => {
            ("file", Object::new().list("actions", file.actions.iter().map(action_value).collect()).finish())
        }
        OpKind::Build(build) => ("build", build_value(build)),
        OpKind::Merge(merge) => {
            let input = |&input: &usize| Object::new().number("input", input as i64).finish();
            ("merge", Object::new().list("inputs", merge.inputs.iter().map(input).collect()).finish())
        }
        OpKind::Diff(diff) => {
            let input = |position: Option<usize>| Object::new().number("input", index(position)).finish();
            ("diff", Object::new().value("lower", input(diff.lower)).value("upper", input(diff.upper)).finish())
        }
    };
    Object::new()
        .list("inputs", inputs)
        .value("Op", Object::new().value(name, kind).finish())
        .optional("platform", op.platform.as_ref().map(platform_value))
        .value("constraints", Object::new().strings("filter", &op.constraints).finish())
        .finish()
}

fn platform_value(platform: &Platform) -> Value {
    Object::new()
        .string("Architecture", &platform.architecture)
        .string("OS", &platform.os)
        .string("Variant", platform.variant.as_deref().unwrap_or_default())
        .string("OSVersion", platform.os_version.as_deref().unwrap_or_default())
        .strings("OSFeatures", &platform.os_features)
        .finish()
}

fn exec_value(exec: &ExecOp) -> Value {
    let secrets = exec.secret_environment.iter().map(|secret| {
        Object::new()
            .string("ID", &secret.id)
            .string("name", &secret.name)
            .boolean("optional", secret.optional)
            .finish()
    });
    let devices = exec
        .cdi_devices
        .iter()
        .map(|device| Object::new().string("name", &device.name).boolean("optional", device.optional).finish());
    let network = match exec.network {
        NetworkMode::Sandbox => 0,
        NetworkMode::Host => 1,
        NetworkMode::None => 2,
    };
    Object::new()
        .value("meta", meta_value(&exec.meta))
        .list("mounts", exec.mounts.iter().map(mount_value).collect())
        .number("network", network)
        .number("security", i64::from(exec.security == SecurityMode::Insecure))
        .list("secretenv", secrets.collect())
        .list("cdiDevices", devices.collect())
        .finish()
}

fn meta_value(meta: &ExecMeta) -> Value {
    let proxy = meta.proxy.as_ref().map(|proxy| {
        Object::new()
            .string("http_proxy", &proxy.http)
            .string("https_proxy", &proxy.https)
            .string("ftp_proxy", &proxy.ftp)
            .string("no_proxy", &proxy.no)
            .string("all_proxy", &proxy.all)
            .finish()
    });
    let hosts =
        meta.extra_hosts.iter().map(|host| Object::new().string("Host", &host.host).string("IP", &host.ip).finish());
    let ulimits = meta.ulimits.iter().map(|limit| {
        Object::new().string("Name", &limit.name).number("Soft", limit.soft).number("Hard", limit.hard).finish()
    });
    Object::new()
        .strings("args", &meta.args)
        .strings("env", &meta.env)
        .string("cwd", &meta.cwd)
        .string("user", &meta.user)
        .optional("proxy_env", proxy)
        .list("extraHosts", hosts.collect())
        .string("hostname", &meta.hostname)
        .list("ulimit", ulimits.collect())
        .string("cgroupParent", &meta.cgroup_parent)
        .boolean("removeMountStubsRecursive", meta.remove_mount_stubs_recursive)
        .list("validExitCodes", meta.valid_exit_codes.iter().map(|&code| Value::from(code)).collect())
        .finish()
}

fn mount_value(mount: &Mount) -> Value {
    let object = Object::new()
        .number("input", index(mount.input))
        .string("selector", &mount.selector)
        .string("dest", &mount.target)
        .number("output", index(mount.output))
        .boolean("readonly", mount.readonly);
    let identified = |id: &str, uid: u32, gid: u32, mode: u32, optional: bool| {
        Object::new()
            .string("ID", id)
            .number("uid", uid.into())
            .number("gid", gid.into())
            .number("mode", mode.into())
            .boolean("optional", optional)
            .finish()
    };
    let object = match &mount.kind {
        MountKind::Bind => object,
        MountKind::Secret(secret) => {
            let value = identified(&secret.id, secret.uid, secret.gid, secret.mode, secret.optional);
            object.number("mountType", 1).value("secretOpt", value)
        }
        MountKind::Ssh(ssh) => {
            let value = identified(&ssh.id, ssh.uid, ssh.gid, ssh.mode, ssh.optional);
            object.number("mountType", 2).value("SSHOpt", value)
        }
        MountKind::Cache(cache) => {
            let sharing = match cache.sharing {
                CacheSharing::Shared => 0,
                CacheSharing::Private => 1,
                CacheSharing::Locked => 2,
            };
            let value = Object::new().string("ID", &cache.id).number("sharing", sharing).finish();
            object.number("mountType", 3).value("cacheOpt", value)
        }
        MountKind::Tmpfs { size } => {
            object.number("mountType", 4).value("TmpfsOpt", Object::new().number("size", *size).finish())
        }
    };
    let content_cache = match mount.content_cache {
        ContentCache::Default => 0,
        ContentCache::On => 1,
        ContentCache::Off => 2,
    };
    object.string("resultID", &mount.result_id).number("contentCache", content_cache).finish()
}

fn action_value(action: &FileAction) -> Value {
    let (name, value) = match &action.kind {
        FileActionKind::Copy(copy) => ("copy", copy_value(copy)),
        FileActionKind::Mkfile(file) => (
            "mkfile",
            Object::new()
                .string("path", &file.path)
                .number("mode", file.mode.into())
                .string("data", &base64(&file.data))
                .optional("owner", file.owner.as_ref().map(owner_value))
                .number("timestamp", file.timestamp.unwrap_or(-1))
                .finish(),
        ),
        FileActionKind::Mkdir(folder) => (
            "mkdir",
            Object::new()
                .string("path", &folder.path)
                .number("mode", folder.mode.into())
                .boolean("makeParents", folder.make_parents)
                .optional("owner", folder.owner.as_ref().map(owner_value))
                .number("timestamp", folder.timestamp.unwrap_or(-1))
                .finish(),
        ),
        FileActionKind::Rm(rm) => (
            "rm",
            Object::new()
                .string("path", &rm.path)
                .boolean("allowNotFound", rm.allow_not_found)
                .boolean("allowWildcard", rm.allow_wildcard)
                .finish(),
        ),
        FileActionKind::Symlink(link) => (
            "symlink",
            Object::new()
                .string("oldpath", &link.target)
                .string("newpath", &link.path)
                .optional("owner", link.owner.as_ref().map(owner_value))
                .number("timestamp", link.timestamp.unwrap_or(-1))
                .finish(),
        ),
    };
    Object::new()
        .value("input", Value::from(index(action.input)))
        .value("secondaryInput", Value::from(index(action.secondary_input)))
        .value("output", Value::from(index(action.output)))
        .value("Action", Object::new().value(name, value).finish())
        .finish()
}

fn copy_value(copy: &CopyAction) -> Value {
    let (mode, mode_text) = match &copy.mode {
        CopyMode::Keep => (-1, ""),
        CopyMode::Octal(bits) => (i64::from(*bits), ""),
        CopyMode::Symbolic(text) => (0, text.as_str()),
    };
    Object::new()
        .string("src", &copy.source)
        .string("dest", &copy.destination)
        .optional("owner", copy.owner.as_ref().map(owner_value))
        .number("mode", mode)
        .boolean("followSymlink", copy.follow_symlink)
        .boolean("dirCopyContents", copy.dir_copy_contents)
        .boolean("attemptUnpackDockerCompatibility", copy.attempt_unpack)
        .boolean("createDestPath", copy.create_dest_path)
        .boolean("allowWildcard", copy.allow_wildcard)
        .boolean("allowEmptyWildcard", copy.allow_empty_wildcard)
        .number("timestamp", copy.timestamp.unwrap_or(-1))
        .strings("include_patterns", &copy.include_patterns)
        .strings("exclude_patterns", &copy.exclude_patterns)
        .boolean("alwaysReplaceExistingDestPaths", copy.always_replace_existing_dest_paths)
        .string("modeStr", mode_text)
        .strings("required_paths", &copy.required_paths)
        .finish()
}

fn owner_value(chown: &Chown) -> Value {
    let user = |owner: &Owner| {
        let inner = match owner {
            Owner::Id(id) => Object::new().number("byId", (*id).into()),
            Owner::Name { name, input } => Object::new()
                .value("byName", Object::new().string("name", name).number("input", index(*input)).finish()),
        };
        Object::new().value("User", inner.finish()).finish()
    };
    Object::new()
        .optional("user", chown.user.as_ref().map(user))
        .optional("group", chown.group.as_ref().map(user))
        .finish()
}

fn build_value(build: &BuildOp) -> Value {
    let inputs: Map<String, Value> = build
        .inputs
        .iter()
        .map(|(name, &input)| (name.clone(), Object::new().number("input", input as i64).finish()))
        .collect();
    let definition = build.definition.as_ref().map(|definition| {
        let ops = definition.ops.iter().map(|op| Value::from(base64(op))).collect();
        let metadata: Map<String, Value> =
            definition.metadata.iter().map(|(digest, value)| (digest.to_string(), metadata_value(value))).collect();
        Object::new()
            .list("def", ops)
            .optional("metadata", (!metadata.is_empty()).then_some(Value::Object(metadata)))
            .finish()
    });
    Object::new()
        .number("builder", index(build.builder))
        .optional("inputs", (!inputs.is_empty()).then_some(Value::Object(inputs)))
        .optional("def", definition)
        .map("attrs", &build.attributes)
        .finish()
}

fn metadata_value(metadata: &OpMetadata) -> Value {
    let group = metadata.progress_group.as_ref().map(|group| {
        Object::new().string("id", &group.id).string("name", &group.name).boolean("weak", group.weak).finish()
    });
    Object::new()
        .boolean("ignore_cache", metadata.ignore_cache)
        .map("description", &metadata.description)
        .optional("export_cache", metadata.export_cache.map(|value| Object::new().boolean("Value", value).finish()))
        .map("caps", &metadata.caps)
        .optional("progress_group", group)
        .finish()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .enumerate()
            .fold(0u32, |bits, (position, &byte)| bits | u32::from(byte) << (16 - 8 * position));
        for position in 0..4 {
            if position <= chunk.len() {
                text.push(char::from(ALPHABET[(bits >> (18 - 6 * position)) as usize & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}
