//! What can be said of a Dockerfile without building it: its checks, its parameters, its targets.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use onetag_dockerfile::call::{self, Outline, Targets};
use onetag_dockerfile::diagnostic::{Diagnostic, list, render};
use onetag_dockerfile::lint::{BaseImages, ImagePlatforms, LintReport, LintRequest, lint, lint_platforms};
use onetag_dockerfile::resolver::{ResolveMode, ResolveOptions, Resolver};
use onetag_dockerfile::{ignore, parse};
use onetag_oci::{ImageConfig, ManifestDocument, Platform, Reference};

use super::definition::{Definition, Text};
use super::{BuildContext, BuildError, BuildRequest, UsedLock};
use crate::Engine;
use crate::catalog::Catalog;
use crate::op::KnownSources;
use crate::progress::{Cancellation, Sink};
use crate::resolve::BuildResolver;

/// What the checks of a Dockerfile found.
#[derive(Clone, Debug)]
pub struct CheckOutcome {
    /// The file's name.
    pub name: String,
    /// Its text.
    pub source: String,
    /// The findings, those of our own rules last.
    pub report: LintReport,
}

impl Engine {
    /// Checks a Dockerfile for the platforms of the request. Asks for the metadata of base images, builds nothing.
    ///
    /// # Errors
    /// The Dockerfile or the ignore file cannot be read. What is wrong with the Dockerfile itself is in the report.
    pub fn check(&self, request: &BuildRequest, sink: &Sink<'_>) -> Result<CheckOutcome, BuildError> {
        self.ask(request, sink, |text, lint_request, images| {
            let mut report = lint(&text.content, lint_request, images);
            let platforms = match request.platforms.as_slice() {
                [] => &[Platform::host()],
                asked => asked,
            };
            if report.error.is_none() {
                report.warnings.extend(lint_platforms(&text.content, platforms, lint_request, images));
            }
            let source = String::from_utf8_lossy(&text.content).into_owned();
            Ok(CheckOutcome { name: text.name.clone(), source, report })
        })
    }

    /// The parameters of the target. Asks for the metadata of base images, builds nothing.
    ///
    /// # Errors
    /// The Dockerfile cannot be read or is wrong, or a base image is not there.
    pub fn outline(&self, request: &BuildRequest, sink: &Sink<'_>) -> Result<Outline, BuildError> {
        self.ask(request, sink, |text, lint_request, images| {
            call::outline(&text.content, lint_request, images).map_err(|error| text.error(request, *error))
        })
    }

    /// The stages that can be built.
    ///
    /// # Errors
    /// The Dockerfile cannot be read or is wrong.
    pub fn targets(&self, request: &BuildRequest, sink: &Sink<'_>) -> Result<Targets, BuildError> {
        let text = self.text(request, &KnownSources::default(), &Cancellation::new(), sink)?;
        call::targets(&text.content).map_err(|error| text.error(request, *error))
    }

    /// The findings that a build tells of: those about what its first platform needs.
    ///
    /// # Errors
    /// There are findings, and the Dockerfile says that they are errors.
    pub(super) fn report_checks(
        &self,
        request: &BuildRequest,
        definition: &Definition,
        catalog: &Catalog,
        resolver: &BuildResolver<'_>,
    ) -> Result<Vec<String>, BuildError> {
        let mut lint_request = lint_request(request, resolver)?;
        lint_request.only_needed = true;
        let mode = resolve_mode(request);
        let images = Images { resolver: None, catalog, request, mode };
        let report = lint(definition.file.source.as_bytes(), &lint_request, &images);
        match report.error {
            Some(error) if report.findings_are_error => {
                let warnings = list(&definition.name, &definition.file.source, &report.warnings);
                Err(BuildError::Syntax { diagnostics: vec![error], excerpt: warnings })
            }
            // Whatever else is wrong is the build's to say.
            _ => Ok(report.warnings.iter().map(Diagnostic::short).collect()),
        }
    }

