//! The build graph of one platform as numbered steps, and where in the Dockerfile they come from. Pure.

use std::collections::HashMap;

use onetag_dockerfile::Lowered;
use onetag_dockerfile::redact::user_info_in_place;
use onetag_llb::{Edge, OpKind, Position, op_json, result_json};
use onetag_oci::Digest;
use serde_json::{Map, Value, json};

use super::VertexLayers;
use super::sources::redacted;
use crate::encoding::base64;

/// The vertices that a result needs, inputs first, and the op that names it.
pub(super) struct Steps {
    definition: Vec<Value>,
    numbers: HashMap<Digest, usize>,
    order: Vec<Digest>,
}

impl Steps {
    pub(super) fn of(lowered: &Lowered) -> Self {
        let mut steps = Self { definition: Vec::new(), numbers: HashMap::new(), order: Vec::new() };
        let Some(result) = &lowered.result else { return steps };
        steps.walk(lowered, result);
        let number = steps.definition.len();
        let input = steps.input(result);
        steps.definition.push(json!({ "id": format!("step{number}"), "op": result_json(), "inputs": [input] }));
        steps
    }

    /// Depth first: the recursion goes as deep as the chain of instructions, which the Dockerfile's size bounds; an
    /// own stack keeps it off the thread's.
    fn walk(&mut self, lowered: &Lowered, root: &Edge) {
        let mut open = vec![(root.vertex.clone(), 0)];
        while let Some((digest, next)) = open.pop() {
            if self.numbers.contains_key(&digest) {
                continue;
            }
            let Some(vertex) = lowered.graph.get(&digest) else { continue };
            if let Some(input) = vertex.inputs.get(next) {
                open.push((digest, next + 1));
                open.push((input.vertex.clone(), 0));
                continue;
            }
            let mut op = vertex.op.clone();
            op.inputs.clear();
            if let OpKind::Source(source) = &mut op.kind {
                // Neither tells of the build.
                source.attributes.retain(|name, _| name != "local.session" && name != "local.unique");
                source.identifier = redacted(&source.identifier);
                source.attributes.values_mut().for_each(|value| *value = redacted(value));
            }
            let number = self.definition.len();
            let inputs: Vec<String> = vertex.inputs.iter().map(|input| self.input(input)).collect();
            let mut step = Map::new();
            step.insert("id".to_owned(), json!(format!("step{number}")));
            step.insert("op".to_owned(), op_json(&op));
            if !inputs.is_empty() {
                step.insert("inputs".to_owned(), json!(inputs));
            }
            self.definition.push(Value::Object(step));
            self.numbers.insert(digest.clone(), number);
            self.order.push(digest);
        }
    }

    fn input(&self, edge: &Edge) -> String {
        let number = self.numbers.get(&edge.vertex).copied().unwrap_or_default();
        format!("step{number}:{}", edge.output)
    }

    /// All steps, and which digest is which step.
    pub(super) fn build_config(&self) -> Value {
        let mapping: Map<String, Value> = self
            .order
            .iter()
            .enumerate()
            .map(|(number, digest)| (digest.to_string(), json!(format!("step{number}"))))
            .collect();
        json!({ "llbDefinition": self.definition, "digestMapping": mapping })
    }

    /// The layers of steps whose results are blobs.
    pub(super) fn layers(&self, known: &VertexLayers) -> Map<String, Value> {
        let entry = |(number, digest): (usize, &Digest)| Some((format!("step{number}:0"), json!([known.get(digest)?])));
        self.order.iter().enumerate().filter_map(entry).collect()
    }
}

/// The texts that the steps come from, and from where in them.
pub(super) fn source_map(lowered: &Lowered, steps: &Steps) -> Option<Value> {
    let sources = lowered.graph.source_map();
    if sources.files.is_empty() {
        return None;
    }
    let infos: Vec<Value> = sources
        .files
        .iter()
        .map(|file| {
            json!({
                "filename": file.filename,
                "language": file.language,
                "data": base64(user_info_in_place(&String::from_utf8_lossy(&file.data)).as_bytes()),
            })
        })
        .collect();
    let position = |position: Position| match position.character {
        0 => json!({ "line": position.line }),
        character => json!({ "line": position.line, "character": character }),
    };
    let mut locations = Map::new();
    for (number, digest) in steps.order.iter().enumerate() {
        let Some(known) = sources.locations.get(digest) else { continue };
        let location = |location: &onetag_llb::Location| {
            let ranges: Vec<Value> = location
                .ranges
                .iter()
                .map(|range| json!({ "start": position(range.start), "end": position(range.end) }))
                .collect();
            match location.file {
                0 => json!({ "ranges": ranges }),
                file => json!({ "sourceIndex": file, "ranges": ranges }),
            }
        };
        let list: Vec<Value> = known.iter().map(location).collect();
        locations.insert(format!("step{number}"), json!({ "locations": list }));
    }
    Some(json!({ "locations": locations, "infos": infos }))
}
