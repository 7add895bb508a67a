//! `--attest`, `--provenance` and `--sbom`

use std::collections::BTreeMap;

use onetag_dockerfile::flags::csv;
use onetag_dockerfile::values::parse_bool;

use super::attributes::FieldWriter;
use super::{FlagError, Result};

/// An attestation that is asked for, or asked not to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attestation {
    /// `provenance` or `sbom`; as written, not checked.
    pub kind: String,
    /// Whether it is not to be made.
    pub disabled: bool,
    /// Everything else; keys as written.
    pub attributes: BTreeMap<String, String>,
}

/// The value of `--attest` that `--provenance=value` or `--sbom=value` stands for; empty for an
/// empty value.
pub fn canonical_attestation(kind: &str, value: &str) -> String {
    match parse_bool(value) {
        _ if value.is_empty() => String::new(),
        Some(enabled) => format!("type={kind},disabled={}", !enabled),
        None => format!("type={kind},{value}"),
    }
}

/// Reads all occurrences of `--attest`.
///
/// # Errors
/// An empty value, a field without value, no type, quotes that do not match.
pub fn parse_attestations<S: AsRef<str>>(values: &[S]) -> Result<Vec<Attestation>> {
    values.iter().map(|value| parse_attestation(value.as_ref())).collect()
}

fn parse_attestation(value: &str) -> Result<Attestation> {
    let mut attestation = Attestation::default();
    for field in csv::split(value)? {
        let (key, value) = field.split_once('=').ok_or_else(|| FlagError::NoValue(field.clone()))?;
        match key.to_lowercase().trim() {
            "type" => attestation.kind = value.to_owned(),
            "disabled" => {
                attestation.disabled = parse_bool(value)
                    .ok_or_else(|| FlagError::NotBoolean { field: field.clone(), value: value.to_owned() })?;
            }
            _ => {
                attestation.attributes.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    if attestation.kind.is_empty() { Err(FlagError::AttestationType) } else { Ok(attestation) }
}

/// The value of each type, None where it is disabled. The first of several counts.
pub fn attestation_map(attestations: &[Attestation]) -> BTreeMap<String, Option<String>> {
    let mut map = BTreeMap::new();
    for attestation in attestations {
        map.entry(attestation.kind.clone()).or_insert_with(|| {
            let writer = FieldWriter::default().field("type", &attestation.kind);
            (!attestation.disabled).then(|| writer.attributes(&attestation.attributes).finish())
        });
    }
    map
}
