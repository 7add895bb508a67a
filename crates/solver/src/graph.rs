//! The graph as the scheduler sees it.

use std::collections::HashMap;
use std::sync::Arc;

use onetag_llb::Edge;
use onetag_oci::Digest;

use crate::error::GraphError;

/// What the scheduler needs to know of a vertex; the rest is between the vertex and the worker.
pub trait Vertex: Send + Sync {
    /// The digest of the definition. Vertices of equal digest MUST be interchangeable.
    fn digest(&self) -> &Digest;
    /// The outputs that this vertex is made from, in the order in which its operation counts them.
    fn inputs(&self) -> Vec<Edge>;
    /// The name shown to the user.
    fn name(&self) -> String;
    /// Whether the vertex is executed even when the cache has its result.
    fn ignore_cache(&self) -> bool;
}

/// Vertices by digest, inputs before the vertices that use them.
pub struct Graph<V> {
    vertices: Vec<Arc<V>>,
    positions: HashMap<Digest, usize>,
}

impl<V: Vertex> Default for Graph<V> {
    fn default() -> Self {
        Self { vertices: Vec::new(), positions: HashMap::new() }
    }
}

impl<V: Vertex> Graph<V> {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a vertex unless its digest is already there. Inputs MUST have been added before.
    ///
    /// # Errors
    /// [`GraphError::MissingInput`] names the input that is not there.
    pub fn add(&mut self, vertex: Arc<V>) -> Result<(), GraphError> {
        let digest = vertex.digest().clone();
        if self.positions.contains_key(&digest) {
            return Ok(());
        }
        if let Some(edge) = vertex.inputs().into_iter().find(|edge| !self.positions.contains_key(&edge.vertex)) {
            return Err(GraphError::MissingInput { vertex: digest, input: edge.vertex });
        }
        self.positions.insert(digest, self.vertices.len());
        self.vertices.push(vertex);
        Ok(())
    }

    /// The vertices, inputs first.
    pub fn vertices(&self) -> &[Arc<V>] {
        &self.vertices
    }

    /// The vertex of that digest.
    pub fn get(&self, digest: &Digest) -> Option<&Arc<V>> {
        self.position(digest).map(|position| &self.vertices[position])
    }

    pub(crate) fn position(&self, digest: &Digest) -> Option<usize> {
        self.positions.get(digest).copied()
    }
}

impl Vertex for onetag_llb::Vertex {
    fn digest(&self) -> &Digest {
        &self.digest
    }

    fn inputs(&self) -> Vec<Edge> {
        self.inputs.clone()
    }

    fn name(&self) -> String {
        onetag_llb::Vertex::name(self)
    }

    fn ignore_cache(&self) -> bool {
        self.metadata.ignore_cache
    }
}

impl TryFrom<&onetag_llb::Graph> for Graph<onetag_llb::Vertex> {
    type Error = GraphError;

    fn try_from(graph: &onetag_llb::Graph) -> Result<Self, GraphError> {
        let mut result = Self::new();
        for vertex in graph.vertices() {
            result.add(Arc::clone(vertex))?;
        }
        Ok(result)
    }
}
