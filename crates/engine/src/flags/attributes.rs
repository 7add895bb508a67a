//! `key=value` fields, read and written.

use std::collections::BTreeMap;

/// Writes fields the way they are read: quoted where they have to be, sorted by key.
#[derive(Default)]
pub(super) struct FieldWriter {
    text: String,
}

impl FieldWriter {
    pub(super) fn field(mut self, key: &str, value: &str) -> Self {
        if value.is_empty() && matches!(key, "type" | "dest") {
            return self;
        }
        if !self.text.is_empty() {
            self.text.push(',');
        }
        let pair = format!("{key}={value}");
        if pair.contains([',', '"']) {
            self.text.push('"');
            self.text.push_str(pair.replace('"', "\"\"").trim());
            self.text.push('"');
        } else {
            self.text.push_str(&pair);
        }
        self
    }

    pub(super) fn attributes(self, attributes: &BTreeMap<String, String>) -> Self {
        attributes.iter().fold(self, |writer, (key, value)| writer.field(key, value))
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}
