//! `--ulimit` and `--shm-size`

use std::fmt;

use onetag_dockerfile::values::parse_size;

use super::{FlagError, Result};

const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// A limit of the processes of a step; -1 means none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// The name, one of those of `setrlimit` in lower case.
    pub name: String,
    /// What a process starts with.
    pub soft: i64,
    /// Up to what it may raise it.
    pub hard: i64,
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.name, self.soft, self.hard)
    }
}

/// Reads `name=soft[:hard]`.
///
/// # Errors
/// An unknown name, something else than numbers, a soft limit above the hard one.
pub fn parse_ulimit(text: &str) -> Result<Ulimit> {
    let (name, values) = text.split_once('=').ok_or_else(|| FlagError::UlimitArgument(text.to_owned()))?;
    if !NAMES.contains(&name) {
        return Err(FlagError::UlimitType(name.to_owned()));
    }
    let (soft, hard) = match values.split(':').collect::<Vec<_>>().as_slice() {
        [soft] => (number(soft)?, None),
        [soft, hard] => {
            let hard = number(hard)?;
            (number(soft)?, Some(hard))
        }
        _ => return Err(FlagError::UlimitValues(values.to_owned())),
    };
    let hard = hard.unwrap_or(soft);
    if hard != -1 && soft == -1 {
        return Err(FlagError::UlimitUnlimited(hard));
    }
    if hard != -1 && soft > hard {
        return Err(FlagError::UlimitOrder { soft, hard });
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

fn number(text: &str) -> Result<i64> {
    text.parse().map_err(|_| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let reason = if is_number { "value out of range" } else { "invalid syntax" };
        FlagError::Number { value: text.to_owned(), reason }
    })
}

/// Reads a size in bytes, with a unit or without.
///
/// # Errors
/// Not a size.
pub fn parse_bytes(text: &str) -> Result<i64> {
    Ok(parse_size(text)?)
}
