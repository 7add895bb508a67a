//! Error bodies: `{"errors":[{"code","message","detail"}]}`.

use serde::{Deserialize, Serialize};

/// Most entries kept of an error body.
const ENTRY_LIMIT: usize = 16;
/// Most characters kept of a message.
const MESSAGE_LIMIT: usize = 1024;

/// The codes of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// A blob is not in the repository.
    BlobUnknown,
    /// An upload is not as it should be.
    BlobUploadInvalid,
    /// No such upload session.
    BlobUploadUnknown,
    /// A digest is malformed or is not that of the content.
    DigestInvalid,
    /// A manifest refers to content that the repository lacks.
    ManifestBlobUnknown,
    /// A manifest cannot be read.
    ManifestInvalid,
    /// No such manifest or tag.
    ManifestUnknown,
    /// A repository's name is malformed.
    NameInvalid,
    /// No such repository.
    NameUnknown,
    /// A length is not that of the content.
    SizeInvalid,
    /// Credentials are needed.
    Unauthorized,
    /// The credentials do not suffice.
    Denied,
    /// The registry does not do this.
    Unsupported,
    /// Too many requests in too short a time.
    TooManyRequests,
    /// Something failed inside the registry (not in the specification's table, used by all registries).
    Unknown,
}

impl ErrorCode {
    /// The identifier that goes over the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BlobUnknown => "BLOB_UNKNOWN",
            ErrorCode::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            ErrorCode::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            ErrorCode::DigestInvalid => "DIGEST_INVALID",
            ErrorCode::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            ErrorCode::ManifestInvalid => "MANIFEST_INVALID",
            ErrorCode::ManifestUnknown => "MANIFEST_UNKNOWN",
            ErrorCode::NameInvalid => "NAME_INVALID",
            ErrorCode::NameUnknown => "NAME_UNKNOWN",
            ErrorCode::SizeInvalid => "SIZE_INVALID",
            ErrorCode::Unauthorized => "UNAUTHORIZED",
            ErrorCode::Denied => "DENIED",
            ErrorCode::Unsupported => "UNSUPPORTED",
            ErrorCode::TooManyRequests => "TOOMANYREQUESTS",
            ErrorCode::Unknown => "UNKNOWN",
        }
    }
}

/// One entry of an error body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// Identifier; one of [`ErrorCode`]'s from registries that follow the specification.
    #[serde(default)]
    pub code: String,
    /// Text for people.
    #[serde(default)]
    pub message: String,
    /// Anything.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

/// An error body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    #[serde(default)]
    pub errors: Vec<ErrorEntry>,
}

/// Reads an error body; what is none gives an empty list. Control characters are removed, so that a message may be shown on a terminal.
pub fn parse(body: &[u8]) -> Vec<ErrorEntry> {
    let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else {
        return Vec::new();
    };
    let mut entries = body.errors;
    entries.truncate(ENTRY_LIMIT);
    for entry in &mut entries {
        entry.code = printable(&entry.code);
        entry.message = printable(&entry.message);
        entry.detail = serde_json::Value::Null;
    }
    entries
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_cleans() {
        let entries =
            parse(b"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\\u001b[2J\",\"detail\":{\"a\":1}},{}]}");
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].code, "DENIED");
        assert_eq!(entries[0].message, "no[2J");
        assert!(parse(b"<html>").is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }
    }
}
