//! The variables of a stage as BuildKit orders them.

use crate::shell::Environment;

/// Variables in the order in which they were last set: setting one again moves it to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EnvironmentList {
    entries: Vec<(String, String)>,
}

impl EnvironmentList {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.entries.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.entries.retain(|(known, _)| known != name);
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// How much text names and values are.
    pub(crate) fn text_bytes(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// `NAME=value` lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.entries.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

impl Environment for EnvironmentList {
    fn get(&self, name: &str) -> Option<&str> {
        self.value(name)
    }

    fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Splits a `NAME=value` line; a line without `=` has an empty value.
pub(crate) fn split_line(line: &str) -> (&str, &str) {
    line.split_once('=').unwrap_or((line, ""))
}
