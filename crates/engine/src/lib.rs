//! The product without a terminal: build, pull, push, run, images, indexes and builders as library calls.
//!
//! [`Engine`] is opened once for each invocation and is cheap: the store opens without reading content, the registry
//! client and the emulators come into being on first use. Nothing here prints, reads the environment or exits; what
//! the environment says arrives in [`EngineOptions`].

#![forbid(unsafe_code)]

pub mod build;
pub mod builders;
pub mod cache;
mod catalog;
pub mod check;
pub mod content;
mod context;
pub mod copy;
pub mod emulators;
mod encoding;
mod engine;
pub mod export;
pub mod flags;
pub mod images;
pub mod import;
pub mod index;
mod layers;
mod op;
mod options;
mod parallel;
pub mod pin;
pub mod platforms;
mod probes;
pub mod progress;
pub mod provenance;
pub mod pull;
pub mod push;
mod resolve;
pub mod run;
mod snapshot;

pub use catalog::CatalogError;
pub use context::{ContextError, LocalContext};
pub use engine::Engine;
pub use layers::LayerError;
pub use op::{Entitlements, StepError};
pub use options::EngineOptions;
