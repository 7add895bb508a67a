//! `--ssh`

use super::Result;

/// An agent or keys that steps may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssh {
    /// The name by which steps ask for it.
    pub id: String,
    /// Sockets or keys; none means the agent of the environment.
    pub paths: Vec<String>,
}

/// Reads all occurrences of the flag; empty values are skipped.
///
/// # Errors
/// None today.
pub fn parse_ssh<S: AsRef<str>>(values: &[S]) -> Result<Vec<Ssh>> {
    let entries = values.iter().map(AsRef::as_ref).filter(|value| !value.is_empty()).map(|value| {
        let (id, paths) = match value.split_once('=') {
            Some((id, paths)) => (id, paths.split(',').map(str::to_owned).collect()),
            None => (value, Vec::new()),
        };
        Ssh { id: id.to_owned(), paths }
    });
    Ok(entries.collect())
}
