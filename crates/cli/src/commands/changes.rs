//! Dockerfile instructions given on the command line: `import --change`.

use onetag_dockerfile::diagnostic::Severity;
use onetag_dockerfile::resolver::IgnoreFile;
use onetag_dockerfile::{
    LowerOptions, NamedContext, ResolveError, ResolveOptions, ResolvedImage, Resolver, lower, parse,
};
use onetag_oci::{ContainerConfig, Platform, Reference};

use crate::error::{CommandError, CommandResult};

/// Instructions that only change the configuration.
const ALLOWED: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The configuration that the instructions make of an empty one.
///
/// # Errors
/// For instructions that do more, and for those that are none.
pub fn apply(changes: &[String], platform: &Platform) -> CommandResult<ContainerConfig> {
    if changes.is_empty() {
        return Ok(ContainerConfig::default());
    }
    for change in changes {
        let name = change.split_whitespace().next().unwrap_or_default().to_uppercase();
        if !ALLOWED.contains(&name.as_str()) || change.contains('\n') {
            return Err(CommandError::new(format!("{name:?} is not a valid change command"))
                .with_hint(format!("valid are {}", ALLOWED.join(", "))));
        }
    }
    let text = format!("FROM scratch\n{}\n", changes.join("\n"));
    let (dockerfile, findings) = parse(text.as_bytes());
    if let Some(finding) = findings.iter().find(|finding| finding.severity == Severity::Error) {
        return Err(CommandError::new(finding.message.clone()).context("invalid --change"));
    }
    let options = LowerOptions { target_platform: Some(platform.clone()), ..LowerOptions::default() };
    let lowered = lower(&dockerfile, &options, &Nothing)
        .map_err(|error| CommandError::from(error).context("invalid --change"))?;
    let mut config = lowered.image.config;
    // building from nothing gives a PATH, importing does not
    if !changes.iter().any(|change| change.contains("PATH")) {
        config.env.retain(|entry| !entry.starts_with("PATH="));
    }
    Ok(config)
}

/// There is nothing outside to ask.
struct Nothing;

impl Resolver for Nothing {
    fn image_config(
        &self,
        reference: &Reference,
        _platform: &Platform,
        _options: &ResolveOptions,
    ) -> Result<ResolvedImage, ResolveError> {
        Err(ResolveError::new(format!("{reference} has no place in an import")))
    }

    fn ignore_file(&self) -> Result<Option<IgnoreFile>, ResolveError> {
        Ok(None)
    }

    fn named_context(&self, _key: &str) -> Result<Option<NamedContext>, ResolveError> {
        Ok(None)
    }
}
