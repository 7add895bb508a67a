//! Go's `text/template`, as far as `--format` flags of Docker and buildx use it.
//!
//! A template is parsed into a tree ([`Template`]) and executed over a [`Value`]. Error texts are those of Go, because
//! users look them up.

mod execute;
mod format;
mod functions;
mod lexer;
mod parse;
mod schema;
mod value;

pub use parse::Node;
pub use schema::{Field, Kind, Schema};
pub use value::{Struct, Value};

use thiserror::Error;

/// How the `json` function writes its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonStyle {
    /// On one line, as `docker`'s commands do.
    Compact,
    /// Indented by two blanks, as `buildx imagetools inspect` does.
    Indented,
}

/// Why a template was refused or failed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// The text is no template.
    #[error("template: :{line}: {message}")]
    Parse {
        /// Line of the mistake, counted from one.
        line: usize,
        /// What is wrong, in Go's words.
        message: String,
    },
    /// Executing the template failed.
    #[error("template: :{line}:{column}: executing \"\" at <{context}>: {message}")]
    Execute {
        /// Line of the node, counted from one.
        line: usize,
        /// Byte column of the node.
        column: usize,
        /// The node as text.
        context: String,
        /// What is wrong, in Go's words.
        message: String,
    },
}

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    text: String,
    nodes: Vec<Node>,
    definitions: Vec<(String, Vec<Node>)>,
}

impl Template {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`TemplateError::Parse`] with the line of the first mistake.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (nodes, definitions) = parse::parse(text)?;
        Ok(Self { text: text.to_owned(), nodes, definitions })
    }

    /// Executes the template over `dot` and returns what it printed.
    ///
    /// # Errors
    /// [`TemplateError::Execute`] naming the node that failed.
    pub fn execute(&self, dot: &Value, style: JsonStyle) -> Result<String, TemplateError> {
        execute::execute(&self.text, &self.nodes, &self.definitions, dot, style)
    }

    /// Whether the template is the single action `{{.Manifest}}` or the like: one pipeline that is this field and
    /// nothing else.
    pub fn is_only_field(&self, name: &str) -> bool {
        let mut actions = self.nodes.iter().filter(|node| !matches!(node, Node::Text(text) if text.trim().is_empty()));
        match (actions.next(), actions.next()) {
            (Some(Node::Action(pipe)), None) => pipe.is_only_field(name),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
