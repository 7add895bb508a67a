//! Our own rules, for builds for several platforms.

use std::collections::{BTreeMap, BTreeSet};

use onetag_oci::{Platform, PlatformMatcher, Reference, only};

use super::expansion::{Platforms, meta_arguments};
use super::{
    BASE_LACKS_PLATFORM, BaseImages, CHILD_DIGEST_PINNED, EMULATED_BUILD_STAGE, ImagePlatforms, LITERAL_ARCHITECTURE,
    LintConfig, LintRequest, Linter, Rule, UNDECLARED_PLATFORM_ARG,
};
use crate::diagnostic::Diagnostic;
use crate::file::parse;
use crate::instruction::{Command, Instruction, Stage};
use crate::shell::{Lex, Variables};
use crate::span::LineRange;

/// The arguments that depend on the platform.
const PLATFORM_ARGUMENTS: [&str; 8] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
];

/// Spellings of architectures in the names of downloads, and what they are.
const ARCHITECTURES: [(&str, &str); 17] = [
    ("amd64", "amd64"),
    ("x86_64", "amd64"),
    ("x86-64", "amd64"),
    ("x64", "amd64"),
    ("linux64", "amd64"),
    ("arm64", "arm64"),
    ("arm64v8", "arm64"),
    ("aarch64", "arm64"),
    ("armv7", "arm"),
    ("armv7l", "arm"),
    ("armhf", "arm"),
    ("i386", "386"),
    ("i686", "386"),
    ("ppc64le", "ppc64le"),
    ("s390x", "s390x"),
    ("riscv64", "riscv64"),
    ("loong64", "loong64"),
];

/// What a command line says when it looks at the platform itself.
const ASKS_FOR_PLATFORM: [&str; 7] =
    ["TARGETARCH", "TARGETPLATFORM", "TARGETVARIANT", "uname", "--print-architecture", "apk --print-arch", "arch)"];

/// Commands whose result is for any platform, or for one that they can be told.
const PORTABLE_BUILDS: [&str; 16] = [
    "go build",
    "go install",
    "npm run build",
    "npm ci",
    "npm install",
    "yarn build",
    "yarn run build",
    "yarn install",
    "pnpm run build",
    "pnpm install",
    "mvn ",
    "gradle ",
    "./gradlew ",
    "./mvnw ",
    "dotnet publish",
    "hugo",
];

/// Checks a Dockerfile for a build for these platforms. A Dockerfile with errors has no findings
/// here. `request.target_platform` is not looked at.
pub fn lint_platforms(
    text: &[u8],
    platforms: &[Platform],
    request: &LintRequest,
    images: &dyn BaseImages,
) -> Vec<Diagnostic> {
    let (file, errors) = parse(text);
    if !errors.is_empty() {
        return Vec::new();
    }
    let config = match &request.config {
        Some(config) => config.clone(),
        None => {
            let options = file.check.as_ref().map(|directive| directive.value.clone()).unwrap_or_default();
            LintConfig::parse(&options).unwrap_or_default()
        }
    };
    let mut checker = Checker { platforms, request, images, linter: Linter { config, ..Linter::default() } };
    let lex = Lex::new(file.escape);
    // What a FROM expands to may differ from platform to platform.
    let mut bases: BTreeMap<usize, BTreeSet<(String, Option<Platform>, Platform)>> = BTreeMap::new();
    for platform in platforms {
        let request = LintRequest { target_platform: Some(platform.clone()), ..request.clone() };
        let known = Platforms::new(&request);
        let defaults = known.arguments(&request.build_args, request.target.as_deref().unwrap_or_default());
        let Ok(globals) = meta_arguments(defaults, &lex, &file.meta_args, &request.build_args) else { continue };
        let variables = globals.variables;
        for (index, stage) in file.stages.iter().enumerate() {
            let Some(base) = expand(&lex, &stage.base, &variables) else { continue };
            let pinned = expand(&lex, &stage.platform, &variables)
                .filter(|platform| !platform.is_empty())
                .and_then(|specifier| Platform::parse_on(&specifier, &known.build[0]).ok());
            bases.entry(index).or_default().insert((base, pinned, platform.clone()));
        }
    }
    let names: BTreeSet<&str> = file.stages.iter().map(|stage| stage.name.as_str()).collect();
    for (index, bases) in &bases {
        checker.base(&file.stages[*index], bases, &names);
    }
    checker.arguments(&file.stages);
    checker.downloads(&file.stages);
    checker.emulated(&file.stages);
    checker.linter.warnings
}

