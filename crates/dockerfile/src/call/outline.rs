//! `--call=outline`

use serde_json::{Map, Value, json};

use super::{bytes, location, print_json, table};
use crate::diagnostic::Diagnostic;
use crate::lint::{BaseImages, LintRequest, OutlineItems, outline_items};
use crate::span::LineRange;

/// The parameters of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The name of the target, or empty.
    pub name: String,
    /// What the comment above says of it, or empty.
    pub description: String,
    /// Its build arguments, and those of the stages it needs.
    pub arguments: Vec<OutlineArgument>,
    /// Its secrets.
    pub secrets: Vec<OutlineSecret>,
    /// Its SSH agents.
    pub ssh: Vec<OutlineSecret>,
    pub(crate) source: String,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArgument {
    /// The name.
    pub name: String,
    /// What the comment above says of it, or empty.
    pub description: String,
    /// The value it has.
    pub value: String,
    /// Where it is declared.
    pub lines: LineRange,
}

/// A secret or an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineSecret {
    /// The name.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Where it is asked for first.
    pub lines: LineRange,
}

/// Lists the parameters of a target.
///
/// # Errors
/// The first error of the file, or of its base images.
pub fn outline(text: &[u8], request: &LintRequest, images: &dyn BaseImages) -> Result<Outline, Box<Diagnostic>> {
    let OutlineItems { name, description, mut arguments, mut secrets, mut ssh } = outline_items(text, request, images)?;
    arguments.sort_by_key(|argument| argument.lines.start);
    secrets.sort_by_key(|secret| secret.lines.start);
    ssh.sort_by_key(|agent| agent.lines.start);
    let source = String::from_utf8_lossy(text).into_owned();
    Ok(Outline { name, description, arguments, secrets, ssh, source })
}

impl Outline {
    /// Tables of what there is.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.name.is_empty() || !self.description.is_empty() {
            let name = if self.name.is_empty() { "(default)" } else { &self.name };
            let mut rows = vec![vec!["TARGET:", name]];
            if !self.description.is_empty() {
                rows.push(vec!["DESCRIPTION:", &self.description]);
            }
            text.push_str(&table(&rows, 1));
            text.push('\n');
        }
        if !self.arguments.is_empty() {
            let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
            rows.extend(self.arguments.iter().map(|arg| vec![arg.name.as_str(), &arg.value, &arg.description]));
            text.push_str(&table(&rows, 3));
            text.push('\n');
        }
        for (title, secrets) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            if !secrets.is_empty() {
                let required = |secret: &OutlineSecret| if secret.required { "true" } else { "" };
                let mut rows = vec![vec![title, "REQUIRED"]];
                rows.extend(secrets.iter().map(|secret| vec![secret.name.as_str(), required(secret)]));
                text.push_str(&table(&rows, 3));
                text.push('\n');
            }
        }
        text
    }

    /// All of it, with the Dockerfile in base64.
    pub fn to_json(&self) -> String {
        let mut object = Map::new();
        for (key, value) in [("name", &self.name), ("description", &self.description)] {
            if !value.is_empty() {
                object.insert(key.to_owned(), value.clone().into());
            }
        }
        let lists = [
            ("args", self.arguments.iter().map(argument_json).collect::<Vec<_>>()),
            ("secrets", self.secrets.iter().map(secret_json).collect()),
            ("ssh", self.ssh.iter().map(secret_json).collect()),
        ];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            object.insert(key.to_owned(), list.into());
        }
        object.insert("sources".to_owned(), json!([bytes(&self.source)]));
        print_json(&object.into())
    }
}

fn argument_json(argument: &OutlineArgument) -> Value {
    let mut value = json!({"name": argument.name});
    for (key, text) in [("description", &argument.description), ("value", &argument.value)] {
        if !text.is_empty() {
            value[key] = text.clone().into();
        }
    }
    value["location"] = location(&[argument.lines]);
    value
}

fn secret_json(secret: &OutlineSecret) -> Value {
    let mut value = json!({"name": secret.name});
    if secret.required {
        value["required"] = true.into();
    }
    value["location"] = location(&[secret.lines]);
    value
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use onetag_oci::{ImageConfig, Platform, Reference};

    use super::*;

    struct Images;

    impl BaseImages for Images {
        fn config(&self, _: &Reference, platform: &Platform) -> Result<ImageConfig, Box<dyn Error + Send + Sync>> {
            Ok(ImageConfig::new(platform))
        }
    }

    #[test]
    fn parameters_of_the_target_and_of_what_it_needs_are_listed() {
        let text = "# VERSION of the base\nARG VERSION=1\nARG UNUSED=2\nFROM alpine:$VERSION AS build\nARG DEBUG\n\
                    RUN --mount=type=secret,id=token,required make\n# final is the result\nFROM scratch AS final\n\
                    ARG LABELED=x\nCOPY --from=build a /\n";
        let request = LintRequest { build_args: [("DEBUG".into(), "1".into())].into(), ..LintRequest::default() };
        let outline = outline(text.as_bytes(), &request, &Images).unwrap();
        let expected = "TARGET:      final\nDESCRIPTION: is the result\n\nBUILD ARG   VALUE   DESCRIPTION\n\
                        VERSION     1       of the base\nDEBUG       1       \nLABELED     x       \n\n\
                        SECRET   REQUIRED\ntoken    true\n\n";
        assert_eq!(outline.to_text(), expected);
        assert!(outline.to_json().starts_with("{\n  \"name\": \"final\","));
    }
}
