//! `--output`

use std::collections::BTreeMap;
use std::fmt;

use onetag_dockerfile::flags::csv;

use super::attributes::FieldWriter;
use super::{FlagError, Result};

/// Where a result goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// `local`, `tar`, `oci`, `docker`, `image`, `registry`; as written, not checked.
    pub kind: String,
    /// `dest`: a path, or `-` for the standard output; empty where none is given.
    pub destination: String,
    /// Everything else; keys are in lower case.
    pub attributes: BTreeMap<String, String>,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writer = FieldWriter::default().field("type", &self.kind).field("dest", &self.destination);
        f.write_str(&writer.attributes(&self.attributes).finish())
    }
}

/// Reads all occurrences of the flag. A value without `type=` is a folder, `-` a tar archive on
/// the standard output; empty values are skipped.
///
/// # Errors
/// A field without value, no type, quotes that do not match.
pub fn parse_outputs<S: AsRef<str>>(values: &[S]) -> Result<Vec<Output>> {
    values.iter().map(AsRef::as_ref).filter(|value| !value.is_empty()).map(parse_output).collect()
}

fn parse_output(value: &str) -> Result<Output> {
    let fields = csv::split(value)?;
    if fields.as_slice() == [value] && !value.starts_with("type=") {
        let kind = if value == "-" { "tar" } else { "local" };
        return Ok(Output { kind: kind.to_owned(), destination: value.to_owned(), ..Output::default() });
    }
    let mut output = Output::default();
    for field in fields {
        let (key, value) = field.split_once('=').ok_or_else(|| FlagError::NoValue(field.clone()))?;
        match key.to_lowercase().trim() {
            "type" => output.kind = value.to_owned(),
            "dest" => output.destination = value.to_owned(),
            key => {
                output.attributes.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    if output.kind.is_empty() { Err(FlagError::OutputType) } else { Ok(output) }
}
