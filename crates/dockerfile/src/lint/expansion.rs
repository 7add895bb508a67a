//! Expansion of words with the findings about variables.

use std::collections::{BTreeMap, BTreeSet};

use onetag_oci::{Platform, Reference};

use super::{
    Checked, FROM_PLATFORM_FLAG_CONST_DISALLOWED, INVALID_DEFAULT_ARG_IN_FROM, LintConfig, LintRequest, Linter,
    REDUNDANT_TARGET_PLATFORM, UNDEFINED_ARG_IN_FROM, UNDEFINED_VAR, failure,
};
use crate::call::OutlineArgument;
use crate::instruction::{ArgDefinition, Command, Instruction, Stage};
use crate::shell::{Environment, Lex, ShellError, Variables};
use crate::span::LineRange;
use crate::suggest;
use crate::values::quote;

/// Arguments that are no variables of the build.
pub(super) const NOT_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The platforms of the build.
#[derive(Clone, Debug)]
pub(super) struct Platforms {
    pub(super) target: Platform,
    pub(super) build: Vec<Platform>,
    /// Whether the target was not asked for.
    pub(super) implicit: bool,
}

impl Platforms {
    pub(super) fn new(request: &LintRequest) -> Self {
        let mut build = request.build_platforms.clone();
        if build.is_empty() {
            build.push(request.target_platform.clone().unwrap_or_else(Platform::host));
        }
        let target = request.target_platform.clone().unwrap_or_else(|| build[0].clone());
        Platforms { target, build, implicit: request.target_platform.is_none() }
    }

    /// The arguments that are always there.
    pub(super) fn arguments(&self, overrides: &BTreeMap<String, String>, target: &str) -> Variables {
        let (build, target_platform) = (&self.build[0], &self.target);
        let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
        let version = |platform: &Platform| platform.os_version.clone().unwrap_or_default();
        let defaults = [
            ("BUILDPLATFORM", build.to_string()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", version(build)),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", variant(build)),
            ("TARGETPLATFORM", target_platform.format_all()),
            ("TARGETOS", target_platform.os.clone()),
            ("TARGETOSVERSION", version(target_platform)),
            ("TARGETARCH", target_platform.architecture.clone()),
            ("TARGETVARIANT", variant(target_platform)),
            ("TARGETSTAGE", if target.is_empty() { "default".to_owned() } else { target.to_owned() }),
        ];
        defaults.into_iter().map(|(name, value)| (name, overrides.get(name).cloned().unwrap_or(value))).collect()
    }
}

/// The global arguments: defaults, then every `ARG` before the first stage.
pub(super) fn meta_arguments(
    mut variables: Variables,
    lex: &Lex,
    meta_args: &[Instruction],
    build_args: &BTreeMap<String, String>,
) -> Checked<Globals> {
    let mut declared = Declared::new();
    for instruction in meta_args {
        let Command::Arg(arg) = &instruction.command else { continue };
        for definition in &arg.args {
            let mut uses = BTreeSet::new();
            let value = match (build_args.get(&definition.key), &definition.value) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => match lex.process_word(default, &variables) {
                    Ok(done) => {
                        uses = done.matched;
                        Some(done.value)
                    }
                    Err(error) => return failure(error.to_string(), [instruction.lines]),
                },
                (None, None) => None,
            };
            // A default that refers to the name itself uses what the earlier one used.
            if uses.remove(&definition.key)
                && let Some((_, earlier)) = declared.get(&definition.key)
            {
                uses.extend(earlier.iter().cloned());
            }
            if let Some(value) = &value {
                variables.set(&definition.key, value);
            }
            let argument = OutlineArgument {
                name: definition.key.clone(),
                description: definition.description.clone(),
                value: value.unwrap_or_default(),
                lines: instruction.lines,
            };
            declared.insert(definition.key.clone(), (argument, uses));
        }
    }
    Ok(Globals { variables, declared })
}

/// Base images that are none unless build arguments are given.
pub(super) fn default_arguments(
    linter: &mut Linter,
    lex: &Lex,
    stages: &[Stage],
    variables: Variables,
    meta_args: &[Instruction],
) {
    // What fails here fails again with the arguments given.
    let Ok(Globals { variables, .. }) = meta_arguments(variables, lex, meta_args, &BTreeMap::new()) else { return };
    let config = linter.config.clone();
    for stage in stages {
        let Ok(base) = lex.process_word(&stage.base, &variables) else { return };
        if Reference::parse(&base.value).is_err() {
            let message = format!("Default value for ARG {} results in empty or invalid base image name", stage.base);
            linter.report(&config, &INVALID_DEFAULT_ARG_IN_FROM, stage.lines, message);
        }
    }
}

