//! From results to images: layers, configs, manifests, indexes, and where they go.

mod archive;
mod assemble;
mod files;
mod options;
mod publish;
mod upload;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub(crate) use assemble::{Assembler, Attest, BuiltImage, BuiltLayer, BuiltPlatform, Part};
pub use options::{Destination, ExportOptions, OptionError, Target};
pub(crate) use publish::{load, push, repositories};
pub(crate) use upload::Uploads;
pub(crate) use {archive::layout_entry, archive::write_archive, files::write_files};

use crate::layers::LayerError;

/// A stream that an export is written to.
pub type SharedWriter = Arc<Mutex<Box<dyn std::io::Write + Send>>>;

/// Why a result could not be brought where it should go.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// An option that means nothing.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] onetag_store::Error),
    /// A layer's content is not to be had.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The config cannot be finished.
    #[error(transparent)]
    Config(#[from] onetag_dockerfile::export::ExportError),
    /// The finished config cannot be read; a fault of this program.
    #[error("unusable {what}")]
    Document {
        /// Which document.
        what: &'static str,
        /// Why not.
        #[source]
        source: onetag_oci::DocumentError,
    },
    /// The registry did not take it.
    #[error("failed to push {reference}")]
    Push {
        /// The name.
        reference: String,
        /// Why not.
        #[source]
        source: Box<onetag_registry::Error>,
    },
    /// A name that cannot be pushed to.
    #[error(transparent)]
    Reference(#[from] onetag_oci::ReferenceError),
    /// Nothing to push to.
    #[error("tag is needed when pushing to registry")]
    NoName,
    /// Docker's archives hold one platform.
    #[error("docker exporter does not currently support exporting manifest lists")]
    ManifestList,
    /// Attestations that cannot be made.
    #[error(transparent)]
    Provenance(#[from] crate::provenance::ProvenanceError),
    /// An annotation for which there is no place.
    #[error("{0}")]
    Annotation(String),
    /// Writing failed.
    #[error("cannot write {path}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The same failure as that of another platform or output.
    #[error(transparent)]
    Shared(Arc<ExportError>),
    /// The build was cancelled.
    #[error("context canceled")]
    Cancelled,
}

impl ExportError {
    /// What to type to mend it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoName => Some("-t REGISTRY/REPOSITORY:TAG"),
            Self::ManifestList => {
                Some("-o type=oci,dest=FILE holds all platforms; --load puts them into the local store")
            }
            Self::Shared(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether a file of the context was not what it was when it was digested.
    pub(crate) fn is_changed_context(&self) -> bool {
        match self {
            Self::Store(onetag_store::Error::Changed { .. })
            | Self::Layer(LayerError::Store(onetag_store::Error::Changed { .. })) => true,
            Self::Shared(error) => error.is_changed_context(),
            _ => false,
        }
    }
}
