//! Where the context and the Dockerfile of a build come from.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onetag_dockerfile::git::GitReference;
use onetag_engine::build::{BuildContext, DockerfileSource, is_archive};
use onetag_store::Scratch;

use super::BuildArguments;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};

/// A Dockerfile on standard input may be this large, in bytes.
const DOCKERFILE_LIMIT: u64 = 16 << 20;
/// How much of standard input tells whether it is an archive.
const HEADER_BYTES: u64 = 1024;

/// Where files come from.
pub(super) struct Sources {
    pub(super) context: BuildContext,
    pub(super) dockerfile: DockerfileSource,
    pub(super) scratch: Option<Arc<Scratch>>,
}

impl BuildArguments {
    /// Whether files have to be brought here and unpacked before anything is known of them.
    pub(super) fn is_context_remote(&self) -> bool {
        self.context == "-" || (!Path::new(&self.context).is_dir() && is_remote(&self.context))
    }

    /// Whether the context is a repository that is reached over SSH.
    pub(super) fn is_context_over_ssh(&self) -> bool {
        let reference = GitReference::parse(&self.context).ok().flatten();
        !Path::new(&self.context).is_dir() && reference.is_some_and(|reference| reference.scheme == "ssh")
    }

    /// What the context and `--file` mean, as buildx takes them.
    pub(super) fn sources(&self, context: &Context) -> CommandResult<Sources> {
        if self.context == "-" {
            return self.standard_input_sources(context);
        }
        let file = match self.file.as_deref() {
            Some("-") => Some(DockerfileSource::Content(dockerfile_on_standard_input()?)),
            Some(url) if is_url(url) => Some(DockerfileSource::Url(url.to_owned())),
            Some(path) => Some(DockerfileSource::Path(PathBuf::from(path))),
            None => None,
        };
        let folder = PathBuf::from(&self.context);
        if !folder.is_dir() && is_remote(&self.context) {
            let is_git = !matches!(GitReference::parse(&self.context), Ok(None));
            let context = if is_git { BuildContext::Git } else { BuildContext::Http }(self.context.clone());
            let dockerfile = match file {
                None => DockerfileSource::InContext("Dockerfile".to_owned()),
                Some(DockerfileSource::Path(path)) if !path.is_absolute() => {
                    DockerfileSource::InContext(path.to_string_lossy().into_owned())
                }
                Some(other) => other,
            };
            return Ok(Sources { context, dockerfile, scratch: None });
        }
        match std::fs::metadata(&folder).map(|file| file.is_dir()) {
            Ok(true) => {}
            Ok(false) => {
                return Err(CommandError::new(format!(
                    "unable to prepare context: {:?} is not a folder",
                    self.context
                )));
            }
            Err(error) => {
                return Err(CommandError::from(error)
                    .context(format!("unable to prepare context: path {:?} not found", self.context)));
            }
        }
        let dockerfile = file.unwrap_or_else(|| DockerfileSource::Path(default_dockerfile(&folder)));
        Ok(Sources { context: BuildContext::Local(folder), dockerfile, scratch: None })
    }

    /// Standard input: an archive is the context, a text is the Dockerfile of an empty one.
    fn standard_input_sources(&self, context: &Context) -> CommandResult<Sources> {
        if self.file.as_deref() == Some("-") {
            return Err(CommandError::new("invalid argument: can't use stdin for both build context and dockerfile"));
        }
        let mut stdin = standard_input("a context")?;
        let mut content = Vec::new();
        stdin.by_ref().take(HEADER_BYTES).read_to_end(&mut content)?;
        if !is_archive(&content) {
            if self.file.as_deref().is_some_and(|file| !file.is_empty()) {
                return Err(CommandError::new(
                    "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
                ));
            }
            stdin.take(DOCKERFILE_LIMIT - HEADER_BYTES).read_to_end(&mut content)?;
            let dockerfile = DockerfileSource::Content(content);
            return Ok(Sources { context: BuildContext::Empty, dockerfile, scratch: None });
        }
        let scratch = context.engine()?.store()?.scratch()?;
        let mut file = File::create(scratch.path().join("context"))?;
        std::io::copy(&mut content.as_slice().chain(stdin), &mut file)?;
        let dockerfile = match self.file.as_deref().filter(|file| !file.is_empty()) {
            Some(url) if is_url(url) => DockerfileSource::Url(url.to_owned()),
            Some(path) => DockerfileSource::InContext(path.to_owned()),
            None => DockerfileSource::InContext("Dockerfile".to_owned()),
        };
        let context = BuildContext::Archive(scratch.path().to_owned());
        Ok(Sources { context, dockerfile, scratch: Some(Arc::new(scratch)) })
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn is_remote(text: &str) -> bool {
    is_url(text) || GitReference::is_source(text)
}

/// `Dockerfile`, or `dockerfile` where only that is there.
fn default_dockerfile(folder: &Path) -> PathBuf {
    let (upper, lower) = (folder.join("Dockerfile"), folder.join("dockerfile"));
    if !upper.exists() && lower.exists() { lower } else { upper }
}

fn standard_input(expected: &str) -> CommandResult<std::io::StdinLock<'static>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(CommandError::new(format!("{expected} is expected on standard input, which is a terminal"))
            .with_hint("onetag build - < Dockerfile, or tar c . | onetag build -"));
    }
    Ok(stdin.lock())
}

fn dockerfile_on_standard_input() -> CommandResult<Vec<u8>> {
    let mut content = Vec::new();
    standard_input("a Dockerfile")?.take(DOCKERFILE_LIMIT).read_to_end(&mut content)?;
    Ok(content)
}
