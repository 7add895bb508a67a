//! The recorded answers of BuildKit's libraries. ONETAG_VECTORS names another folder of such files.

mod ast;
mod chmod;
mod flags;
mod ignore_file;
mod lint;
mod shell_words;

use std::path::PathBuf;

use serde_json::Value;

/// The vectors of a file. A missing or malformed file is a failure.
pub fn load(name: &str) -> Vec<Value> {
    let folder = std::env::var_os("ONETAG_VECTORS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors"));
    let path = folder.join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vectors = document["vectors"].as_array().unwrap_or_else(|| panic!("{}: no vectors", path.display())).clone();
    assert!(!vectors.is_empty(), "{}: no vectors", path.display());
    vectors
}

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
