//! Credentials: where they come from and what they look like.
//!
//! [`ConfigFiles`] reads Docker's `config.json` and podman's `auth.json` and asks credential helpers; the paths of all of them are
//! arguments, because this crate reads neither the environment nor the home directory.

mod config;
mod helper;

use std::fmt;
use std::io;
use std::path::PathBuf;

pub use config::{ConfigFiles, normalize_registry};
pub use helper::{HelperRunner, ProcessHelpers};

/// Something to show to a registry or its token service.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password (or an access token in its place).
    Basic {
        /// Name of the user.
        username: String,
        /// The password.
        password: String,
    },
    /// A token to get tokens with (OAuth2 refresh token, which Docker calls identity token).
    IdentityToken(String),
    /// A token to show to the registry itself.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Basic { .. } => "Basic(…)",
            Credential::IdentityToken(_) => "IdentityToken(…)",
            Credential::RegistryToken(_) => "RegistryToken(…)",
        })
    }
}

/// Credentials cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file is not of the form it should have.
    #[error("{path} is no credentials file")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A credential helper cannot be run.
    #[error("cannot run credential helper {program}")]
    Helper {
        /// Its program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A credential helper failed, with what it said.
    #[error("credential helper {program} failed: {message}")]
    HelperFailed {
        /// Its program.
        program: String,
        /// What it said.
        message: String,
    },
}

/// Where the client gets credentials from.
pub trait CredentialProvider: Send + Sync {
    /// Credentials for a registry, named as in references (`docker.io`, `localhost:5000`); `None` to ask without.
    ///
    /// # Errors
    /// When they exist but cannot be read.
    fn credential(&self, registry: &str) -> Result<Option<Credential>, CredentialError>;
}

/// No credentials for anybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl CredentialProvider for Anonymous {
    fn credential(&self, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }
}
