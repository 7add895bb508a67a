//! YAML as a tree whose scalars know their bytes. Nothing is ever written back from the tree.

mod find;
mod variables;

use std::collections::HashMap;
use std::ops::Range;

use onetag_dockerfile::span::Position;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

pub(super) use find::occurrences;

/// How deep collections may nest.
const MAX_DEPTH: usize = 128;

/// How many mappings are looked through for one key.
const MAX_MERGES: usize = 64;

/// How many nodes a file may have.
const MAX_NODES: usize = 1 << 20;

/// Why a text is no YAML that can be looked through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    Encoding,
    /// Broken syntax.
    #[error("{problem}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// Nested without an end.
    #[error("it is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Larger than anybody's, or made so by aliases.
    #[error("it has more than {MAX_NODES} nodes or names as many containers")]
    TooLarge,
}

/// All documents of a file.
#[derive(Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
    roots: Vec<usize>,
}

#[derive(Debug)]
enum Node {
    Scalar(Scalar),
    Sequence(Vec<usize>),
    Mapping(Mapping),
    Alias(Option<usize>),
}

#[derive(Debug, Default)]
struct Mapping {
    /// Keys and values in order.
    entries: Vec<(usize, usize)>,
    /// The values of the keys that are scalars.
    by_key: HashMap<String, usize>,
}

#[derive(Debug)]
struct Scalar {
    value: String,
    style: ScalarStyle,
    bytes: Range<usize>,
    position: Position,
}

/// A collection that is not closed yet.
enum Open {
    Sequence(usize),
    Mapping(usize, Option<usize>),
}

impl Tree {
    fn parse(text: &str) -> Result<Tree, YamlError> {
        let offsets = Offsets::new(text);
        let mut tree = Tree::default();
        let mut open: Vec<Open> = Vec::new();
        let mut anchors: HashMap<usize, usize> = HashMap::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| YamlError::Syntax {
                line: error.marker().line(),
                column: error.marker().col() + 1,
                problem: error.info().to_owned(),
            })?;
            let (node, anchor) = match event {
                Event::Scalar(value, style, anchor, _) => {
                    (Node::Scalar(offsets.scalar(value.into_owned(), style, &span)), anchor)
                }
                Event::SequenceStart(anchor, _) => (Node::Sequence(Vec::new()), anchor),
                Event::MappingStart(anchor, _) => (Node::Mapping(Mapping::default()), anchor),
                Event::Alias(anchor) => (Node::Alias(anchors.get(&anchor).copied()), 0),
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                    continue;
                }
                _ => continue,
            };
            let id = tree.nodes.len();
            if id >= MAX_NODES {
                return Err(YamlError::TooLarge);
            }
            if anchor > 0 {
                anchors.insert(anchor, id);
            }
            let opened = match &node {
                Node::Sequence(_) => Some(Open::Sequence(id)),
                Node::Mapping(_) => Some(Open::Mapping(id, None)),
                _ => None,
            };
            tree.nodes.push(node);
            tree.attach(open.last_mut(), id);
            open.extend(opened);
            if open.len() > MAX_DEPTH {
                return Err(YamlError::TooDeep);
            }
        }
        Ok(tree)
    }

    fn attach(&mut self, parent: Option<&mut Open>, id: usize) {
        match parent {
            None => self.roots.push(id),
            Some(Open::Sequence(parent)) => {
                if let Node::Sequence(items) = &mut self.nodes[*parent] {
                    items.push(id);
                }
            }
            Some(Open::Mapping(_, key @ None)) => *key = Some(id),
            Some(Open::Mapping(parent, key)) => {
                let Some(key) = key.take() else { return };
                let name = self.scalar(key).map(|scalar| scalar.value.clone());
                if let Node::Mapping(mapping) = &mut self.nodes[*parent] {
                    mapping.entries.push((key, id));
                    if let Some(name) = name {
                        mapping.by_key.insert(name, id);
                    }
                }
            }
        }
    }

    /// The node, or the one that an alias stands for.
    fn node(&self, id: usize) -> &Node {
        match &self.nodes[id] {
            Node::Alias(Some(target)) => &self.nodes[*target],
            node => node,
        }
    }

    fn scalar(&self, id: usize) -> Option<&Scalar> {
        match self.node(id) {
            Node::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    fn mapping(&self, id: usize) -> Option<&Mapping> {
        match self.node(id) {
            Node::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    fn items(&self, id: usize) -> &[usize] {
        match self.node(id) {
            Node::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The value of a key of a mapping, also through `<<`.
    fn get(&self, mapping: usize, key: &str) -> Option<usize> {
        // Merges of merges end here, also those of anchors that contain themselves.
        let mut pending = vec![mapping];
        for _ in 0..MAX_MERGES {
            let mapping = self.mapping(pending.pop()?);
            if let Some(value) = mapping.and_then(|mapping| mapping.by_key.get(key)) {
                return Some(*value);
            }
            let Some(&merged) = mapping.and_then(|mapping| mapping.by_key.get("<<")) else { continue };
            match self.node(merged) {
                Node::Sequence(items) => pending.extend(items.iter().take(MAX_MERGES).rev()),
                _ => pending.push(merged),
            }
        }
        None
    }
}

/// From the parser's characters to bytes.
struct Offsets {
    /// The byte of each character; None where they are the same.
    bytes: Option<Vec<usize>>,
    length: usize,
}

impl Offsets {
    fn new(text: &str) -> Self {
        let bytes = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Offsets { bytes, length: text.len() }
    }

    fn byte(&self, character: usize) -> usize {
        match &self.bytes {
            None => character.min(self.length),
            Some(bytes) => bytes.get(character).copied().unwrap_or(self.length),
        }
    }

    fn scalar(&self, value: String, style: ScalarStyle, span: &Span) -> Scalar {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Scalar {
            value,
            style,
            bytes: self.byte(span.start.index())..self.byte(span.end.index()),
            position: Position { line: number(span.start.line()), column: number(span.start.col() + 1) },
        }
    }
}

#[cfg(test)]
mod tests;
