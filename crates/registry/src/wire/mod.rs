//! What client and server share: names, headers, ranges, lists and error bodies of the distribution protocol.
//!
//! Everything here parses untrusted text, is bounded, never panics and does no I/O.

pub mod challenge;
pub mod errors;
pub mod link;
pub mod lists;
pub mod name;
pub mod query;
pub mod range;

/// Header names the protocol adds to HTTP's own, in the lower case that HTTP/2 wants.
pub mod header {
    /// Digest of the content served or stored.
    pub const CONTENT_DIGEST: &str = "docker-content-digest";
    /// Says which API a registry speaks; old clients look for it.
    pub const API_VERSION: &str = "docker-distribution-api-version";
    /// Identity of an upload session.
    pub const UPLOAD_UUID: &str = "docker-upload-uuid";
    /// Smallest chunk a registry accepts, sent when an upload begins.
    pub const CHUNK_MINIMUM: &str = "oci-chunk-min-length";
    /// Digest of the subject that a registry recorded for a pushed manifest.
    pub const SUBJECT: &str = "oci-subject";
    /// Filters that were applied to a list of referrers.
    pub const FILTERS_APPLIED: &str = "oci-filters-applied";
    /// Tags that were set along with a manifest pushed by digest.
    pub const TAG: &str = "oci-tag";
}

/// Largest manifest that client and server handle, in bytes.
pub const MANIFEST_LIMIT_BYTES: usize = 4 * 1024 * 1024;
