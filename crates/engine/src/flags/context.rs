//! `--build-context`

use std::collections::BTreeMap;

use onetag_oci::Reference;

use super::{FlagError, Result};

/// Reads all occurrences of the flag: names, in their familiar form without `:latest`, and what
/// stands for them. A later one wins; empty values are skipped.
///
/// # Errors
/// No value, or a name that no image could have.
pub fn parse_contexts<S: AsRef<str>>(values: &[S]) -> Result<BTreeMap<String, String>> {
    let mut contexts = BTreeMap::new();
    for value in values.iter().map(AsRef::as_ref).filter(|value| !value.is_empty()) {
        let (name, context) = value.split_once('=').ok_or_else(|| FlagError::ContextValue(value.to_owned()))?;
        let reference =
            Reference::parse(name).map_err(|source| FlagError::ContextName { name: name.to_owned(), source })?;
        let familiar = reference.familiar();
        let name = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        contexts.insert(name.to_owned(), context.to_owned());
    }
    Ok(contexts)
}
