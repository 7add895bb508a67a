//! `--call=targets`

use serde_json::{Map, Value, json};

use super::{bytes, first, location, print_json, table};
use crate::diagnostic::Diagnostic;
use crate::file::parse;
use crate::span::LineRange;

/// The stages that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The stages, in order.
    pub targets: Vec<Target>,
    source: String,
}

/// A stage that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name, or empty.
    pub name: String,
    /// Whether it is what is built without `--target`.
    pub is_default: bool,
    /// What the comment above says of it, or empty.
    pub description: String,
    /// What it begins with, as written.
    pub base: String,
    /// Its `--platform` as written, or empty.
    pub platform: String,
    /// The lines of its `FROM`.
    pub lines: LineRange,
}

/// Lists the stages of a Dockerfile.
///
/// # Errors
/// The first error of the file.
pub fn targets(text: &[u8]) -> Result<Targets, Box<Diagnostic>> {
    let (file, errors) = parse(text);
    if let Some(error) = first(errors) {
        return Err(error);
    }
    let count = file.stages.len();
    let targets = file.stages.into_iter().enumerate().map(|(index, stage)| Target {
        name: stage.name,
        is_default: index + 1 == count,
        description: stage.description,
        base: stage.base,
        platform: stage.platform,
        lines: stage.lines,
    });
    Ok(Targets { targets: targets.collect(), source: file.source })
}

impl Targets {
    /// A table of names and descriptions.
    pub fn to_text(&self) -> String {
        let names: Vec<String> = self.targets.iter().map(Target::label).collect();
        let mut rows = vec![vec!["TARGET", "DESCRIPTION"]];
        rows.extend(names.iter().zip(&self.targets).map(|(name, target)| vec![name.as_str(), &target.description]));
        table(&rows, 1)
    }

    /// All of it, with the Dockerfile in base64.
    pub fn to_json(&self) -> String {
        let targets: Vec<Value> = self.targets.iter().map(Target::to_json).collect();
        print_json(&json!({"targets": targets, "sources": [bytes(&self.source)]}))
    }
}

impl Target {
    fn label(&self) -> String {
        match (self.name.as_str(), self.is_default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        }
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        if !self.name.is_empty() {
            object.insert("name".to_owned(), self.name.clone().into());
        }
        if self.is_default {
            object.insert("default".to_owned(), true.into());
        }
        for (key, value) in [("description", &self.description), ("base", &self.base), ("platform", &self.platform)] {
            if !value.is_empty() {
                object.insert(key.to_owned(), value.clone().into());
            }
        }
        object.insert("location".to_owned(), location(&[self.lines]));
        object.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_listed_with_their_descriptions() {
        let text = "# build compiles the program\nFROM golang AS build\nFROM scratch\n";
        let targets = targets(text.as_bytes()).unwrap();
        assert_eq!(targets.to_text(), "TARGET    DESCRIPTION\nbuild     compiles the program\n(default) \n");
        let json: Value = serde_json::from_str(&targets.to_json()).unwrap();
        assert_eq!(
            json["targets"][1],
            json!({
                "default": true,
                "base": "scratch",
                "location": {"ranges": [{"start": {"line": 3}, "end": {"line": 3}}]},
            })
        );
    }
}
