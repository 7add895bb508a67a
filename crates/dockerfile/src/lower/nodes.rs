//! Operations while they are collected. Digests come last: the main context's source lists the paths that all
//! stages need, and everything that copies from it depends on that list.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use onetag_llb::{
    Builder, Edge, ExecOp, FileAction, FileActionKind, FileOp, Graph, GraphError, Location, MergeOp, Mount, MountKind,
    Op, OpKind, OpMetadata, Position, SourceFile, SourceOp, SourceRange, attribute, capability,
};
use onetag_oci::{Platform, go_json};

use crate::span::LineRange;

/// A vertex that has no digest yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(usize);

/// A set of paths of a context that several stages may add to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathSet(usize);

/// A file system: the first output of a node, or nothing.
pub(crate) type Output = Option<NodeId>;

pub(crate) enum NodeKind {
    /// A source that needs nothing more.
    Source(SourceOp),
    /// A local folder of which only some paths are needed.
    Local(LocalNode),
    /// A command; its mounts are not sorted yet.
    Exec(Box<ExecOp>, Vec<MountNode>),
    /// File actions upon a base.
    File(Output, Vec<FileNode>),
    /// Results laid over each other.
    Merge(Vec<NodeId>),
    /// Another node's result, set when everything is known.
    Alias(Output),
}

/// A local folder.
pub(crate) struct LocalNode {
    pub name: String,
    pub excludes: Vec<String>,
    pub shared_key: String,
    pub unique: String,
    pub paths: PathSet,
}

/// A mount whose input is a node.
pub(crate) struct MountNode {
    pub source: Output,
    pub mount: Mount,
    /// Whether the changed content is a result of the op.
    pub has_output: bool,
}

/// A file action whose secondary input is a node.
pub(crate) struct FileNode {
    pub source: Output,
    pub kind: FileActionKind,
}

/// What every node has.
#[derive(Clone, Default)]
pub(crate) struct NodeOptions {
    pub platform: Option<Platform>,
    pub metadata: OpMetadata,
    pub lines: Option<LineRange>,
}

impl NodeOptions {
    pub(crate) fn named(name: impl Into<String>) -> NodeOptions {
        let mut options = NodeOptions::default();
        options.metadata.set_name(name);
        options
    }

    pub(crate) fn command(mut self, text: &str) -> NodeOptions {
        self.metadata.description.insert(OpMetadata::COMMAND.to_owned(), text.to_owned());
        self
    }

    pub(crate) fn platform(mut self, platform: &Platform) -> NodeOptions {
        self.platform = Some(platform.clone());
        self
    }

    pub(crate) fn lines(mut self, lines: LineRange) -> NodeOptions {
        self.lines = Some(lines);
        self
    }

    pub(crate) fn capability(mut self, name: &str) -> NodeOptions {
        self.metadata.add_capability(name);
        self
    }

    pub(crate) fn ignore_cache(mut self, ignore: bool) -> NodeOptions {
        self.metadata.ignore_cache |= ignore;
        self
    }
}

struct Node {
    kind: NodeKind,
    options: NodeOptions,
}

/// All nodes of one lowering.
#[derive(Default)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    paths: Vec<BTreeSet<String>>,
}

impl Nodes {
    pub(crate) fn add(&mut self, kind: NodeKind, options: NodeOptions) -> NodeId {
        self.nodes.push(Node { kind, options });
        NodeId(self.nodes.len() - 1)
    }

    /// Sets what an alias stands for.
    pub(crate) fn resolve_alias(&mut self, alias: NodeId, output: Output) {
        self.nodes[alias.0].kind = NodeKind::Alias(output);
    }

    pub(crate) fn path_set(&mut self) -> PathSet {
        self.paths.push(BTreeSet::new());
        PathSet(self.paths.len() - 1)
    }

    pub(crate) fn need_path(&mut self, set: PathSet, path: &str) {
        self.paths[set.0].insert(path.to_owned());
    }

    /// The graph of what a result needs, in the order in which BuildKit lists it.
    pub(crate) fn graph(
        &self,
        result: Output,
        default_platform: &Platform,
        file: SourceFile,
    ) -> Result<Graph, GraphError> {
        let mut marshal = Marshal { nodes: self, default_platform, builder: Builder::default(), edges: HashMap::new() };
        let root = marshal.edge(result)?;
        let roots = root.into_iter().collect();
        marshal.builder.finish(roots, vec![file])
    }

    /// Follows aliases.
    fn target(&self, output: Output) -> Output {
        let mut current = output;
        while let Some(id) = current
            && let NodeKind::Alias(next) = self.nodes[id.0].kind
        {
            current = next;
        }
        current
    }
}

