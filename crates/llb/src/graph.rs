//! Vertices in topological order, equal ones once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use onetag_oci::Digest;

use crate::{GraphError, Location, Op, OpMetadata, SourceFile, SourceMap, SourceRange};

/// One output of a vertex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The vertex.
    pub vertex: Digest,
    /// Which of its outputs.
    pub output: usize,
}

/// An operation in the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    /// The digest of the operation's encoding.
    pub digest: Digest,
    /// The operation.
    pub op: Op,
    /// Name, capabilities and so on; they do not count for the digest.
    pub metadata: OpMetadata,
    /// The operation's inputs.
    pub inputs: Vec<Edge>,
}

impl Vertex {
    /// What progress calls the vertex: its name, or its digest when it has none.
    pub fn name(&self) -> String {
        self.metadata.name().map_or_else(|| self.digest.to_string(), str::to_owned)
    }
}

/// Vertices in topological order (every vertex after its inputs), no two of the same digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    vertices: Vec<Arc<Vertex>>,
    index: HashMap<Digest, usize>,
    roots: Vec<Edge>,
    sources: SourceMap,
}

impl Graph {
    /// All vertices, each after its inputs.
    pub fn vertices(&self) -> &[Arc<Vertex>] {
        &self.vertices
    }

    /// The results that are asked for.
    pub fn roots(&self) -> &[Edge] {
        &self.roots
    }

    /// The vertex of a digest.
    pub fn get(&self, digest: &Digest) -> Option<&Arc<Vertex>> {
        self.index.get(digest).map(|&position| &self.vertices[position])
    }

    /// How many vertices there are.
    pub fn len(&self) -> usize {
        self.vertices.len()
    }

    /// Whether there is no vertex: the result is an empty file system.
    pub fn is_empty(&self) -> bool {
        self.vertices.is_empty()
    }

    /// The texts that vertices come from, and from where in them.
    pub fn source_map(&self) -> &SourceMap {
        &self.sources
    }

    /// Where in the source text a vertex comes from.
    pub fn source_ranges(&self, digest: &Digest) -> Vec<SourceRange> {
        let locations = self.sources.locations.get(digest);
        locations.into_iter().flatten().flat_map(|location| location.ranges.iter().copied()).collect()
    }

    /// Puts graphs together; vertices of equal digest become one, with the metadata of the first graph that has it.
    /// The roots are those of all graphs in their order, equal ones kept.
    pub fn merge<'a>(graphs: impl IntoIterator<Item = &'a Graph>) -> Graph {
        let mut merged = Graph::default();
        for graph in graphs {
            for vertex in &graph.vertices {
                if let Some(&position) = merged.index.get(&vertex.digest) {
                    if vertex.metadata.ignore_cache {
                        Arc::make_mut(&mut merged.vertices[position]).metadata.ignore_cache = true;
                    }
                } else {
                    merged.index.insert(vertex.digest.clone(), merged.vertices.len());
                    merged.vertices.push(Arc::clone(vertex));
                }
            }
            merged.roots.extend(graph.roots.iter().cloned());
            merged.add_sources(&graph.sources);
        }
        merged
    }

    fn add_sources(&mut self, sources: &SourceMap) {
        let files: Vec<usize> = sources.files.iter().map(|file| self.file_position(file)).collect();
        for (digest, locations) in &sources.locations {
            self.sources.locations.entry(digest.clone()).or_insert_with(|| {
                let moved = |location: &Location| Location { file: files[location.file], ..location.clone() };
                locations.iter().map(moved).collect()
            });
        }
    }

    fn file_position(&mut self, file: &SourceFile) -> usize {
        match self.sources.files.iter().position(|known| known == file) {
            Some(position) => position,
            None => {
                self.sources.files.push(file.clone());
                self.sources.files.len() - 1
            }
        }
    }
}

/// Makes a [`Graph`], vertex by vertex, inputs first.
#[derive(Debug, Default)]
pub struct Builder {
    vertices: Vec<Vertex>,
    index: HashMap<Digest, usize>,
    locations: BTreeMap<Digest, Vec<Location>>,
}

impl Builder {
    /// Adds an operation and returns its digest. An equal operation is there once; the later metadata wins where both
    /// say something.
    ///
    /// # Errors
    /// An input that was not added before.
    pub fn add(&mut self, op: Op, metadata: OpMetadata) -> Result<Digest, GraphError> {
        let digest = op.digest();
        if let Some(&position) = self.index.get(&digest) {
            self.vertices[position].metadata.merge(&metadata);
            return Ok(digest);
        }
        if let Some(edge) = op.inputs.iter().find(|edge| !self.index.contains_key(&edge.vertex)) {
            return Err(GraphError::MissingInput { vertex: digest, input: edge.vertex.clone() });
        }
        self.index.insert(digest.clone(), self.vertices.len());
        let inputs = op.inputs.clone();
        self.vertices.push(Vertex { digest: digest.clone(), op, metadata, inputs });
        Ok(digest)
    }

    /// Says where in the source text a vertex comes from.
    pub fn locate(&mut self, digest: &Digest, location: Location) {
        let known = self.locations.entry(digest.clone()).or_default();
        if !known.contains(&location) {
            known.push(location);
        }
    }

    /// The graph with the results that are asked for.
    ///
    /// # Errors
    /// A root that was not added.
    pub fn finish(self, roots: Vec<Edge>, files: Vec<SourceFile>) -> Result<Graph, GraphError> {
        for root in &roots {
            if !self.index.contains_key(&root.vertex) {
                return Err(GraphError::MissingInput { vertex: root.vertex.clone(), input: root.vertex.clone() });
            }
        }
        let mut locations = self.locations;
        locations.retain(|_, list| {
            list.retain(|location| location.file < files.len());
            !list.is_empty()
        });
        Ok(Graph {
            vertices: self.vertices.into_iter().map(Arc::new).collect(),
            index: self.index,
            roots,
            sources: SourceMap { files, locations },
        })
    }
}
