//! Where the recorded vectors are. A crate's tests include this file with `#[path]`, which needs no arrow.

use std::path::{Path, PathBuf};

/// The folder of the vectors: `$ONETAG_VECTORS`, else `tests/vectors` of the repository.
pub fn folder() -> PathBuf {
    match std::env::var_os("ONETAG_VECTORS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors"),
    }
}

/// The list `vectors` of one file. A missing or empty file is a failure, never a skip.
pub fn load(file: &str) -> Vec<serde_json::Value> {
    let path = folder().join(file);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document: serde_json::Value =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vectors = document["vectors"].as_array().cloned().unwrap_or_default();
    assert!(!vectors.is_empty(), "{} has no vectors", path.display());
    vectors
}
