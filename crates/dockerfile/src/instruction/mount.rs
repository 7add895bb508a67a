//! The value of `RUN --mount`.

use crate::flags::csv::{self, CsvError};
use crate::instruction::{Expand, ExpandFailure};
use crate::suggest;
use crate::values::{parse_bool, parse_size, parse_u32, quote};

/// What a mount is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MountType {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory kept between builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A file or variable with a secret.
    Secret,
    /// The socket of an SSH agent.
    Ssh,
}

/// How concurrent steps share a cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// At the same time.
    Shared,
    /// Each has its own.
    Private,
    /// One after the other.
    Locked,
}

/// One mount of a `RUN`. Empty strings stand for options that were not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `type`
    pub kind: MountType,
    /// `from`: a stage, an image or a named context.
    pub from: String,
    /// `source`
    pub source: String,
    /// `target`
    pub target: String,
    /// Read-only: as asked for, else true except for cache and tmpfs.
    pub readonly: bool,
    /// `size` of a tmpfs in bytes; 0 for the default.
    pub size_bytes: i64,
    /// `id` of a cache, secret or agent.
    pub id: String,
    /// `sharing` of a cache.
    pub sharing: Option<Sharing>,
    /// `required`
    pub required: bool,
    /// `env`: the variable that holds the secret; `Some("")` names it after the secret.
    pub env: Option<String>,
    /// `mode`
    pub mode: Option<u32>,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
}

/// What is wrong with a mount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The list cannot be split.
    #[error("failed to parse csv mounts: {0}")]
    Csv(CsvError),
    /// An option without its value.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// A variable in `from`.
    #[error("'{0}' doesn't support variable expansion, define alias stage instead")]
    Variable(String),
    /// A value that is not of the option's kind.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The option.
        key: String,
        /// Its value.
        value: String,
    },
    /// A value that is not a number of the option's kind.
    #[error("invalid value {value} for {key}")]
    Number {
        /// The option.
        key: String,
        /// Its value.
        value: String,
    },
    /// An option of another type of mount.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    NotForType {
        /// The option.
        key: String,
        /// The type.
        kind: MountType,
    },
    /// `mode`, `uid` or `gid` where there is nothing to own.
    #[error("{key} not allowed for \"{kind}\" type mounts")]
    NotAllowed {
        /// The option.
        key: &'static str,
        /// The type.
        kind: MountType,
    },
    /// There is no such type.
    #[error("unsupported mount type {}{}", quote(.value), did_you_mean(.nearest))]
    UnknownType {
        /// What was given.
        value: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// There is no such way of sharing.
    #[error("unsupported sharing value {}{}", quote(.value), did_you_mean(.nearest))]
    UnknownSharing {
        /// What was given.
        value: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// There is no such option.
    #[error("unexpected key '{key}' in '{field}'{}", did_you_mean(.nearest))]
    UnknownKey {
        /// The option.
        key: String,
        /// The field it is in.
        field: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A secret with `from`.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret with `sharing`.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret without a name.
    #[error("invalid secret mount. one of source, target required")]
    SecretNameless,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretTwoNames,
    /// `sharing` of something that is no cache.
    #[error("invalid cache sharing set for {0} mount")]
    SharingNotCache(MountType),
}

impl MountError {
    /// What was expected, where the message does not say it.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            MountError::UnknownType { .. } => format!("the types are {}", TYPES.join(", ")),
            MountError::UnknownSharing { .. } => format!("the ways of sharing are {}", SHARINGS.join(", ")),
            MountError::UnknownKey { nearest: None, .. } => format!("the options are {}", KEYS.join(", ")),
            MountError::NotForType { key, .. } if key == "size" => {
                "only type=tmpfs has a size; put the type first".into()
            }
            MountError::NotForType { key, .. } if key == "required" => {
                "only type=secret and type=ssh can be required; put the type first".into()
            }
            MountError::Variable(_) => "name the image in a stage of its own and mount from that stage".into(),
            MountError::NoValue(field) => format!("write {field}=value"),
            _ => return None,
        };
        Some(text)
    }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!(" (did you mean {nearest}?)")).unwrap_or_default()
}

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARINGS: [&str; 3] = ["shared", "private", "locked"];
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountType {
    /// The name in a Dockerfile.
    pub fn as_str(self) -> &'static str {
        match self {
            MountType::Bind => "bind",
            MountType::Cache => "cache",
            MountType::Tmpfs => "tmpfs",
            MountType::Secret => "secret",
            MountType::Ssh => "ssh",
        }
    }

    fn parse(value: &str) -> Result<Self, MountError> {
        match value.to_lowercase().as_str() {
            "bind" => Ok(MountType::Bind),
            "cache" => Ok(MountType::Cache),
            "tmpfs" => Ok(MountType::Tmpfs),
            "secret" => Ok(MountType::Secret),
            "ssh" => Ok(MountType::Ssh),
            _ => Err(MountError::UnknownType { value: value.to_owned(), nearest: suggest::nearest(value, TYPES) }),
        }
    }
}

