//! SOURCE_DATE_EPOCH: a number of seconds, or the name of a source whose time is asked for.

use onetag_llb::SourceOp;

use super::copy::{git_source, is_url, url_filename};
use super::environment::EnvironmentList;
use super::error::{At, Result};
use super::nodes::NodeOptions;
use super::{DockerfileErrorKind, Lowering, MainContext, SCRATCH};
use crate::git::GitReference;
use crate::instruction::{Add, Command, Stage};
use crate::resolver::NamedContext;

/// The argument's name.
const NAME: &str = "SOURCE_DATE_EPOCH";

impl Lowering<'_> {
    pub(crate) fn resolve_epoch(&mut self) -> Result<()> {
        let given = self.build_args.get(NAME).cloned();
        let value = given.or_else(|| self.globals.value(NAME).filter(|value| !value.is_empty()).map(str::to_owned));
        let Some(value) = value else { return Ok(()) };
        self.epoch = match value.parse::<i64>() {
            _ if value.is_empty() => None,
            Ok(seconds) => Some(seconds),
            Err(_) => self.source_epoch(&value)?,
        };
        let resolved = self.epoch.map(|seconds| seconds.to_string());
        if self.build_args.remove(NAME).is_some()
            && let Some(text) = &resolved
        {
            self.build_args.insert(NAME.to_owned(), text.clone());
        }
        if self.globals.value(NAME).is_some() {
            self.globals.remove(NAME);
            if let Some(text) = &resolved {
                self.globals.set(NAME, text);
            }
        }
        Ok(())
    }

    fn source_epoch(&self, name: &str) -> Result<Option<i64>> {
        let (source, log_name) = match self.epoch_source(name)? {
            Some(found) => found,
            None => return Ok(None),
        };
        Ok(self.resolver.source_time(&source, &log_name).map_err(DockerfileErrorKind::EpochSource)?)
    }

    fn epoch_source(&self, name: &str) -> Result<Option<(SourceOp, String)>> {
        if name == "context" {
            let log_name = "[internal] resolve main build context metadata".to_owned();
            return Ok(match &self.options.context {
                MainContext::Local { .. } | MainContext::Archive { .. } => None,
                MainContext::Git { url, keep_git_dir } => {
                    let git = self.git_context(url, *keep_git_dir)?;
                    Some((git_source(&git, &mut NodeOptions::default()), log_name))
                }
                MainContext::Http { url, .. } => Some((http(url, "context"), log_name)),
            });
        }
        if let Some(found) = self.find_context(name, None)? {
            let source = match found.context {
                NamedContext::Http(url) if GitReference::parse(&url)?.is_none() => Some(http(&url, "context")),
                NamedContext::Git(url) | NamedContext::Http(url) => {
                    Some(git_source(&self.git_context(&url, false)?, &mut NodeOptions::default()))
                }
                _ => None,
            };
            let log_name = format!("[internal] resolve SOURCE_DATE_EPOCH named context {name}");
            return Ok(source.map(|source| (source, log_name)));
        }
        let stage = self.file.stages.iter().find(|stage| stage.name.eq_ignore_ascii_case(name));
        let stage = stage.ok_or_else(|| DockerfileErrorKind::Epoch(name.to_owned()))?;
        let source = self.epoch_stage(stage).at(Some(stage.lines))?;
        Ok(Some((source, format!("[internal] resolve SOURCE_DATE_EPOCH source stage {}", stage.name))))
    }

    /// The one remote `ADD` of a stage that does nothing else.
    fn epoch_stage(&self, stage: &Stage) -> Result<SourceOp> {
        let mut environment = self.globals.clone();
        environment.remove(NAME);
        if self.lex.process_word(&stage.base, &environment)?.value != SCRATCH {
            return Err(DockerfileErrorKind::EpochStage("must use FROM scratch").into());
        }
        let mut source = None;
        for instruction in &stage.instructions {
            match &instruction.command {
                Command::Arg(arg) => {
                    for definition in &arg.args {
                        let value = match (self.options.build_args.get(&definition.key), &definition.value) {
                            (Some(given), _) => given.clone(),
                            (None, Some(default)) => self.lex.process_word(default, &environment)?.value,
                            (None, None) => continue,
                        };
                        environment.set(&definition.key, &value);
                    }
                }
                Command::Add(add) if source.is_none() => source = Some(self.epoch_add(add, &environment)?),
                Command::Add(_) => {
                    return Err(DockerfileErrorKind::EpochStage("must contain exactly one remote ADD").into());
                }
                _ => return Err(DockerfileErrorKind::EpochStage("does not meet source-only requirements").into()),
            }
        }
        source.ok_or_else(|| DockerfileErrorKind::EpochStage("must contain exactly one remote ADD").into())
    }

    fn epoch_add(&self, add: &Add, environment: &EnvironmentList) -> Result<SourceOp> {
        let ([path], []) = (add.sources.paths.as_slice(), add.sources.contents.as_slice()) else {
            return Err(DockerfileErrorKind::EpochStage("must contain exactly one remote ADD source").into());
        };
        let path = self.lex.process_word(path, environment)?.value;
        if is_url(&path) {
            return Ok(http(&path, &url_filename(&path)));
        }
        match GitReference::parse(&path)?.filter(|git| !git.like_local_path) {
            Some(git) => Ok(git_source(&git, &mut NodeOptions::default())),
            None => Err(DockerfileErrorKind::EpochStage("source must be a single HTTP(S) or Git ADD").into()),
        }
    }
}

/// The very source that the build fetches, so that it is fetched once.
fn http(url: &str, filename: &str) -> SourceOp {
    let attributes = [(onetag_llb::attribute::HTTP_FILENAME.to_owned(), filename.to_owned())];
    SourceOp { identifier: url.to_owned(), attributes: attributes.into() }
}
