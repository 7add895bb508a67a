//! Changes to documents as JSON, so that what nobody here knows stays where and what it is. Pure.

use onetag_oci::{Digest, go_json, go_json_indent};
use serde::Serialize;
use serde_json::{Map, Value};

use super::EditError;

/// One member of a document that is different afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is: `label`, `env`, `annotation`, `entrypoint`, …
    pub what: String,
    /// Its name, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its value before.
    pub before: Option<String>,
    /// Its value afterwards.
    pub after: Option<String>,
}

/// A document being changed.
pub(super) struct Draft {
    digest: Digest,
    indent: Option<String>,
    pub(super) value: Value,
    pub(super) differences: Vec<Difference>,
}

impl Draft {
    /// Of exact bytes.
    pub(super) fn parse(bytes: &[u8], digest: &Digest) -> Result<Self, EditError> {
        let shape = || EditError::Shape { digest: digest.clone(), member: "content".to_owned() };
        let value: Value = serde_json::from_slice(bytes).map_err(|_| shape())?;
        if !value.is_object() {
            return Err(shape());
        }
        Ok(Self { digest: digest.clone(), indent: indent(bytes), value, differences: Vec::new() })
    }

    /// The bytes, laid out as those it came from.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match &self.indent {
            Some(indent) => go_json_indent(&self.value, indent),
            None => go_json(&self.value),
        }
    }

    fn shape(&self, member: &str) -> EditError {
        EditError::Shape { digest: self.digest.clone(), member: member.to_owned() }
    }

    /// The object at a path; made where it is absent or null.
    fn object(&mut self, path: &[&str]) -> Result<&mut Map<String, Value>, EditError> {
        let wrong = self.shape(&path.join("."));
        let mut value = &mut self.value;
        for name in path {
            let Some(object) = value.as_object_mut() else { return Err(wrong) };
            value = object.entry(*name).or_insert(Value::Null);
            if value.is_null() {
                *value = Value::Object(Map::new());
            }
        }
        value.as_object_mut().ok_or(wrong)
    }

    /// Sets or, with none, takes away a member of a map of texts.
    pub(super) fn set_entry(
        &mut self,
        path: &[&str],
        what: &str,
        key: &str,
        after: Option<&str>,
    ) -> Result<(), EditError> {
        let pointer = format!("/{}", path.join("/"));
        let there = self.value.pointer(&pointer).and_then(|map| map.get(key));
        let before = there.and_then(Value::as_str).map(str::to_owned);
        if before.as_deref() == after {
            return Ok(());
        }
        let map = self.object(path)?;
        match after {
            Some(after) => drop(map.insert(key.to_owned(), Value::from(after))),
            None => drop(map.shift_remove(key)),
        }
        let is_empty = map.is_empty();
        if is_empty {
            self.drop_member(path);
        }
        let after = after.map(str::to_owned);
        self.differences.push(Difference { what: what.to_owned(), key: Some(key.to_owned()), before, after });
        Ok(())
    }

    /// Takes a member away.
    fn drop_member(&mut self, path: &[&str]) {
        let Some((last, above)) = path.split_last() else { return };
        let mut value = &mut self.value;
        for name in above {
            match value.get_mut(*name) {
                Some(inner) => value = inner,
                None => return,
            }
        }
        if let Some(object) = value.as_object_mut() {
            object.shift_remove(*last);
        }
    }

    /// Sets or, with none, takes away a single member; `shown` is how people read a value.
    pub(super) fn set_member(
        &mut self,
        path: &[&str],
        what: &str,
        after: Option<Value>,
        shown: impl Fn(&Value) -> String,
    ) -> Result<(), EditError> {
        let there = self.value.pointer(&format!("/{}", path.join("/"))).filter(|value| !value.is_null()).cloned();
        let before = there.filter(|value| !is_empty(value));
        if before == after {
            return Ok(());
        }
        let words = |value: &Option<Value>| value.as_ref().map(&shown);
        self.differences.push(Difference {
            what: what.to_owned(),
            key: None,
            before: words(&before),
            after: words(&after),
        });
        match after {
            None => self.drop_member(path),
            Some(after) => {
                let Some((last, above)) = path.split_last() else { return Ok(()) };
                self.object(above)?.insert((*last).to_owned(), after);
            }
        }
        Ok(())
    }

    /// Sets or, with none, takes away one of `NAME=value` entries; its place in the list stays.
    pub(super) fn set_variable(&mut self, path: &[&str], name: &str, after: Option<&str>) -> Result<(), EditError> {
        let wrong = self.shape(&path.join("."));
        let pointer = format!("/{}", path.join("/"));
        let mut list: Vec<String> = match self.value.pointer(&pointer) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<String>> = list.iter().map(|text| text.as_str().map(str::to_owned)).collect();
                texts.ok_or(wrong)?
            }
            Some(_) => return Err(wrong),
        };
        let is_meant = |entry: &String| entry.split_once('=').map_or(entry.as_str(), |(known, _)| known) == name;
        let position = list.iter().position(is_meant);
        let before = position.map(|at| list[at].split_once('=').map_or(String::new(), |(_, value)| value.to_owned()));
        if before.as_deref() == after {
            return Ok(());
        }
        match (position, after) {
            (Some(at), Some(value)) => list[at] = format!("{name}={value}"),
            (None, Some(value)) => list.push(format!("{name}={value}")),
            (_, None) => list.retain(|entry| !is_meant(entry)),
        }
        match list.is_empty() {
            true => self.drop_member(path),
            false => {
                let Some((last, above)) = path.split_last() else { return Ok(()) };
                self.object(above)?.insert((*last).to_owned(), Value::from(list));
            }
        }
        let (key, after) = (Some(name.to_owned()), after.map(str::to_owned));
        self.differences.push(Difference { what: "env".to_owned(), key, before, after });
        Ok(())
    }
}

