//! `onetag pin`: digests behind tags.

mod report;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use onetag_dockerfile::images::ImageOptions;
use onetag_engine::flags;
use onetag_engine::pin::{PinError, PinMode, PinOutcome, PinRequest, Source, SourceError, diff};
use onetag_oci::{Platform, Reference};

use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;

/// Where names are looked for when no file is given, in a folder; the first that exists.
const DEFAULT_FILES: [&str; 7] = [
    "Dockerfile",
    "dockerfile",
    "Containerfile",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];

/// Content on standard input may be this large, in bytes.
const INPUT_LIMIT: u64 = 16 << 20;

/// Write index digests behind the tags of Dockerfiles, compose files and Kubernetes YAML
#[derive(Args, Debug)]
pub struct PinArguments {
    /// The files, or folders to look for one in; - is standard input, pinned on standard output
    #[arg(long, short, value_name = "FILE", num_args = 1..)]
    file: Vec<String>,
    /// Write the digest that each tag stands for now, also where there is one
    #[arg(long, conflicts_with = "check")]
    update: bool,
    /// Change nothing; exit 1 when a digest is missing, stale, or that of one platform in a build for several
    #[arg(long)]
    check: bool,
    /// Pin the manifest of this platform alone; with --check: the platforms that the build is for
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Keep the digests in a lock file and the files as they are; `build` honours it
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Show the difference, write nothing
    #[arg(long, visible_alias = "diff", conflicts_with = "check")]
    dry_run: bool,
    /// Leave an image alone: NAME or NAME:TAG
    #[arg(long, value_name = "IMAGE")]
    except: Vec<String>,
    /// The value of a build argument in a name
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// A named context of the build, which is no image
    #[arg(long, value_name = "NAME[=CONTEXT]")]
    build_context: Vec<String>,
    /// Print what became of each image as JSON
    #[arg(long)]
    json: bool,
}

impl PinArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let request = self.request()?;
        let is_stream = request.sources.iter().any(|source| source.path.is_none());
        if is_stream && self.json && request.mode != PinMode::Check && !self.dry_run && self.lock.is_none() {
            return Err(CommandError::new("standard output cannot be both the pinned file and --json")
                .with_hint("add --dry-run to see what would change, or give the file by its name"));
        }
        let outcome = context.engine()?.pin(&request).map_err(explain)?;
        let faults = outcome.has_faults();
        let written = match (request.mode, self.dry_run || faults) {
            (PinMode::Check, _) | (_, true) => Vec::new(),
            _ => outcome.write()?,
        };
        let report =
            report::Report { outcome: &outcome, mode: request.mode, is_dry_run: self.dry_run, written: &written };
        match (self.json, is_stream || self.dry_run) {
            (true, _) => output::write(report.to_json(&difference(&outcome)))?,
            (false, true) if request.mode != PinMode::Check => {
                output::note(report.to_text().trim_end());
                if !faults {
                    output::write(self.stream(&outcome))?;
                }
            }
            (false, _) => output::write(report.to_text())?,
        }
        report.verdict()
    }

    fn request(&self) -> CommandResult<PinRequest> {
        let mode = match (self.update, self.check) {
            (_, true) => PinMode::Check,
            (true, _) => PinMode::Update,
            _ => PinMode::Pin,
        };
        Ok(PinRequest {
            sources: self.sources()?,
            mode,
            platforms: self.platforms(mode)?,
            options: ImageOptions {
                build_args: self.build_arg.iter().filter_map(|argument| build_argument(argument)).collect(),
                contexts: self.contexts()?,
            },
            except: self.except.iter().map(|image| except(image)).collect::<CommandResult<_>>()?,
            lock: self.lock.clone(),
        })
    }

    fn sources(&self) -> CommandResult<Vec<Source>> {
        if self.file.is_empty() {
            return Ok(vec![read(&default_file(Path::new("."))?)?]);
        }
        let mut seen = Vec::new();
        let mut sources = Vec::new();
        for name in &self.file {
            if name == "-" {
                if sources.iter().any(|source: &Source| source.path.is_none()) {
                    return Err(CommandError::new("standard input can be read only once"));
                }
                sources.push(Source::from_content("-", standard_input()?));
                continue;
            }
            let path = PathBuf::from(name);
            let path = if path.is_dir() { default_file(&path)? } else { path };
            let source = read(&path)?;
            // The same file by another name is the same file.
            let canonical = std::fs::canonicalize(&path)?;
            if !seen.contains(&canonical) {
                seen.push(canonical);
                sources.push(source);
            }
        }
        Ok(sources)
    }

    fn platforms(&self, mode: PinMode) -> CommandResult<Vec<Platform>> {
        if self.platform.is_empty() {
            return Ok(Vec::new());
        }
        let platforms = flags::parse_platforms(&self.platform, &Platform::host()).map_err(|error| {
            CommandError::from(error)
                .with_hint("platforms are written os/arch[/variant], such as linux/arm64 or linux/arm/v7")
        })?;
        if mode == PinMode::Check {
            return Ok(flags::deduplicate_platforms(&platforms));
        }
        if self.lock.is_some() {
            return Err(CommandError::new(
                "a lock file holds what serves all platforms: --platform goes with --check only",
            )
            .with_hint("leave --platform out"));
        }
        match platforms.as_slice() {
            [_] => Ok(platforms),
            _ => Err(CommandError::new(
                "one digest is that of one platform's manifest or of the whole index, not of several",
            )
            .with_hint("leave --platform out to pin the index, which serves all of them")
            .with_hint(format!("onetag pin --check --platform {} tells whether it does", self.platform.join(",")))),
        }
    }

    fn contexts(&self) -> CommandResult<std::collections::BTreeSet<String>> {
        let complete: Vec<String> = self
            .build_context
            .iter()
            .map(|context| if context.contains('=') { context.clone() } else { format!("{context}=-") })
            .collect();
        Ok(flags::parse_contexts(&complete)?.into_keys().collect())
    }

    /// What goes to standard output: the pinned content of standard input, or the difference.
    fn stream(&self, outcome: &PinOutcome) -> Vec<u8> {
        if self.dry_run {
            return difference(outcome).into_bytes();
        }
        let piped = outcome.files.iter().filter(|file| file.source.path.is_none() && self.lock.is_none());
        piped.flat_map(|file| file.content.clone()).collect()
    }
}

