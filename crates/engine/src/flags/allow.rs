//! `--allow`

use onetag_dockerfile::flags::csv;

use super::{FlagError, Result};

const LOCAL_DELETE: &str = "buildx.local.delete";

/// What a build may do beyond the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// `network.host`, `security.insecure` and `device[=name[,alias=name]]`, as given.
    pub entitlements: Vec<String>,
    /// Whether an output may delete what is in its folder.
    pub local_delete: bool,
}

/// Reads all occurrences of the flag; empty values are skipped.
///
/// # Errors
/// An unknown entitlement, or a value where none belongs.
pub fn parse_allow<S: AsRef<str>>(values: &[S]) -> Result<Allowed> {
    let mut allowed = Allowed::default();
    for text in values.iter().map(AsRef::as_ref).filter(|value| !value.is_empty()) {
        match text.split_once('=').unwrap_or((text, "")) {
            (LOCAL_DELETE, _) if text.contains('=') => return Err(FlagError::EntitlementValue(LOCAL_DELETE)),
            (LOCAL_DELETE, _) => {
                allowed.local_delete = true;
                continue;
            }
            ("device", value) => check_device(value)?,
            _ if matches!(text, "network.host" | "security.insecure") => {}
            _ => return Err(FlagError::Entitlement(text.to_owned())),
        }
        allowed.entitlements.push(text.to_owned());
    }
    Ok(allowed)
}

fn check_device(value: &str) -> Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    for field in csv::split(value)?.iter().skip(1) {
        match field.split_once('=') {
            Some(("alias", _)) => {}
            Some((key, _)) => return Err(FlagError::DeviceKey(key.to_owned())),
            None => return Err(FlagError::DeviceConfig(field.clone())),
        }
    }
    Ok(())
}