fn expand(lex: &Lex, word: &str, variables: &Variables) -> Option<String> {
    lex.process_word(word, variables).ok().map(|done| done.value)
}

struct Checker<'a> {
    platforms: &'a [Platform],
    request: &'a LintRequest,
    images: &'a dyn BaseImages,
    linter: Linter,
}

impl Checker<'_> {
    fn report(&mut self, rule: &'static Rule, comments: &[String], lines: LineRange, message: String, help: &str) {
        let config = self.linter.config.with_comments(comments);
        if config.runs(rule) {
            self.linter.warnings.push(Diagnostic::warning(rule, message, lines).with_help(help));
        }
    }

    fn builds_on(&self) -> Platform {
        self.request.build_platforms.first().cloned().unwrap_or_else(Platform::host)
    }

    /// What a stage begins with, for each platform.
    fn base(&mut self, stage: &Stage, bases: &BTreeSet<(String, Option<Platform>, Platform)>, stages: &BTreeSet<&str>) {
        let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (base, pinned, platform) in bases {
            if base == "scratch" || stages.contains(base.as_str()) || self.images.is_named_context(base) {
                continue;
            }
            let Ok(reference) = Reference::parse(base) else { continue };
            let reference = reference.with_default_tag();
            let Some(known) = self.images.platforms(&reference) else { continue };
            let wanted = pinned.as_ref().unwrap_or(platform);
            match &known {
                ImagePlatforms::Single(_) if reference.digest().is_some() && self.platforms.len() > 1 => {
                    let message = format!("The digest of {base} is that of a single platform's manifest");
                    let help = "pin the digest of the index; `imagetools inspect` shows it as Digest";
                    if pinned.is_none() && !self.linter.warnings.iter().any(|known| known.message == message) {
                        self.report(&CHILD_DIGEST_PINNED, &stage.comments, stage.lines, message, help);
                    }
                }
                ImagePlatforms::Single(Some(only_one)) if !only(wanted).matches(only_one) => {
                    missing.entry(base).or_default().push(wanted.to_string());
                }
                ImagePlatforms::Index(list) if !list.iter().any(|platform| only(wanted).matches(platform)) => {
                    missing.entry(base).or_default().push(wanted.to_string());
                }
                ImagePlatforms::Single(_) | ImagePlatforms::Index(_) => {}
            }
        }
        for (base, mut platforms) in missing {
            platforms.dedup();
            let message = format!("Base image {base} does not exist for {}", platforms.join(", "));
            let help = "build for other platforms, or choose a base that exists for all of them";
            self.report(&BASE_LACKS_PLATFORM, &stage.comments, stage.lines, message, help);
        }
    }

    /// Platform arguments in `RUN` lines above their `ARG`. BuildKit's UndefinedVar sees those in
    /// other instructions.
    fn arguments(&mut self, stages: &[Stage]) {
        let mut declared: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for stage in stages {
            let mut known = declared.get(stage.base.as_str()).cloned().unwrap_or_default();
            for instruction in &stage.instructions {
                match &instruction.command {
                    Command::Arg(arg) => known.extend(arg.args.iter().map(|definition| definition.key.clone())),
                    Command::Env(pairs) => known.extend(pairs.iter().map(|pair| pair.key.clone())),
                    _ => {}
                }
                let Some(script) = script(instruction) else { continue };
                for name in PLATFORM_ARGUMENTS {
                    let is_set = known.contains(name) || script.contains(&format!("{name}="));
                    if !is_set && uses_variable(&script, name) {
                        let message = format!("${name} is empty here: nothing declares it in this stage before");
                        let help = format!("put ARG {name} above");
                        self.report(&UNDECLARED_PLATFORM_ARG, &instruction.comments, instruction.lines, message, &help);
                    }
                }
            }
            if !stage.name.is_empty() {
                declared.insert(&stage.name, known);
            }
        }
    }

    /// Downloads whose name says for which architecture they are.
    fn downloads(&mut self, stages: &[Stage]) {
        let wanted: BTreeSet<&str> = self.platforms.iter().map(|platform| platform.architecture.as_str()).collect();
        for stage in stages {
            // A stage for one platform, whatever is built, may name it.
            if !stage.platform.is_empty() && !stage.platform.contains('$') {
                continue;
            }
            for instruction in &stage.instructions {
                let words: Vec<String> = match &instruction.command {
                    Command::Add(add) => add.sources.paths.clone(),
                    _ => match script(instruction) {
                        Some(script) if ASKS_FOR_PLATFORM.iter().any(|question| script.contains(question)) => continue,
                        Some(script) => script
                            .split(|c: char| c.is_whitespace() || "\"';|&()".contains(c))
                            .map(str::to_owned)
                            .collect(),
                        None => continue,
                    },
                };
                let found = words.iter().find_map(|word| Some((word, literal_architecture(word)?)));
                let Some((word, (spelling, architecture))) = found else { continue };
                if wanted.iter().any(|wanted| *wanted != architecture) {
                    let message = format!("{word} is for {spelling} whatever platform is built");
                    let help = "declare ARG TARGETARCH and use $TARGETARCH in the name";
                    self.report(&LITERAL_ARCHITECTURE, &instruction.comments, instruction.lines, message, help);
                }
            }
        }
    }

    /// Stages that are only copied from and run under emulation what needs none.
    fn emulated(&mut self, stages: &[Stage]) {
        let here = self.builds_on();
        let foreign: Vec<String> =
            self.platforms.iter().filter(|platform| !only(&here).matches(platform)).map(ToString::to_string).collect();
        if foreign.is_empty() {
            return;
        }
        let bases: BTreeSet<&str> = stages.iter().map(|stage| stage.base.as_str()).collect();
        let last = stages.len().saturating_sub(1);
        for (index, stage) in stages.iter().enumerate() {
            let is_result = match self.request.target.as_deref().filter(|target| !target.is_empty()) {
                Some(target) => stage.name.eq_ignore_ascii_case(target),
                None => index == last,
            };
            let continues_stage =
                stages[..index].iter().any(|other| !other.name.is_empty() && other.name == stage.base);
            let is_base = bases.contains(stage.name.as_str());
            if is_result || is_base || continues_stage || !stage.platform.is_empty() {
                continue;
            }
            let build = stage.instructions.iter().find_map(|instruction| {
                let script = script(instruction)?;
                PORTABLE_BUILDS.iter().find(|command| script.contains(*command)).map(|command| command.trim())
            });
            let Some(build) = build else { continue };
            let name = if stage.name.is_empty() { format!("{index}") } else { stage.name.clone() };
            let message = format!("Stage {name} runs emulated for {}; {build} can do without", foreign.join(", "));
            let help =
                format!("write FROM --platform=$BUILDPLATFORM {} and build for $TARGETOS/$TARGETARCH", stage.base);
            self.report(&EMULATED_BUILD_STAGE, &stage.comments, stage.lines, message, &help);
        }
    }
}

