//! Loading the Dockerfile.

use std::path::PathBuf;

use onetag_dockerfile::diagnostic::{excerpt, render};
use onetag_dockerfile::span::LineRange;
use onetag_dockerfile::{DockerfileError, parse};
use onetag_oci::Digest;

use super::{BuildContext, BuildError, BuildRequest, Dockerfile, DockerfileSource};
use crate::progress::{Activity, Sink};

/// A Dockerfile that was read.
pub(super) struct Definition {
    /// The file's name, for messages.
    pub(super) name: String,
    /// Its path, where it is on this host.
    pub(super) path: Option<PathBuf>,
    /// The folder of the context, where it is on this host.
    pub(super) folder: Option<PathBuf>,
    /// What it says.
    pub(super) file: Dockerfile,
}

/// A Dockerfile's text.
pub(super) struct Text {
    /// The file's name, for messages.
    pub(super) name: String,
    /// Its path, where it is on this host.
    pub(super) path: Option<PathBuf>,
    /// What is in it.
    pub(super) content: Vec<u8>,
}

fn activity_name(file: &str) -> String {
    format!("[internal] load build definition from {file}")
}

impl Text {
    pub(super) fn load(request: &BuildRequest, sink: &Sink<'_>) -> Result<Self, BuildError> {
        let (name, path) = match &request.dockerfile {
            DockerfileSource::Path(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                (name, Some(path.clone()))
            }
            DockerfileSource::Content(_) => ("Dockerfile".to_owned(), None),
        };
        let activity = Activity::start(&activity_name(&name), sink);
        let content = match (&request.dockerfile, &path) {
            (DockerfileSource::Content(content), _) => Ok(content.clone()),
            (_, Some(path)) => std::fs::read(path).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => BuildError::DockerfileNotFound { name: name.clone() },
                _ => BuildError::DockerfileUnreadable { path: path.clone(), source },
            }),
            (_, None) => Ok(Vec::new()),
        };
        activity.transferred("transferring dockerfile:", content.as_ref().map_or(2, |content| content.len() as u64));
        Ok(Self { content: activity.finish(content)?, name, path })
    }
}

impl Definition {
    pub(super) fn load(request: &BuildRequest, sink: &Sink<'_>) -> Result<Self, BuildError> {
        let Text { name, path, content } = Text::load(request, sink)?;
        let (file, diagnostics) = parse(&content);
        if !diagnostics.is_empty() {
            let excerpt = render(&name, &file.source, &diagnostics);
            return Err(BuildError::Syntax { diagnostics, excerpt });
        }
        let folder = match &request.context {
            BuildContext::Local(folder) => Some(folder.clone()),
            _ => None,
        };
        Ok(Self { name, path, folder, file })
    }

    /// What loading it is shown as.
    pub(super) fn vertex(&self) -> Digest {
        Activity::vertex(&activity_name(&self.name))
    }

    /// The lines as BuildKit shows them; nothing for none.
    pub(super) fn excerpt(&self, lines: &[LineRange]) -> Option<String> {
        let text = excerpt(&self.name, &self.file.source, lines);
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn lowering_error(&self, error: DockerfileError) -> BuildError {
        let excerpt = error.lines.last().and_then(|lines| self.excerpt(std::slice::from_ref(lines)));
        BuildError::Dockerfile { source: Box::new(error), excerpt }
    }
}
