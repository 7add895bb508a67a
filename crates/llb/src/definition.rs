//! A definition as BuildKit exchanges it.

use std::collections::BTreeMap;

use onetag_oci::Digest;

use crate::wire::Writer;
use crate::{Edge, Graph, OpMetadata, SourceMap, capability, encode};

/// Encoded ops, the last of which names the result, with metadata beside them (`pb.Definition`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// Encoded ops in topological order. The last has one input and nothing else; none at all means an empty result.
    pub ops: Vec<Vec<u8>>,
    /// Metadata by digest of the op.
    pub metadata: BTreeMap<Digest, OpMetadata>,
    /// Where the ops come from.
    pub source: Option<SourceMap>,
}

impl Definition {
    /// How many bytes [`Definition::decode`] reads at most.
    pub const SIZE_LIMIT: usize = 64 << 20;

    /// The message's bytes, map keys sorted.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        encode::definition(&mut writer, self);
        writer.finish()
    }
}

impl Graph {
    /// The definition of one result, which must be one of the graph's edges: the vertices it needs, in the graph's
    /// order, and the op that names it.
    pub fn definition(&self, root: &Edge) -> Definition {
        let needed = self.reachable(root);
        let mut definition = Definition::default();
        let mut terminal = OpMetadata::default();
        terminal.add_capability(capability::CONSTRAINTS);
        terminal.add_capability(capability::PLATFORM);
        for vertex in self.vertices().iter().filter(|vertex| needed.contains(&vertex.digest)) {
            let metadata = &vertex.metadata;
            if metadata.ignore_cache {
                terminal.add_capability(capability::META_IGNORE_CACHE);
            }
            if !metadata.description.is_empty() {
                terminal.add_capability(capability::META_DESCRIPTION);
            }
            if metadata.export_cache.is_some() {
                terminal.add_capability(capability::META_EXPORT_CACHE);
            }
            definition.ops.push(vertex.op.encode());
            definition.metadata.insert(vertex.digest.clone(), metadata.clone());
        }
        let last = encode::terminal(root);
        definition.metadata.insert(Digest::sha256(&last), terminal);
        definition.ops.push(last);
        let mut sources = self.source_map().clone();
        sources.locations.retain(|digest, _| needed.contains(digest));
        definition.source = Some(sources);
        definition
    }

    /// [`Graph::definition`] of the first root, encoded; an empty definition when there is no root.
    pub fn to_definition(&self) -> Vec<u8> {
        self.roots().first().map(|root| self.definition(root)).unwrap_or_default().encode()
    }

    fn reachable(&self, root: &Edge) -> std::collections::HashSet<Digest> {
        let mut found = std::collections::HashSet::new();
        let mut open = vec![root.vertex.clone()];
        while let Some(digest) = open.pop() {
            if let Some(vertex) = self.get(&digest)
                && found.insert(digest)
            {
                open.extend(vertex.inputs.iter().map(|edge| edge.vertex.clone()));
            }
        }
        found
    }
}
