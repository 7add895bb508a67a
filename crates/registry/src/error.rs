//! What can go wrong between this client and a registry.

use std::fmt;
use std::io;
use std::time::Duration;

use http::{Method, StatusCode};
use onetag_oci::{Digest, DocumentError};
use url::Url;

use crate::credential::CredentialError;
use crate::wire::errors::ErrorEntry;

/// Result of the client's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request to a registry did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such manifest, tag, blob or repository, as far as these credentials see.
    #[error("{what}: not found")]
    NotFound {
        /// Reference or digest asked for.
        what: String,
    },
    /// Credentials are missing or wrong.
    #[error("{registry} refuses access to {what}: {}", reason(errors, "authentication required"))]
    Unauthorized {
        /// The registry's host.
        registry: String,
        /// What was asked for.
        what: String,
        /// Whether any credentials were shown.
        had_credentials: bool,
        /// What the registry said.
        errors: Vec<ErrorEntry>,
    },
    /// The registry knows who asks and does not allow it.
    #[error("{registry} denies access to {what}: {}", reason(errors, "forbidden"))]
    Denied {
        /// The registry's host.
        registry: String,
        /// What was asked for.
        what: String,
        /// What the registry said.
        errors: Vec<ErrorEntry>,
    },
    /// Any other answer that was not hoped for.
    #[error("unexpected status from {method} request to {url}: {status}{}", said(errors))]
    Status {
        /// Method of the request.
        method: Method,
        /// Its address, without secrets.
        url: RedactedUrl,
        /// The answer's status.
        status: StatusCode,
        /// What the registry said.
        errors: Vec<ErrorEntry>,
        /// When the registry wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// No connection could be made.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host and port.
        host: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A connection broke, or what came over it was not HTTP.
    #[error("{method} request to {url} failed")]
    Transport {
        /// Method of the request.
        method: Method,
        /// Its address, without secrets.
        url: RedactedUrl,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing arrived or could be sent for too long.
    #[error("{method} request to {url}: nothing happened for {} s", after.as_secs())]
    Stalled {
        /// Method of the request.
        method: Method,
        /// Its address, without secrets.
        url: RedactedUrl,
        /// How long was waited.
        after: Duration,
    },
    /// An answer breaks the protocol.
    #[error("{url} answered with {problem}")]
    Protocol {
        /// Address of the request, without secrets.
        url: RedactedUrl,
        /// What is wrong with the answer.
        problem: String,
    },
    /// Content is not what its digest says.
    #[error("content of {what} has digest {actual}")]
    DigestMismatch {
        /// Reference or digest asked for.
        what: String,
        /// Digest of what came.
        actual: Digest,
    },
    /// Content is longer or shorter than its descriptor says.
    #[error("{what} has {actual} bytes instead of {expected}")]
    SizeMismatch {
        /// Reference or digest asked for.
        what: String,
        /// Size according to the descriptor.
        expected: u64,
        /// Size of what came, as far as it was looked at.
        actual: u64,
    },
    /// A document is larger than this client reads.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// Reference or address.
        what: String,
        /// The limit.
        limit_bytes: usize,
    },
    /// A manifest cannot be used.
    #[error("cannot use the manifest of {what}")]
    Document {
        /// Reference asked for.
        what: String,
        /// Why not.
        #[source]
        source: DocumentError,
    },
    /// The registry wants credentials or a token fetched in a way that would give a secret away.
    #[error("{registry} asks for a token from {realm}, {problem}")]
    UnsafeRealm {
        /// The registry's host.
        registry: String,
        /// The token service it names.
        realm: RedactedUrl,
        /// Why it is not asked.
        problem: &'static str,
    },
    /// A token service gave no token.
    #[error("no token for {registry} from {realm}: status {}{}", status.as_u16(), said(errors))]
    Token {
        /// The registry's host.
        registry: String,
        /// The token service.
        realm: RedactedUrl,
        /// Its status.
        status: StatusCode,
        /// What it said.
        errors: Vec<ErrorEntry>,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Credentials cannot be read.
    #[error("cannot get credentials for {registry}")]
    Credential {
        /// The registry's host.
        registry: String,
        /// Why not.
        #[source]
        source: CredentialError,
    },
    /// A certificate, key or trust store cannot be used.
    #[error("cannot set up TLS for {host}")]
    Tls {
        /// Host and port.
        host: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Content to push cannot be read.
    #[error("cannot read {what}")]
    Source {
        /// Digest or reference of what was to be pushed.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Fetched content cannot be written.
    #[error("cannot write {what}")]
    Sink {
        /// Digest of what was fetched.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No threads or event queue for the client.
    #[error("cannot start the client's runtime")]
    Runtime(#[source] io::Error),
}

impl Error {
    /// Whether the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    /// Whether the same request may succeed when made again.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Error::Status { status, .. } => {
                matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
            }
            Error::Token { status, .. } => matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504),
            Error::Transport { .. } | Error::Stalled { .. } => true,
            Error::Connect { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::TimedOut
            ),
            _ => false,
        }
    }

    /// When the registry wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Status { retry_after, .. } | Error::Token { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The answer's status, in case it is one of the unexpected.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Error::Status { status, .. } | Error::Token { status, .. } => Some(*status),
            Error::NotFound { .. } => Some(StatusCode::NOT_FOUND),
            Error::Unauthorized { .. } => Some(StatusCode::UNAUTHORIZED),
            Error::Denied { .. } => Some(StatusCode::FORBIDDEN),
            _ => None,
        }
    }
}

/// An address that may be shown: no user, no password, and of the query only what the protocol puts there.
#[derive(Clone, PartialEq, Eq)]
pub struct RedactedUrl(String);

/// Parameters that hold no secret.
const SHOWN: [&str; 9] =
    ["n", "last", "digest", "mount", "from", "artifactType", "digest-algorithm", "scope", "service"];

impl RedactedUrl {
    /// Leaves out what might be secret.
    pub fn new(url: &Url) -> Self {
        let mut shown = url.clone();
        // Both fail only for addresses without a host, which have no user either.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_fragment(None);
        if url.query().is_some() {
            let pairs: Vec<_> = url
                .query_pairs()
                .map(|(name, value)| {
                    let value = if SHOWN.contains(&name.as_ref()) { value.into_owned() } else { "REDACTED".to_owned() };
                    format!("{}={}", crate::wire::query::encode(&name), crate::wire::query::encode(&value))
                })
                .collect();
            shown.set_query(Some(&pairs.join("&")));
        }
        RedactedUrl(shown.into())
    }
}

impl fmt::Display for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn reason(errors: &[ErrorEntry], otherwise: &str) -> String {
    errors.iter().find_map(text).unwrap_or_else(|| otherwise.to_owned())
}

fn said(errors: &[ErrorEntry]) -> String {
    let texts: Vec<_> = errors.iter().filter_map(text).collect();
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join("; ")) }
}

fn text(entry: &ErrorEntry) -> Option<String> {
    let code = entry.code.to_ascii_lowercase().replace('_', " ");
    match (code.is_empty(), entry.message.is_empty()) {
        (true, true) => None,
        (false, true) => Some(code),
        (_, false) => Some(entry.message.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let url =
            Url::parse("https://user:pass@h/v2/a/blobs/uploads/x?_state=SECRET&digest=sha256:ab#frag").expect("url");
        let shown = RedactedUrl::new(&url).to_string();
        assert_eq!(shown, "https://h/v2/a/blobs/uploads/x?_state=REDACTED&digest=sha256:ab");
    }
}
