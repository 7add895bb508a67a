//! `--cache-to` and `--cache-from`

use std::collections::BTreeMap;
use std::fmt;

use onetag_dockerfile::flags::csv;

use super::attributes::FieldWriter;
use super::{FlagError, Result};

/// A place that a cache is read from or written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheEntry {
    /// `registry`, `local`, `inline`, …; as written, not checked.
    pub kind: String,
    /// Everything else; keys are in lower case.
    pub attributes: BTreeMap<String, String>,
}

impl CacheEntry {
    fn registry(reference: &str) -> Self {
        let attributes = BTreeMap::from([("ref".to_owned(), reference.to_owned())]);
        CacheEntry { kind: "registry".to_owned(), attributes }
    }
}

impl fmt::Display for CacheEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attributes.get("ref") {
            Some(reference) if self.kind == "registry" && self.attributes.len() == 1 => f.write_str(reference),
            _ => f.write_str(&FieldWriter::default().field("type", &self.kind).attributes(&self.attributes).finish()),
        }
    }
}

/// Reads all occurrences of the flag. A value without `=` is a list of references; empty values
/// are skipped.
///
/// # Errors
/// A field without value, no type, quotes that do not match.
pub fn parse_cache<S: AsRef<str>>(values: &[S]) -> Result<Vec<CacheEntry>> {
    let mut entries = Vec::new();
    for value in values.iter().map(AsRef::as_ref).filter(|value| !value.is_empty()) {
        if value.contains('=') {
            entries.push(parse_entry(value)?);
            continue;
        }
        for field in csv::split(value)? {
            entries.push(parse_entry(&field)?);
        }
    }
    Ok(entries)
}

fn parse_entry(value: &str) -> Result<CacheEntry> {
    let fields = csv::split(value)?;
    if let [reference] = fields.as_slice()
        && !reference.contains('=')
    {
        return Ok(CacheEntry::registry(reference));
    }
    let mut entry = CacheEntry::default();
    for field in fields {
        let (key, value) = field.split_once('=').ok_or_else(|| FlagError::NoValue(field.clone()))?;
        match key.to_lowercase().as_str() {
            "type" => entry.kind = value.to_owned(),
            key => {
                entry.attributes.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    if entry.kind.is_empty() { Err(FlagError::CacheType(value.to_owned())) } else { Ok(entry) }
}