struct Marshal<'a> {
    nodes: &'a Nodes,
    default_platform: &'a Platform,
    builder: Builder,
    edges: HashMap<NodeId, Edge>,
}

impl Marshal<'_> {
    /// The edge to a result, after everything that it needs was added. Works on a stack of its own: a chain of
    /// instructions may be long.
    fn edge(&mut self, output: Output) -> Result<Option<Edge>, GraphError> {
        let Some(root) = self.nodes.target(output) else { return Ok(None) };
        let mut stack = vec![root];
        while let Some(&id) = stack.last() {
            if self.edges.contains_key(&id) {
                stack.pop();
                continue;
            }
            match self.needs(id).into_iter().find(|needed| !self.edges.contains_key(needed)) {
                Some(needed) => stack.push(needed),
                None => {
                    let edge = self.add(id)?;
                    self.edges.insert(id, edge);
                    stack.pop();
                }
            }
        }
        Ok(self.edges.get(&root).cloned())
    }

    /// What a node needs, in the order in which BuildKit visits it.
    fn needs(&self, id: NodeId) -> Vec<NodeId> {
        let outputs: Vec<Output> = match &self.nodes.nodes[id.0].kind {
            NodeKind::Source(_) | NodeKind::Local(_) | NodeKind::Alias(_) => Vec::new(),
            NodeKind::Exec(_, mounts) => sorted(mounts).into_iter().map(|mount| mount.source).collect(),
            NodeKind::File(base, actions) => {
                std::iter::once(*base).chain(actions.iter().rev().map(|action| action.source)).collect()
            }
            NodeKind::Merge(inputs) => inputs.iter().copied().map(Some).collect(),
        };
        outputs.into_iter().filter_map(|output| self.nodes.target(output)).collect()
    }

    fn add(&mut self, id: NodeId) -> Result<Edge, GraphError> {
        let node = &self.nodes.nodes[id.0];
        let mut options = node.options.clone();
        let mut inputs = Vec::new();
        let (kind, has_platform) = match &node.kind {
            NodeKind::Source(source) => {
                let identifier = &source.identifier;
                let specific = identifier.starts_with("docker-image://") || identifier.starts_with("oci-layout://");
                (OpKind::Source(source.clone()), specific)
            }
            NodeKind::Local(local) => (OpKind::Source(self.local(local, &mut options.metadata)), false),
            NodeKind::Exec(exec, mounts) => (self.exec(exec, mounts, &mut inputs), true),
            NodeKind::File(base, actions) => (self.file(*base, actions, &mut inputs), false),
            NodeKind::Merge(parts) => {
                for &part in parts {
                    inputs.extend(self.known(Some(part)));
                }
                (OpKind::Merge(MergeOp { inputs: (0..inputs.len()).collect() }), false)
            }
            NodeKind::Alias(_) => unreachable!("aliases are followed before"),
        };
        let platform = options.platform.unwrap_or_else(|| self.default_platform.clone());
        let op = Op { inputs, kind, platform: has_platform.then_some(platform), constraints: Vec::new() };
        let digest = self.builder.add(op, options.metadata)?;
        if let Some(lines) = options.lines {
            let at = |line| Position { line, character: 0 };
            let ranges = (lines.start..=lines.end).map(|line| SourceRange { start: at(line), end: at(line) });
            self.builder.locate(&digest, Location { file: 0, ranges: ranges.collect() });
        }
        Ok(Edge { vertex: digest, output: 0 })
    }

    fn known(&self, output: Output) -> Option<Edge> {
        self.nodes.target(output).and_then(|id| self.edges.get(&id)).cloned()
    }

    /// The position of a result among the inputs, where it is put unless it is there.
    fn input(&self, output: Output, inputs: &mut Vec<Edge>) -> Option<usize> {
        let edge = self.known(output)?;
        Some(inputs.iter().position(|known| *known == edge).unwrap_or_else(|| {
            inputs.push(edge);
            inputs.len() - 1
        }))
    }

    fn local(&self, local: &LocalNode, metadata: &mut OpMetadata) -> SourceOp {
        let mut attributes = BTreeMap::new();
        let mut set = |name: &str, value: String, capability: &str| {
            attributes.insert(name.to_owned(), value);
            metadata.add_capability(capability);
        };
        let list = |values: &[String]| String::from_utf8_lossy(&go_json(values)).into_owned();
        let paths = needed_paths(&self.nodes.paths[local.paths.0]);
        if !paths.is_empty() {
            set(attribute::FOLLOW_PATHS, list(&paths), capability::SOURCE_LOCAL_FOLLOW_PATHS);
        }
        if !local.excludes.is_empty() {
            set(attribute::EXCLUDE_PATTERNS, list(&local.excludes), capability::SOURCE_LOCAL_EXCLUDE_PATTERNS);
        }
        if !local.shared_key.is_empty() {
            set(attribute::SHARED_KEY_HINT, local.shared_key.clone(), capability::SOURCE_LOCAL_SHARED_KEY_HINT);
        }
        set(attribute::LOCAL_UNIQUE, local.unique.clone(), capability::SOURCE_LOCAL_UNIQUE);
        metadata.add_capability(capability::SOURCE_LOCAL);
        SourceOp { identifier: format!("local://{}", local.name), attributes }
    }

    fn exec(&self, exec: &ExecOp, mounts: &[MountNode], inputs: &mut Vec<Edge>) -> OpKind {
        let mut exec = exec.clone();
        let mut outputs = 0;
        let mut placed = Vec::new();
        for node in sorted(mounts) {
            let mut mount = node.mount.clone();
            mount.input = self.input(node.source, inputs);
            mount.output = node.has_output.then_some(outputs);
            outputs += usize::from(node.has_output);
            placed.push(mount);
        }
        // Secrets and agents come after everything that has an input, in their own order.
        placed.append(&mut exec.mounts);
        exec.mounts = placed;
        OpKind::Exec(Box::new(exec))
    }

    fn file(&self, base: Output, actions: &[FileNode], inputs: &mut Vec<Edge>) -> OpKind {
        let base = self.input(base, inputs);
        let sources: Vec<Option<usize>> = actions.iter().map(|action| self.input(action.source, inputs)).collect();
        let last = actions.len().saturating_sub(1);
        let place = |position: usize, action: &FileNode| FileAction {
            input: if position == 0 { base } else { Some(inputs.len() + position - 1) },
            secondary_input: sources[position],
            output: (position == last).then_some(0),
            kind: with_base(&action.kind, base),
        };
        let actions = actions.iter().enumerate().map(|(position, action)| place(position, action)).collect();
        OpKind::File(FileOp { actions })
    }
}