/// Reports variables of a `FROM` that nothing declares.
pub(super) fn undeclared_in_from(
    linter: &mut Linter,
    config: &LintConfig,
    globals: &Globals,
    unmatched: &BTreeSet<String>,
    lines: LineRange,
) {
    let known: BTreeSet<&str> = globals.declared.keys().map(String::as_str).chain(globals.variables.names()).collect();
    for name in unmatched.iter().filter(|name| !known.contains(name.as_str())) {
        let mut message = format!("FROM argument '{name}' is not declared");
        if let Some(nearest) = suggest::nearest(name, known.iter().copied()) {
            message.push_str(&format!(" (did you mean {nearest}?)"));
        }
        linter.report(config, &UNDEFINED_ARG_IN_FROM, lines, message);
    }
}

/// The global arguments.
pub(super) struct Globals {
    pub(super) variables: Variables,
    /// The `ARG` instructions before the first stage, by name.
    pub(super) declared: Declared,
}

/// Arguments by name, with what their defaults use.
pub(super) type Declared = BTreeMap<String, (OutlineArgument, BTreeSet<String>)>;

/// The platform that a `FROM --platform` means.
pub(super) fn stage_platform(
    linter: &mut Linter,
    config: &LintConfig,
    lex: &Lex,
    globals: &Globals,
    host: &Platform,
    stage: &Stage,
) -> Checked<Option<(Platform, BTreeSet<String>)>> {
    if stage.platform.is_empty() {
        return Ok(None);
    }
    let done = match lex.process_word(&stage.platform, &globals.variables) {
        Ok(done) => done,
        Err(error) => {
            undeclared_in_from(linter, config, globals, &error.used.unmatched, stage.lines);
            return failure(format!("failed to process arguments for platform : {error}"), [stage.lines]);
        }
    };
    undeclared_in_from(linter, config, globals, &done.unmatched, stage.lines);
    let names_target = done.unmatched.is_empty() && done.matched.iter().eq(["TARGETPLATFORM"]);
    if names_target && globals.variables.get("TARGETPLATFORM") == Some(&done.value) {
        let message = format!(
            "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
            stage.platform
        );
        linter.report(config, &REDUNDANT_TARGET_PLATFORM, stage.lines, message);
    }
    let parsed = Platform::parse_on(&done.value, host);
    if done.matched.is_empty()
        && done.unmatched.is_empty()
        && let Ok(platform) = &parsed
        && !stage.name.contains(&platform.os)
        && !stage.name.contains(&platform.architecture)
    {
        let message = format!("FROM --platform flag should not use constant value {}", quote(&done.value));
        linter.report(config, &FROM_PLATFORM_FLAG_CONST_DISALLOWED, stage.lines, message);
    }
    if done.value.is_empty() {
        return failure(format!("empty platform value from expression {}", stage.platform), [stage.lines]);
    }
    match parsed {
        Ok(platform) => Ok(Some((platform, done.matched))),
        Err(error) => failure(format!("failed to parse platform {}: {error}", stage.platform), [stage.lines]),
    }
}

/// Expands one word of an instruction and reports the variables that are not there.
pub(super) fn word(
    linter: &mut Linter,
    config: &LintConfig,
    lex: &Lex,
    word: &str,
    scope: Scope<'_>,
) -> Result<String, ShellError> {
    let result = lex.process_word(word, scope.variables);
    let unmatched = match &result {
        Ok(done) => &done.unmatched,
        Err(error) => &error.used.unmatched,
    };
    for name in unmatched {
        let is_argument = scope.arguments.iter().any(|argument| argument.key == *name);
        if is_argument || NOT_IN_ENVIRONMENT.contains(&name.as_str()) {
            continue;
        }
        let mut message = format!("Usage of undefined variable '${name}'");
        if let Some(nearest) = suggest::nearest(name, scope.variables.names()) {
            message.push_str(&format!(" (did you mean ${nearest}?)"));
        }
        linter.report(config, &UNDEFINED_VAR, scope.lines, message);
    }
    result.map(|done| done.value)
}

/// Where a word stands.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) variables: &'a Variables,
    /// The arguments that the stage has declared, with or without a value.
    pub(super) arguments: &'a [ArgDefinition],
    pub(super) lines: LineRange,
}
