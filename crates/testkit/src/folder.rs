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

/// A program found in the system folders, else on `PATH`, where another user may not be able to run it.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    system.into_iter().chain(std::env::split_paths(&path)).map(|folder| folder.join(name)).find(|file| file.is_file())
}
