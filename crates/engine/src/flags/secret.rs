//! `--secret`

use onetag_dockerfile::flags::csv;

use super::{FlagError, Result};

/// A secret and where its value is. Where neither is given, the name is looked for in the
/// environment, then as a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secret {
    /// The name by which steps ask for it.
    pub id: String,
    /// The file that holds it, or empty.
    pub path: String,
    /// The variable that holds it, or empty.
    pub variable: String,
}

/// Reads all occurrences of the flag; empty values are skipped.
///
/// # Errors
/// An unknown type or key, a field without value, quotes that do not match.
pub fn parse_secrets<S: AsRef<str>>(values: &[S]) -> Result<Vec<Secret>> {
    values.iter().map(AsRef::as_ref).filter(|value| !value.is_empty()).map(parse_secret).collect()
}

fn parse_secret(value: &str) -> Result<Secret> {
    let mut secret = Secret::default();
    let mut is_variable = false;
    for field in csv::split(value).map_err(FlagError::SecretCsv)? {
        let (key, value) = field.split_once('=').ok_or_else(|| FlagError::SecretField(field.clone()))?;
        match key.to_lowercase().as_str() {
            "type" if matches!(value, "file" | "env") => is_variable = value == "env",
            "type" => return Err(FlagError::SecretType(value.to_owned())),
            "id" => secret.id = value.to_owned(),
            "source" | "src" => secret.path = value.to_owned(),
            "env" => secret.variable = value.to_owned(),
            key => return Err(FlagError::SecretKey { key: key.to_owned(), field: field.clone() }),
        }
    }
    if is_variable && secret.variable.is_empty() {
        secret.variable = std::mem::take(&mut secret.path);
    }
    Ok(secret)
}