/// What the shell of a `RUN` sees, heredocs included; None for anything else.
fn script(instruction: &Instruction) -> Option<String> {
    let Command::Run(run) = &instruction.command else { return None };
    if !run.line.prepend_shell {
        return None;
    }
    let bodies = run.line.files.iter().map(|file| file.data.as_str());
    Some(run.line.args.iter().map(String::as_str).chain(bodies).collect::<Vec<_>>().join("\n"))
}

/// Whether a script uses a variable: `$NAME` or `${NAME…}`, not escaped.
fn uses_variable(script: &str, name: &str) -> bool {
    script.match_indices('$').any(|(at, _)| {
        let rest = &script[at + 1..];
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let is_escaped = script[..at].ends_with('\\');
        let ends = |after: &str| !after.starts_with(|c: char| c == '_' || c.is_ascii_alphanumeric());
        !is_escaped && rest.strip_prefix(name).is_some_and(ends)
    })
}

/// The architecture that the address of a download names: its spelling and what it is.
fn literal_architecture(word: &str) -> Option<(&'static str, &'static str)> {
    if !word.contains("://") {
        return None;
    }
    let lower = word.to_lowercase();
    ARCHITECTURES.into_iter().find(|(spelling, _)| {
        lower.match_indices(spelling).any(|(at, _)| {
            let is_part = |c: char| c.is_ascii_alphanumeric();
            !lower[..at].ends_with(is_part) && !lower[at + spelling.len()..].starts_with(is_part)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use onetag_oci::ImageConfig;

    use super::*;

    struct Images;

    impl BaseImages for Images {
        fn config(&self, _: &Reference, platform: &Platform) -> Result<ImageConfig, Box<dyn Error + Send + Sync>> {
            Ok(ImageConfig::new(platform))
        }

        fn platforms(&self, reference: &Reference) -> Option<ImagePlatforms> {
            let two = vec![Platform::linux("amd64"), Platform::linux("arm64")];
            match reference.path() {
                _ if reference.digest().is_some() => Some(ImagePlatforms::Single(Some(Platform::linux("amd64")))),
                "library/two" => Some(ImagePlatforms::Index(two)),
                _ => None,
            }
        }
    }

    fn findings(text: &str) -> Vec<String> {
        let platforms = ["amd64", "s390x"].map(Platform::linux);
        let request = LintRequest { build_platforms: vec![Platform::linux("amd64")], ..LintRequest::default() };
        let found = lint_platforms(text.as_bytes(), &platforms, &request, &Images);
        found.iter().map(|warning| format!("{} {}", warning.rule.unwrap().name, warning.lines[0])).collect()
    }

    #[test]
    fn a_base_has_to_exist_for_every_platform() {
        assert_eq!(findings("FROM two\n"), ["BaseLacksPlatform 1"]);
        assert_eq!(findings("FROM --platform=$BUILDPLATFORM two AS b\nFROM scratch\n"), [""; 0]);
        assert_eq!(findings("FROM unknown\n"), [""; 0]);
    }

    #[test]
    fn a_pin_should_be_that_of_the_index() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(findings(&format!("FROM two@{digest}\n")), ["ChildDigestPinned 1"]);
        assert_eq!(findings(&format!("FROM --platform=linux/amd64 two@{digest} AS amd64\nFROM scratch\n")), [""; 0]);
    }

    #[test]
    fn a_platform_argument_needs_its_arg() {
        assert_eq!(
            findings("FROM scratch\nRUN echo $TARGETARCH\nARG TARGETARCH\nRUN echo ${TARGETARCH}\n"),
            ["UndeclaredPlatformArg 2"]
        );
        assert_eq!(findings("FROM scratch AS a\nARG TARGETARCH\nFROM a\nRUN echo $TARGETARCH\n"), [""; 0]);
        assert_eq!(findings("FROM scratch\nRUN TARGETARCH=$(uname -m); echo $TARGETARCH $TARGETARCHX\n"), [""; 0]);
    }

    #[test]
    fn a_download_should_follow_the_platform() {
        let run = "FROM scratch\nRUN curl -LO https://example.com/tool_linux_amd64.tar.gz && tar xf tool*\n";
        assert_eq!(findings(run), ["LiteralArchitecture 2"]);
        assert_eq!(findings("FROM scratch\nADD https://example.com/x86_64/tool /\n"), ["LiteralArchitecture 2"]);
        let asks = "FROM scratch\nRUN case $(uname -m) in x86_64) curl https://example.com/amd64 ;; esac\n";
        assert_eq!(findings(asks), [""; 0]);
        assert_eq!(findings("FROM scratch\n# check=skip=LiteralArchitecture\nADD https://a/amd64 /\n"), [""; 0]);
    }

    #[test]
    fn a_portable_build_should_run_on_the_build_platform() {
        let text = "FROM golang AS build\nRUN go build -o /app .\nFROM scratch\nCOPY --from=build /app /\n";
        assert_eq!(findings(text), ["EmulatedBuildStage 1"]);
        assert_eq!(findings(&text.replacen("FROM", "FROM --platform=$BUILDPLATFORM", 1)), [""; 0]);
        assert_eq!(findings("FROM golang\nRUN go build -o /app .\n"), [""; 0]);
    }
}
