//! Where things are: the repository, the fixtures, programs of the host.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// The fixtures that `scripts/fetch-fixtures` makes (`$ONETAG_FIXTURES`, else `target/fixtures`).
///
/// # Errors
/// They are not there; the text says what makes them.
pub fn fixtures() -> Result<PathBuf, String> {
    let folder = match std::env::var_os("ONETAG_FIXTURES") {
        Some(folder) => PathBuf::from(folder),
        None => repository().join("target/fixtures"),
    };
    if folder.join("stamp").exists() {
        Ok(folder)
    } else {
        Err(format!("no fixtures in {}: run scripts/fetch-fixtures", folder.display()))
    }
}

/// A program found on `PATH` or in the system folders.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
