//! `build --record`: what was pushed, for `imagetools merge`.

use std::path::Path;

use onetag_engine::build::{BuildContext, BuildOutcome, BuildRequest, DockerfileSource};
use onetag_engine::export::Target;
use onetag_engine::index::{BuildRecord, RecordedFile, RecordedPlatform};
use onetag_oci::Digest;

use super::{BuildArguments, vcs};
use crate::error::{CommandError, CommandResult};

impl BuildArguments {
    /// A record without a push says nothing; told before the build, not after it.
    pub(super) fn check_record(&self, request: &BuildRequest) -> CommandResult {
        let is_pushed = request.outputs.iter().any(|output| matches!(output.target, Target::Push));
        if self.push_by_digest && self.tag.is_empty() {
            return Err(CommandError::new("--push-by-digest needs a repository").with_hint("-t REGISTRY/REPOSITORY"));
        }
        if self.record.is_some() && !is_pushed {
            return Err(CommandError::new("--record tells what was pushed, and nothing is pushed")
                .with_hint("--push-by-digest -t REGISTRY/REPOSITORY"));
        }
        Ok(())
    }

    /// Writes the record, if one was asked for.
    pub(super) fn write_record(&self, request: &BuildRequest, outcome: &BuildOutcome) -> CommandResult {
        let Some(path) = &self.record else { return Ok(()) };
        let (Some(repository), Some(descriptor)) = (outcome.names.first(), &outcome.descriptor) else {
            return Err(CommandError::new("nothing was pushed, so that there is nothing to record"));
        };
        let platforms = outcome.platforms.iter().filter_map(|platform| {
            let manifest = platform.manifest.clone()?;
            Some(RecordedPlatform { platform: platform.platform.normalize(), manifest })
        });
        let created = jiff::Timestamp::now().to_string();
        let mut descriptor = descriptor.clone();
        descriptor.platform = None;
        let mut record = BuildRecord::new(repository, descriptor, platforms.collect(), created);
        let folder = match &request.context {
            BuildContext::Local(folder) => Some(folder.as_path()),
            _ => None,
        };
        record.source = vcs::revision(folder);
        record.dockerfile = dockerfile(request).map(|digest| RecordedFile { digest });
        super::write(path, &record.to_json())
    }
}

/// The digest of the Dockerfile, where it is a file of this host or came over standard input.
fn dockerfile(request: &BuildRequest) -> Option<Digest> {
    match (&request.dockerfile, &request.context) {
        (DockerfileSource::Content(content), _) => Some(Digest::sha256(content)),
        (DockerfileSource::Path(path), BuildContext::Local(_)) => read(path),
        _ => None,
    }
}

fn read(path: &Path) -> Option<Digest> {
    std::fs::read(path).ok().map(|content| Digest::sha256(&content))
}
