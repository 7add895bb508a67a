//! The recorded answers of BuildKit's libraries. ONETAG_VECTORS names another folder of such files.

mod ast;
mod chmod;
mod flags;
mod ignore_file;
mod lint;
mod shell_words;

#[path = "../../../../tests/support/vectors.rs"]
mod folder;

use folder::load;
use serde_json::Value;

/// Runs the check on every vector and fails with all that differ.
pub fn check_all(name: &str, check: impl Fn(&Value) -> Result<(), String>) {
    let vectors = load(name);
    let failures: Vec<String> = vectors
        .iter()
        .filter_map(|vector| check(vector).err().map(|difference| format!("{vector}\n    {difference}")))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} vectors of {name} differ:\n{}",
        failures.len(),
        vectors.len(),
        failures.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n")
    );
}

/// The strings of an optional list.
pub fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|item| item.as_str().unwrap_or_default().to_owned()).collect()
}

/// A string, empty where there is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Ok if equal, else both sides.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}: ours {ours:?}, recorded {theirs:?}")) }
}

/// A message without its "(did you mean …?)".
pub fn without_suggestion(message: &str) -> &str {
    message.split(" (did you mean ").next().unwrap_or(message)
}