    fn ask<T>(
        &self,
        request: &BuildRequest,
        sink: &Sink<'_>,
        answer: impl FnOnce(&Text, &LintRequest, &dyn BaseImages) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let text = self.text(request, &KnownSources::default(), &Cancellation::new(), sink)?;
        let folder = match &request.context {
            BuildContext::Local(folder) => Some(folder.clone()),
            _ => None,
        };
        let lock = UsedLock::load(request, text.path.as_deref())?;
        let catalog = Arc::new(Catalog::new(self.clone()).with_lock(lock));
        let resolver = BuildResolver::new(&catalog, sink)
            .with_files(folder, text.path.clone())
            .with_contexts(request.build_contexts.clone());
        let lint_request = lint_request(request, &resolver)?;
        let mode = resolve_mode(request);
        answer(&text, &lint_request, &Images { resolver: Some(&resolver), catalog: &catalog, request, mode })
    }
}

fn lint_request(request: &BuildRequest, resolver: &BuildResolver<'_>) -> Result<LintRequest, BuildError> {
    let ignore_file = resolver.ignore_file().map_err(|source| BuildError::IgnoreFile(Box::new(source)))?;
    Ok(LintRequest {
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        only_needed: false,
        target_platform: request.platforms.first().cloned(),
        build_platforms: vec![Platform::host()],
        ignore_patterns: ignore_file.map(|file| ignore::read(&file.content)).unwrap_or_default(),
        config: None,
    })
}

fn resolve_mode(request: &BuildRequest) -> ResolveMode {
    if request.pull { ResolveMode::ForcePull } else { ResolveMode::Default }
}

impl Text {
    /// All that is wrong with the text; else what stands in the way of an answer.
    fn error(&self, request: &BuildRequest, error: Diagnostic) -> BuildError {
        let (file, diagnostics) = parse(&self.content);
        if !diagnostics.is_empty() {
            return self.syntax_error(request, &file, diagnostics);
        }
        let diagnostics = vec![error];
        let excerpt = render(&self.name, &String::from_utf8_lossy(&self.content), &diagnostics);
        BuildError::Syntax { diagnostics, excerpt }
    }
}

/// Base images as a build would find them.
struct Images<'a> {
    /// Shows what is looked up; None where the build has shown it.
    resolver: Option<&'a BuildResolver<'a>>,
    catalog: &'a Catalog,
    request: &'a BuildRequest,
    mode: ResolveMode,
}

impl BaseImages for Images<'_> {
    fn config(&self, reference: &Reference, platform: &Platform) -> Result<ImageConfig, Box<dyn Error + Send + Sync>> {
        let Some(resolver) = self.resolver else {
            let image = self.catalog.find(reference, platform, self.mode)?;
            return Ok(image.config.value().clone());
        };
        let prefix =
            if self.request.platforms.len() > 1 { format!("{} ", platform.format_all()) } else { String::new() };
        let options = ResolveOptions {
            log_name: format!("[{prefix}internal] load metadata for {reference}"),
            mode: self.mode,
            layout: None,
            // A base for another platform is a finding, not the end.
            files_only: true,
        };
        match resolver.image_config(reference, platform, &options) {
            Ok(image) => Ok(image.config),
            Err(error) => Err(chain(&error).into()),
        }
    }

    fn platforms(&self, reference: &Reference) -> Option<ImagePlatforms> {
        let document = self.catalog.points_to(reference, self.mode).ok()?;
        match &*document {
            ManifestDocument::Index(index) => {
                let platforms = index.manifests.iter().filter_map(|descriptor| descriptor.platform.clone());
                Some(ImagePlatforms::Index(platforms.filter(|platform| !platform.is_unknown()).collect()))
            }
            ManifestDocument::Manifest(_) => {
                let image = self.catalog.find(reference, &Platform::host(), self.mode).ok();
                Some(ImagePlatforms::Single(image.map(|image| image.config.platform())))
            }
        }
    }

    fn is_named_context(&self, name: &str) -> bool {
        let familiar = Reference::parse(name).map(|reference| reference.with_default_tag().familiar());
        let familiar = familiar.unwrap_or_else(|_| name.to_owned());
        let short = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        [name, short].iter().any(|key| self.request.build_contexts.contains_key(*key))
    }
}

/// The error with its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // A String takes whatever is written to it.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
