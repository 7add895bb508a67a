//! The product without a terminal: build, pull, push, run, images, indexes and builders as library calls.
//!
//! [`Engine`] is opened once for each invocation and is cheap: the store opens without reading content, the registry
//! client and the emulators come into being on first use. Nothing here prints, reads the environment or exits; what
//! the environment says arrives in [`EngineOptions`].

#![forbid(unsafe_code)]

mod options;

pub use options::EngineOptions;

/// The opened product: the store, the registry client and the emulators, each made when first needed.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
}

impl Engine {
    /// Opens the engine. Touches nothing yet; errors of the store or the configuration appear on first use.
    pub fn open(options: EngineOptions) -> Self {
        Self { options }
    }

    /// What the engine was opened with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }
}
