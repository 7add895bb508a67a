//! Why a build failed.

use std::path::PathBuf;
use std::sync::Arc;

use onetag_dockerfile::diagnostic::Diagnostic;
use onetag_oci::{Digest, Platform};

use super::FailedPlatform;
use crate::cache::CacheError;
use crate::catalog::CatalogError;
use crate::context::ContextError;
use crate::export::ExportError;
use crate::pin::LockError;

/// Why a build failed. The causes together read as BuildKit's message does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The Dockerfile does not exist.
    #[error("failed to read dockerfile: open {name}: no such file or directory")]
    DockerfileNotFound {
        /// Its name.
        name: String,
    },
    /// The Dockerfile cannot be read.
    #[error("failed to read dockerfile {path}")]
    DockerfileUnreadable {
        /// Its path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The context cannot be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The ignore file cannot be read.
    #[error("failed to solve")]
    IgnoreFile(#[source] Box<onetag_dockerfile::resolver::ResolveError>),
    /// The Dockerfile's text is broken.
    #[error("failed to solve: {}", first(diagnostics))]
    Syntax {
        /// All that is wrong with it, the first first.
        diagnostics: Vec<Diagnostic>,
        /// The lines in question, with all that is wrong with them.
        excerpt: String,
    },
    /// The Dockerfile's meaning is broken, or something that it needs is not there.
    #[error("failed to solve")]
    Dockerfile {
        /// Why.
        #[source]
        source: Box<onetag_dockerfile::DockerfileError>,
        /// The lines in question, where there are any.
        excerpt: Option<String>,
        /// What to type to mend it.
        hints: Vec<String>,
    },
    /// A step failed.
    #[error("failed to solve")]
    Step {
        /// The vertex.
        vertex: Digest,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
        /// The lines in question, where there are any.
        excerpt: Option<String>,
        /// What to type to mend it.
        hint: Option<String>,
    },
    /// Of several platforms some could not be built.
    #[error("failed to solve: {}", super::partial::summary(failed))]
    Platforms {
        /// Those, with their causes.
        failed: Vec<FailedPlatform>,
        /// Those that were built, and are exported nowhere.
        built: Vec<Platform>,
    },
    /// The graph makes no sense; a fault of this program.
    #[error("failed to solve")]
    Solver(#[source] onetag_solver::SolveError),
    /// The result could not be brought where it should go.
    #[error("failed to solve")]
    Export(#[source] Box<ExportError>),
    /// The cache could not be written.
    #[error("failed to solve: failed to export cache to {place}")]
    CacheExport {
        /// Where it should go.
        place: String,
        /// Why not.
        #[source]
        source: Box<CacheError>,
    },
    /// The local store failed.
    #[error("failed to solve")]
    Store(#[from] onetag_store::Error),
    /// The lock file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The build was cancelled.
    #[error("failed to solve: Canceled: context canceled")]
    Cancelled,
    /// An option's value that means nothing.
    #[error(transparent)]
    Flag(Box<crate::flags::FlagError>),
    /// An option that cannot be carried out.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

fn first(diagnostics: &[Diagnostic]) -> String {
    diagnostics.first().map(|diagnostic| diagnostic.message.clone()).unwrap_or_default()
}

impl BuildError {
    /// The lines of the Dockerfile that the error is about, as BuildKit prints them.
    pub fn excerpt(&self) -> Option<String> {
        match self {
            Self::Syntax { excerpt, .. } => Some(excerpt.clone()),
            Self::Dockerfile { excerpt, .. } | Self::Step { excerpt, .. } => excerpt.clone(),
            Self::Platforms { failed, .. } => super::partial::excerpts(failed),
            _ => None,
        }
    }

    /// What to type to mend it.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Step { hint, .. } => hint.iter().cloned().collect(),
            Self::Dockerfile { source, hints, .. } => {
                let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
                while let Some(error) = cause {
                    // Its causes begin below the resolver's own error.
                    if let Some(error) = error.downcast_ref::<onetag_dockerfile::ResolveError>() {
                        let own = error.get_ref().downcast_ref::<CatalogError>().and_then(CatalogError::hint);
                        return own.into_iter().chain(hints.iter().cloned()).collect();
                    }
                    cause = error.source();
                }
                hints.clone()
            }
            Self::CacheExport { source, .. } => source.hint().map(str::to_owned).into_iter().collect(),
            Self::Export(error) if error.is_changed_context() => vec![crate::context::CHANGED_HINT.to_owned()],
            Self::Export(error) => error.hint().map(str::to_owned).into_iter().collect(),
            Self::Platforms { failed, built } => super::partial::hint(failed, built).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}
