//! What is wrong with a Dockerfile that cannot be built anyway: instructions are missing from it, and nothing is asked
//! for, so only what is wrong whatever images and missing instructions say is told.

use onetag_oci::{Platform, Reference};

use super::{DockerfileError, DockerfileErrorKind, LowerOptions, Lowering};
use crate::diagnostic::{Diagnostic, sort_others};
use crate::file::{Dockerfile, MAX_ERRORS};
use crate::resolver::{IgnoreFile, NamedContext, ResolveError, ResolveOptions, ResolvedImage, Resolver};

/// The errors that reading a Dockerfile gave, and what lowering would add to them. The first stays the first.
pub fn mistakes(file: &Dockerfile, options: &LowerOptions, mut errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut lowering = Lowering::new(file, options, &Nobody);
    lowering.is_doubtful = true;
    let Err(error) = lowering.apply() else { return errors };
    let found = error.located(file).into_all().into_iter().filter(|error| !is_uncertain(error));
    let room = MAX_ERRORS - errors.len().min(MAX_ERRORS);
    errors.extend(found.map(|error| error.diagnostic()).filter(|found| !found.lines.is_empty()).take(room));
    sort_others(&mut errors);
    errors
}

/// Whether it may come of a stage that is missing.
fn is_uncertain(error: &DockerfileError) -> bool {
    matches!(
        *error.kind,
        DockerfileErrorKind::NoStages
            | DockerfileErrorKind::StageIndex(_)
            | DockerfileErrorKind::Circular(_)
            | DockerfileErrorKind::CopyFromLater { .. }
            | DockerfileErrorKind::MountFromLater { .. }
    )
}

/// Whether it is only that nobody was there to be asked.
pub(super) fn was_not_asked(error: &DockerfileError) -> bool {
    let source = match error.kind.as_ref() {
        DockerfileErrorKind::BaseImage { source, .. }
        | DockerfileErrorKind::Context { source, .. }
        | DockerfileErrorKind::EpochSource(source) => source,
        _ => return false,
    };
    source.get_ref().is::<NotAsked>()
}

#[derive(Debug, thiserror::Error)]
#[error("not asked for")]
struct NotAsked;

/// Knows nothing.
struct Nobody;

impl Resolver for Nobody {
    fn image_config(
        &self,
        _reference: &Reference,
        _platform: &Platform,
        _options: &ResolveOptions,
    ) -> Result<ResolvedImage, ResolveError> {
        Err(ResolveError::new(NotAsked))
    }

    fn ignore_file(&self) -> Result<Option<IgnoreFile>, ResolveError> {
        Ok(None)
    }

    fn named_context(&self, _key: &str) -> Result<Option<NamedContext>, ResolveError> {
        Ok(None)
    }

    fn source_time(&self, _source: &onetag_llb::SourceOp, _log_name: &str) -> Result<Option<i64>, ResolveError> {
        Err(ResolveError::new(NotAsked))
    }
}