/// What Go leaves out where nothing is set.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// How a document is indented, if it is.
fn indent(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let second = text.strip_prefix("{\n").or_else(|| text.strip_prefix("{\r\n"))?;
    let spaces: String = second.chars().take_while(|c| matches!(c, ' ' | '\t')).take(8).collect();
    Some(spaces).filter(|spaces| !spaces.is_empty())
}

/// Points a descriptor in a document at other content.
pub(super) fn point(descriptor: &mut Value, digest: &Digest, size: u64) {
    if let Some(descriptor) = descriptor.as_object_mut() {
        descriptor.insert("digest".to_owned(), Value::from(digest.as_str()));
        descriptor.insert("size".to_owned(), Value::from(size));
        // the content itself, where it was embedded, is another now
        descriptor.shift_remove("data");
    }
}

#[cfg(test)]
mod tests {
    use onetag_oci::Digest;
    use serde_json::Value;

    use super::Draft;

    fn draft(text: &str) -> Draft {
        Draft::parse(text.as_bytes(), &Digest::sha256(text.as_bytes())).unwrap()
    }

    #[test]
    fn what_does_not_change_stays_to_the_byte() {
        for text in [
            "{\"z\":1,\"config\":{\"Env\":[\"A=1\"],\"x\":null},\"a\":\"\\u003c\"}",
            "{\n   \"z\": 1,\n   \"config\": {\n      \"Env\": [\n         \"A=1\"\n      ]\n   }\n}",
        ] {
            let mut draft = draft(text);
            draft.set_variable(&["config", "Env"], "A", Some("1")).unwrap();
            draft.set_entry(&["config", "Labels"], "label", "k", None).unwrap();
            assert_eq!(String::from_utf8(draft.bytes()).unwrap(), text);
            assert!(draft.differences.is_empty());
        }
    }

    #[test]
    fn entries_are_set_in_place_and_taken_away() {
        let mut draft = draft(r#"{"os":"linux","config":{"Env":["PATH=/bin","A=1=2","B"],"Labels":{"a":"1"}},"x":9}"#);
        draft.set_variable(&["config", "Env"], "A", Some("3")).unwrap();
        draft.set_variable(&["config", "Env"], "B", None).unwrap();
        draft.set_variable(&["config", "Env"], "C", Some("")).unwrap();
        draft.set_entry(&["config", "Labels"], "label", "a", None).unwrap();
        draft.set_member(&["config", "User"], "user", Some(Value::from("1")), Value::to_string).unwrap();
        let expected = r#"{"os":"linux","config":{"Env":["PATH=/bin","A=3","C="],"User":"1"},"x":9}"#;
        assert_eq!(String::from_utf8(draft.bytes()).unwrap(), expected);
        assert_eq!(draft.differences.len(), 5);
        assert_eq!(draft.differences[0].before.as_deref(), Some("1=2"));
    }

    #[test]
    fn members_of_other_types_are_told_and_left() {
        let mut draft = draft(r#"{"config":{"Env":"A","Labels":[]}}"#);
        assert!(draft.set_variable(&["config", "Env"], "A", Some("1")).is_err());
        assert!(draft.set_entry(&["config", "Labels"], "label", "a", Some("1")).is_err());
    }
}
