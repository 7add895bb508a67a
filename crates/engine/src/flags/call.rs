//! `--call`

use onetag_dockerfile::flags::csv;
use onetag_dockerfile::values::parse_bool;

use super::{FlagError, Result};

/// What is asked of a Dockerfile in place of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// `lint` (also asked for as `check`), `outline`, `targets`, …; not checked.
    pub name: String,
    /// How the answer is printed: empty for text, `json`.
    pub format: String,
    /// Whether findings leave the exit status alone.
    pub ignore_status: bool,
}

/// Reads the flag; None means a build.
///
/// # Errors
/// An unknown field, two names, quotes that do not match.
pub fn parse_call(text: &str) -> Result<Option<Call>> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut call = Call::default();
    for field in csv::split(text)? {
        match field.split_once('=') {
            Some(("format", format)) => call.format = format.to_owned(),
            Some(("ignorestatus", value)) => {
                call.ignore_status =
                    parse_bool(value).ok_or_else(|| FlagError::CallIgnoreStatus { value: value.to_owned() })?;
            }
            Some(_) => return Err(FlagError::CallField(field)),
            None if !call.name.is_empty() => return Err(FlagError::CallValue(text.to_owned())),
            None => call.name = field,
        }
    }
    if call.name == "check" {
        call.name = "lint".to_owned();
    }
    Ok(Some(call).filter(|call| call.name != "build"))
}