/// What would change, as `diff -u` shows it.
fn difference(outcome: &PinOutcome) -> String {
    let mut text = String::new();
    for file in &outcome.files {
        let name = &file.source.name;
        text += &diff(&format!("a/{name}"), &format!("b/{name}"), &file.source.content, &file.content);
    }
    if let Some(lock) = &outcome.lock {
        let name = lock.path.display();
        let before = if lock.old.is_some() { format!("a/{name}") } else { "/dev/null".to_owned() };
        text += &diff(&before, &format!("b/{name}"), lock.old.as_deref().unwrap_or_default(), &lock.content);
    }
    text
}

fn default_file(folder: &Path) -> CommandResult<PathBuf> {
    let mut paths = DEFAULT_FILES.iter().map(|name| match folder == Path::new(".") {
        true => PathBuf::from(name),
        false => folder.join(name),
    });
    paths.find(|path| path.exists()).ok_or_else(|| {
        CommandError::new(format!("no Dockerfile and no compose file in {}", folder.display()))
            .with_hint("onetag pin -f FILE")
    })
}

fn read(path: &Path) -> CommandResult<Source> {
    Source::read(path).map_err(CommandError::from)
}

fn standard_input() -> CommandResult<Vec<u8>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(CommandError::new("a file is expected on standard input, which is a terminal"));
    }
    let mut content = Vec::new();
    stdin.take(INPUT_LIMIT).read_to_end(&mut content)?;
    Ok(content)
}

fn build_argument(argument: &str) -> Option<(String, String)> {
    match argument.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(argument).ok().map(|value| (argument.to_owned(), value)),
    }
}

fn except(image: &str) -> CommandResult<Reference> {
    Reference::parse(image).map_err(|error| CommandError::from(error).context(format!("invalid --except {image:?}")))
}

/// With the lines in question.
fn explain(error: PinError) -> CommandError {
    let excerpt = match &error {
        PinError::Source(SourceError::Dockerfile { excerpt, .. }) => Some(excerpt.clone()),
        _ => None,
    };
    let mut error = super::registry_error(error);
    error.excerpt = excerpt;
    error
}
