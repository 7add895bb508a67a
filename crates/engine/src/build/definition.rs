//! Loading the Dockerfile.

use std::path::PathBuf;

use onetag_dockerfile::diagnostic::{Diagnostic, excerpt, render};
use onetag_dockerfile::span::LineRange;
use onetag_dockerfile::{DockerfileError, LowerOptions, MainContext, mistakes, parse};
use onetag_oci::{Digest, Reference};

use super::{BuildContext, BuildError, BuildRequest, CONTEXT, Dockerfile, DockerfileSource};
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
    /// What the main context is in the graph.
    pub(super) context: MainContext,
}

/// A Dockerfile's text.
pub(super) struct Text {
    /// The file's name, for messages.
    pub(super) name: String,
    /// Its path, where it is on this host.
    pub(super) path: Option<PathBuf>,
    /// What is in it.
    pub(super) content: Vec<u8>,
    /// What the main context is in the graph.
    pub(super) context: MainContext,
}

/// The name of a Dockerfile that has no other.
pub(super) const DEFAULT_NAME: &str = "Dockerfile";

/// The argument that names a front end in the place of the Dockerfile's first line.
const SYNTAX_ARGUMENT: &str = "BUILDKIT_SYNTAX";
/// The images whose language is the one that is built in.
const OWN_FRONT_ENDS: [&str; 2] = ["docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"];

fn activity_name(file: &str) -> String {
    format!("[internal] load build definition from {file}")
}

impl Text {
    /// Reads what is on this host, or came with the request.
    pub(super) fn load(request: &BuildRequest, sink: &Sink<'_>) -> Result<Self, BuildError> {
        let (name, path) = match &request.dockerfile {
            DockerfileSource::Path(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                (name, Some(path.clone()))
            }
            _ => (DEFAULT_NAME.to_owned(), None),
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
        let context = MainContext::Local { name: CONTEXT.to_owned() };
        Ok(Self { content: activity.finish(content)?, name, path, context })
    }

    /// What is wrong with the form of instructions, and of what is left of them with their meaning.
    pub(super) fn syntax_error(
        &self,
        request: &BuildRequest,
        file: &Dockerfile,
        diagnostics: Vec<Diagnostic>,
    ) -> BuildError {
        let options = LowerOptions {
            build_args: request.build_args.clone(),
            target: request.target.clone(),
            target_platform: request.platforms.first().cloned(),
            ..LowerOptions::default()
        };
        let diagnostics = mistakes(file, &options, diagnostics);
        let excerpt = render(&self.name, &file.source, &diagnostics);
        BuildError::Syntax { diagnostics, excerpt }
    }
}

impl Definition {
    pub(super) fn read(request: &BuildRequest, text: Text) -> Result<Self, BuildError> {
        let (file, diagnostics) = parse(&text.content);
        if !diagnostics.is_empty() {
            return Err(text.syntax_error(request, &file, diagnostics));
        }
        let Text { name, path, context, .. } = text;
        let folder = match &request.context {
            BuildContext::Local(folder) => Some(folder.clone()),
            _ => None,
        };
        Ok(Self { name, path, folder, file, context })
    }

    /// The front end that the Dockerfile or the build asks for, where it is another than the one that is built in.
    pub(super) fn foreign_front_end(&self, request: &BuildRequest) -> Option<String> {
        let asked = request.build_args.get(SYNTAX_ARGUMENT).filter(|value| !value.is_empty());
        let asked = asked.or_else(|| self.file.syntax.as_ref().map(|directive| &directive.value))?;
        let name = Reference::parse(asked.split_whitespace().next()?).ok().map(|reference| reference.repository());
        let is_own = name.is_some_and(|name| OWN_FRONT_ENDS.contains(&name.as_str()));
        (!is_own).then(|| asked.clone())
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
        let diagnostics = error.diagnostics();
        let excerpt = render(&self.name, &self.file.source, &diagnostics);
        let excerpt = (!excerpt.is_empty()).then_some(excerpt);
        BuildError::Dockerfile { source: Box::new(error), excerpt, hints: Vec::new() }
    }
}
