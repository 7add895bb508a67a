//! How a server is to be, and why it cannot be started.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::collect::CollectOptions;
use super::log::AccessLog;
use super::storage::StorageError;

/// How a server is to be.
#[derive(Clone)]
pub struct Options {
    /// Folder of the registry's content; created when missing.
    pub root: PathBuf,
    /// Address and port to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Listen on an address that others can reach although TLS or passwords are missing.
    pub allow_unprotected: bool,
    /// Speak TLS.
    pub tls: Option<TlsFiles>,
    /// Ask for a user and password of this htpasswd file (bcrypt); read again when it changes.
    pub htpasswd: Option<PathBuf>,
    /// What is allowed.
    pub policy: Policy,
    /// How much is allowed.
    pub limits: Limits,
    /// Takes one record a request.
    pub access_log: Option<Arc<AccessLog>>,
    /// A text that clients show to their users: a `Warning` header in every answer.
    pub warning: Option<String>,
    /// Collect garbage while serving.
    pub collection: Option<Collection>,
}

impl Options {
    /// Defaults for a folder: `127.0.0.1:5000`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Options {
            root: root.into(),
            address: SocketAddr::from(([127, 0, 0, 1], 5000)),
            allow_unprotected: false,
            tls: None,
            htpasswd: None,
            policy: Policy::default(),
            limits: Limits::default(),
            access_log: None,
            warning: None,
            collection: None,
        }
    }

    /// What is missing for an address that others can reach.
    pub(super) fn unprotected(&self) -> Option<&'static str> {
        if self.address.ip().is_loopback() || self.allow_unprotected {
            return None;
        }
        match (self.tls.is_some(), self.htpasswd.is_some() || self.policy.read_only) {
            (false, _) => Some("TLS does not"),
            (true, false) => Some("a password does not"),
            (true, true) => None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("root", &self.root).field("address", &self.address).finish_non_exhaustive()
    }
}

/// When garbage is collected, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// Time between two collections.
    pub every: Duration,
    /// What is collected.
    pub options: CollectOptions,
}

/// Certificate chain and private key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What a registry allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Nothing may be pushed or deleted.
    pub read_only: bool,
    /// Manifests and indexes may refer to content that is not here.
    pub sparse: bool,
}

/// How much a registry allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest blob, in bytes.
    pub blob_bytes: u64,
    /// Most uploads under way at once.
    pub uploads: usize,
    /// Most connections at once; others wait.
    pub connections: usize,
    /// How long a client may send nothing while it should.
    pub stall: Duration,
    /// How long a client may take to send one request.
    pub body: Duration,
    /// How long an upload may rest before what arrived of it is removed.
    pub upload_age: Duration,
    /// How long requests under way may take after the server was asked to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            blob_bytes: u64::MAX,
            uploads: 4096,
            connections: 1024,
            stall: Duration::from_secs(60),
            body: Duration::from_secs(24 * 60 * 60),
            upload_age: Duration::from_secs(24 * 60 * 60),
            grace: Duration::from_secs(10),
        }
    }
}

/// A server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The address is reachable from elsewhere, and not enough protects the content.
    #[error("refusing to listen on {address}: others can reach it, and {missing} protect the registry")]
    Unprotected {
        /// The address.
        address: SocketAddr,
        /// What does not protect it.
        missing: &'static str,
    },
    /// The folder cannot be used.
    #[error("cannot use the registry's storage")]
    Storage(#[from] StorageError),
    /// Certificate or key cannot be used.
    #[error("cannot set up TLS with {path}")]
    Tls {
        /// File of the certificate or key.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The password file cannot be used.
    #[error("cannot use the password file {path}")]
    Passwords {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The warning cannot be sent.
    #[error("a warning is one line of at most {limit_bytes} printable ASCII characters without quotes and backslashes")]
    Warning {
        /// Its largest length.
        limit_bytes: usize,
    },
    /// No threads or event queue.
    #[error("cannot start the server's runtime")]
    Runtime(#[source] io::Error),
}
