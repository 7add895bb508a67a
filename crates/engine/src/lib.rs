//! The product without a terminal: build, pull, push, run, images, indexes and builders as library calls.
//!
//! [`Engine`] is opened once for each invocation and is cheap: the store opens without reading content, the registry
//! client and the emulators come into being on first use. Nothing here prints, reads the environment or exits; what
//! the environment says arrives in [`EngineOptions`].

#![forbid(unsafe_code)]

pub mod builders;
mod catalog;
pub mod content;
mod context;
mod engine;
pub mod images;
pub mod import;
pub mod index;
mod layers;
mod options;
pub mod platforms;
pub mod pull;
pub mod push;
pub mod run;
mod snapshot;

pub use catalog::CatalogError;
pub use context::{ContextError, LocalContext};
pub use engine::Engine;
pub use layers::LayerError;
pub use options::EngineOptions;

/// Progress of builds, pulls and pushes: the solver's events.
pub mod progress {
    pub use onetag_solver::{Cancellation, Event, LogStream, Status, VertexInfo};
}
