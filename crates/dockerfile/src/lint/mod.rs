//! Checks of a Dockerfile: BuildKit's rules, and rules of our own for multi-platform work.
//!
//! [`lint`] follows every stage the way a build would, variables and base images included, but
//! builds nothing: what it has to know of images comes through [`BaseImages`].

mod config;
mod evaluate;
mod expansion;
mod instructions;
mod multi_platform;
mod outline;
mod rules;
mod sources;
mod stages;
mod static_checks;

pub use config::{LintConfig, LintConfigError};
pub use multi_platform::lint_platforms;
pub(crate) use outline::OutlineItems;
pub use rules::*;

use std::collections::BTreeMap;
use std::error::Error;

use onetag_oci::{ImageConfig, Platform, Reference};

use crate::diagnostic::Diagnostic;
use crate::file::parse;
use crate::lower::{LowerOptions, mistakes};
use crate::span::LineRange;

/// What the checks have to know of images.
pub trait BaseImages {
    /// The config of an image for a platform. The error is shown behind the image's name as written.
    ///
    /// # Errors
    /// The image does not exist, or cannot be asked for.
    fn config(&self, reference: &Reference, platform: &Platform) -> Result<ImageConfig, Box<dyn Error + Send + Sync>>;

    /// For which platforms an image exists; None where that is not known.
    fn platforms(&self, _reference: &Reference) -> Option<ImagePlatforms> {
        None
    }

    /// Whether a build context of that name stands for the stage or image.
    fn is_named_context(&self, _name: &str) -> bool {
        false
    }
}

/// For which platforms an image exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImagePlatforms {
    /// It is an index with these.
    Index(Vec<Platform>),
    /// It is a single manifest, for this one as far as that is known.
    Single(Option<Platform>),
}

/// What is checked besides the Dockerfile.
#[derive(Clone, Debug, Default)]
pub struct LintRequest {
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// `--target`; without it all stages are checked.
    pub target: Option<String>,
    /// Whether only what the target needs is checked, the last stage without a target: what a build does.
    pub only_needed: bool,
    /// The platform to build for; without it the first build platform, and images decide.
    pub target_platform: Option<Platform>,
    /// The platforms that build; the first is `BUILDPLATFORM`. Empty means the target, else the host.
    pub build_platforms: Vec<Platform>,
    /// The patterns of the ignore file, see [`crate::ignore::read`].
    pub ignore_patterns: Vec<String>,
    /// Which checks run, in place of what the `check` directive says.
    pub config: Option<LintConfig>,
}

impl LintRequest {
    /// All that is wrong with a Dockerfile, as far as that can be told without images.
    fn mistakes(&self, text: &[u8]) -> Vec<Diagnostic> {
        let (file, errors) = parse(text);
        let options = LowerOptions {
            build_args: self.build_args.clone(),
            target: self.target.clone(),
            target_platform: self.target_platform.clone(),
            ..LowerOptions::default()
        };
        mistakes(&file, &options, errors)
    }
}

/// What the checks found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LintReport {
    /// The findings, in the order in which they were made.
    pub warnings: Vec<Diagnostic>,
    /// Why the Dockerfile cannot be built; findings made before remain.
    pub error: Option<Diagnostic>,
    /// All that is wrong with it, as far as that can be told without images.
    pub mistakes: Vec<Diagnostic>,
    /// Whether the error is only that there are findings, as `# check=error=true` wants it.
    pub findings_are_error: bool,
}

impl LintReport {
    /// The findings by line, rule and message.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = self.warnings.iter().collect();
        sorted.sort_by_key(|warning| (warning.first_line(), warning.rule.map(|rule| rule.name), &warning.message));
        sorted
    }
}

/// Checks a Dockerfile.
pub fn lint(text: &[u8], request: &LintRequest, images: &dyn BaseImages) -> LintReport {
    let mut linter = Linter::default();
    let all_stages = request.target.is_none() && !request.only_needed;
    let error = evaluate::run(text, request, images, &mut linter, all_stages).err().map(|error| *error);
    let findings_are_error = error.is_some() && linter.error().err().map(|error| *error) == error;
    let mistakes = if error.is_some() && !findings_are_error { request.mistakes(text) } else { Vec::new() };
    LintReport { warnings: linter.warnings, error, mistakes, findings_are_error }
}

/// The parameters of the target, or of the last stage.
pub(crate) fn outline_items(
    text: &[u8],
    request: &LintRequest,
    images: &dyn BaseImages,
) -> Result<OutlineItems, Box<Diagnostic>> {
    let request = LintRequest { config: Some(LintConfig::default()), ..request.clone() };
    evaluate::run(text, &request, images, &mut Linter::default(), false)
}

type Checked<T> = Result<T, Box<Diagnostic>>;

/// An error about these lines.
fn failure<T>(message: impl Into<String>, lines: impl IntoIterator<Item = LineRange>) -> Checked<T> {
    Err(Box::new(Diagnostic::error(message, lines)))
}

/// Collects findings.
#[derive(Default)]
struct Linter {
    warnings: Vec<Diagnostic>,
    config: LintConfig,
}

impl Linter {
    fn report(&mut self, config: &LintConfig, rule: &'static Rule, lines: LineRange, message: String) {
        if config.runs(rule) {
            self.warnings.push(Diagnostic::warning(rule, message, lines));
        }
    }

    /// The error that findings are if the config says so.
    fn error(&self) -> Checked<()> {
        if !self.config.error || self.warnings.is_empty() {
            return Ok(());
        }
        let mut rules: Vec<&str> = self.warnings.iter().filter_map(|warning| Some(warning.rule?.name)).collect();
        rules.sort_unstable();
        rules.dedup();
        failure(format!("lint violation found for rules: {}", rules.join(", ")), [])
    }
}
