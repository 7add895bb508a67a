//! The values of build flags, as `docker buildx build` takes them.
//!
//! Pure: nothing is read from files or the environment. A secret, for example, comes out as the
//! path or the variable that holds it.

mod allow;
mod annotation;
mod attest;
mod attributes;
mod cache;
mod call;
mod context;
mod error;
mod limit;
mod output;
mod platform;
mod secret;
mod ssh;
#[cfg(test)]
mod tests;

pub use allow::{Allowed, parse_allow};
pub use annotation::{Annotation, AnnotationTarget, parse_annotations};
pub use attest::{Attestation, attestation_map, canonical_attestation, parse_attestations};
pub use cache::{CacheEntry, parse_cache};
pub use call::{Call, parse_call};
pub use context::parse_contexts;
pub use error::FlagError;
pub use limit::{Ulimit, parse_bytes, parse_ulimit};
pub use output::{Output, parse_outputs};
pub use platform::{deduplicate_platforms, parse_platforms};
pub use secret::{Secret, parse_secrets};
pub use ssh::{Ssh, parse_ssh};

/// What a flag parser gives.
pub type Result<T> = std::result::Result<T, FlagError>;