/// Mounts with an input, by target; the root comes first.
fn sorted(mounts: &[MountNode]) -> Vec<&MountNode> {
    let mut sorted: Vec<&MountNode> = mounts.iter().collect();
    sorted.sort_by(|a, b| a.mount.target.cmp(&b.mount.target));
    sorted
}

/// Names of owners are looked up in the base.
fn with_base(kind: &FileActionKind, base: Option<usize>) -> FileActionKind {
    let mut kind = kind.clone();
    let owner = match &mut kind {
        FileActionKind::Copy(copy) => &mut copy.owner,
        FileActionKind::Mkfile(file) => &mut file.owner,
        FileActionKind::Mkdir(folder) => &mut folder.owner,
        FileActionKind::Symlink(link) => &mut link.owner,
        FileActionKind::Rm(_) => return kind,
    };
    if let Some(chown) = owner {
        for owner in [&mut chown.user, &mut chown.group].into_iter().flatten() {
            if let onetag_llb::Owner::Name { input, .. } = owner {
                *input = base;
            }
        }
    }
    kind
}

/// The paths that a context must hold, relative and sorted; none where all of it is needed.
fn needed_paths(paths: &BTreeSet<String>) -> Vec<String> {
    if paths.contains("/") {
        return Vec::new();
    }
    let mut relative: Vec<String> = paths.iter().map(|path| super::paths::join(".", path)).collect();
    relative.sort();
    relative
}

/// What a mount says it needs of the one who runs it.
pub(crate) fn mount_capabilities(node: &MountNode, metadata: &mut OpMetadata) {
    if !node.mount.selector.is_empty() {
        metadata.add_capability(capability::EXEC_MOUNT_SELECTOR);
    }
    match &node.mount.kind {
        MountKind::Cache(_) => {
            metadata.add_capability(capability::EXEC_MOUNT_CACHE);
            metadata.add_capability(capability::EXEC_MOUNT_CACHE_SHARING);
        }
        MountKind::Tmpfs { size } => {
            metadata.add_capability(capability::EXEC_MOUNT_TMPFS);
            if *size > 0 {
                metadata.add_capability(capability::EXEC_MOUNT_TMPFS_SIZE);
            }
        }
        _ if node.source.is_some() => metadata.add_capability(capability::EXEC_MOUNT_BIND),
        _ => {}
    }
}
