//! The image model: digests, references, platforms, descriptors, indexes, manifests and configs, as pure types.
//!
//! Nothing here does I/O. Three rules hold for every type:
//!
//! - a text with a grammar is parsed once, at the edge, into a type of its own ([`Digest`], [`Reference`], [`Platform`]);
//! - fields that this crate does not know survive a round trip (the `extra` maps), and [`Document`] keeps the exact
//!   bytes that were received beside the parsed form, so that a digest never depends on our serializer;
//! - serialization is deterministic and is what Go's `encoding/json` writes for the same structures.
#![forbid(unsafe_code)]

mod config;
mod descriptor;
mod digest;
mod document;
pub mod elf;
mod index;
mod json;
mod manifest;
pub mod media_type;
mod platform;
mod reference;

pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, ChainId, DiffId, Digest, DigestError, Digester};
pub use document::{DEFAULT_DOCUMENT_LIMIT, Document, DocumentError, ManifestDocument};
pub use index::Index;
pub use json::{go_json, go_json_indent};
pub use manifest::Manifest;
pub use media_type::Compression;
pub use platform::{
    Exact, Only, Platform, PlatformError, PlatformMatcher, exact, only, only_strict, order, ordered, select,
};
pub use reference::{AnyReference, Reference, ReferenceError, parse_any, parse_docker_ref};

/// Members of a JSON object that the model has no field for, in the order received.
pub type Extra = serde_json::Map<String, serde_json::Value>;