impl std::fmt::Display for MountType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Sharing {
    /// The name in a Dockerfile.
    pub fn as_str(self) -> &'static str {
        match self {
            Sharing::Shared => "shared",
            Sharing::Private => "private",
            Sharing::Locked => "locked",
        }
    }

    fn parse(value: &str) -> Result<Self, MountError> {
        match value.to_lowercase().as_str() {
            "shared" => Ok(Sharing::Shared),
            "private" => Ok(Sharing::Private),
            "locked" => Ok(Sharing::Locked),
            _ => {
                Err(MountError::UnknownSharing { value: value.to_owned(), nearest: suggest::nearest(value, SHARINGS) })
            }
        }
    }
}

impl Mount {
    /// Reads the value, expanding variables in what follows each `=`.
    pub fn parse<E>(flag: &str, expander: &mut Expand<'_, E>) -> Result<Mount, ExpandFailure<E>> {
        let mut mount = Mount::default();
        let mut readonly = None;
        for field in csv::split(flag).map_err(|error| ExpandFailure::Mount(MountError::Csv(error)))? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(expander(value)?)),
                None => (field.to_lowercase(), None),
            };
            mount.set(&field, &key, value, &mut readonly).map_err(ExpandFailure::Mount)?;
        }
        mount.readonly = readonly.unwrap_or(!matches!(mount.kind, MountType::Cache | MountType::Tmpfs));
        mount.check().map_err(ExpandFailure::Mount)?;
        Ok(mount)
    }

    /// Reads only `from`, which takes no variables and is needed before any is known.
    pub fn parse_from(flag: &str) -> Result<Mount, MountError> {
        let mut mount = Mount { readonly: true, ..Mount::default() };
        for field in csv::split(flag).map_err(MountError::Csv)? {
            let Some((key, value)) = field.split_once('=') else { continue };
            let key = key.to_lowercase();
            if key == "from" {
                if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                    return Err(MountError::Variable(key));
                }
                mount.from = value.to_owned();
            }
        }
        Ok(mount)
    }

    fn set(
        &mut self,
        field: &str,
        key: &str,
        value: Option<String>,
        readonly: &mut Option<bool>,
    ) -> Result<(), MountError> {
        let Some(value) = value else {
            match key {
                "readonly" | "ro" => *readonly = Some(true),
                "readwrite" | "rw" => *readonly = Some(false),
                "required" => {
                    self.require_type(key, &[MountType::Secret, MountType::Ssh])?;
                    self.required = true;
                }
                _ => return Err(MountError::NoValue(field.to_owned())),
            }
            return Ok(());
        };
        let boolean = |value: &str| {
            parse_bool(value).ok_or_else(|| MountError::Value { key: key.to_owned(), value: value.to_owned() })
        };
        let number = |value: &str, base| {
            parse_u32(value, base)
                .map(Some)
                .ok_or_else(|| MountError::Number { key: key.to_owned(), value: value.to_owned() })
        };
        match key {
            "type" => self.kind = MountType::parse(&value)?,
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => *readonly = Some(boolean(&value)?),
            "readwrite" | "rw" => *readonly = Some(!boolean(&value)?),
            "required" => {
                self.require_type(key, &[MountType::Secret, MountType::Ssh])?;
                self.required = boolean(&value)?;
            }
            "size" => {
                self.require_type(key, &[MountType::Tmpfs])?;
                self.size_bytes =
                    parse_size(&value).map_err(|_| MountError::Value { key: key.to_owned(), value: value.clone() })?;
            }
            "id" => self.id = value,
            "sharing" => self.sharing = Some(Sharing::parse(&value)?),
            "mode" => self.mode = number(&value, 8)?,
            "uid" => self.uid = number(&value, 10)?,
            "gid" => self.gid = number(&value, 10)?,
            "env" => self.env = Some(value),
            _ => {
                return Err(MountError::UnknownKey {
                    key: key.to_owned(),
                    field: field.to_owned(),
                    nearest: suggest::nearest(key, KEYS),
                });
            }
        }
        Ok(())
    }

    fn require_type(&self, key: &str, kinds: &[MountType]) -> Result<(), MountError> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        Err(MountError::NotForType { key: key.to_owned(), kind: self.kind })
    }

    /// What can only be judged once all options are known.
    fn check(&self) -> Result<(), MountError> {
        if matches!(self.kind, MountType::Bind | MountType::Tmpfs) {
            for (key, given) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                if given.is_some() {
                    return Err(MountError::NotAllowed { key, kind: self.kind });
                }
            }
        }
        if self.kind == MountType::Secret {
            if !self.from.is_empty() {
                return Err(MountError::SecretFrom);
            }
            if self.sharing.is_some() {
                return Err(MountError::SecretSharing);
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return Err(MountError::SecretNameless);
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return Err(MountError::SecretTwoNames);
            }
        }
        if self.sharing.is_some() && self.kind != MountType::Cache {
            return Err(MountError::SharingNotCache(self.kind));
        }
        Ok(())
    }
}
