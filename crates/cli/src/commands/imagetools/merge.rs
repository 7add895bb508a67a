//! `onetag imagetools merge`: the last step of a CI run in which every platform was built on a runner of its own.

use std::path::{Path, PathBuf};

use clap::Args;
use onetag_engine::content::Location;
use onetag_engine::flags::parse_annotations;
use onetag_engine::index::{BuildRecord, Complaint, MergeError, MergeRequest, NamedRecord, RECORD_LIMIT, plan_merge};
use onetag_oci::Platform;

use super::publish::publish;
use crate::commands::copy::parse_location;
use crate::commands::registry_error;
use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::output;
use crate::progress::Mode;

/// Put together what several runners built, from the records of `build --record`
#[derive(Args, Debug)]
pub struct MergeArguments {
    /// Records that `onetag build --push-by-digest --record FILE` wrote
    #[arg(value_name = "RECORD", required = true)]
    records: Vec<PathBuf>,
    /// Add annotation to the image
    #[arg(long, value_name = "[TYPE:]KEY=VALUE")]
    annotation: Vec<String>,
    /// Take records of different source revisions or Dockerfiles
    #[arg(long)]
    allow_mixed: bool,
    /// Check everything and show the index instead of pushing
    #[arg(long)]
    dry_run: bool,
    /// The platforms that the records must have between them, in the order of the index
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    expect: Vec<String>,
    /// Set type of progress output (auto, none, plain, rawjson, tty)
    #[arg(long, value_name = "MODE", default_value = "auto")]
    progress: String,
    /// Set reference for the image
    #[arg(long, short, value_name = "NAME")]
    tag: Vec<String>,
}

impl MergeArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        if !self.dry_run && self.tag.is_empty() {
            return Err(
                CommandError::new("the image needs a name").with_hint("-t REGISTRY/REPOSITORY:TAG, or --dry-run")
            );
        }
        let mode = Mode::choose(Some(&self.progress))?;
        let request = self.request()?;
        let engine = context.engine()?;
        let created = plan_merge(engine, &request).map_err(|error| explain(error, &request))?;
        if self.dry_run {
            let mut document = created.combined.bytes;
            document.push(b'\n');
            return Ok(output::write(document)?);
        }
        publish(engine, &created, &request.tags, mode)?;
        Ok(output::line(created.combined.descriptor.digest.as_str())?)
    }

    fn request(&self) -> CommandResult<MergeRequest> {
        let platform = |text: &String| parse_platform(text).map(|platform| platform.normalize());
        Ok(MergeRequest {
            records: self.records.iter().map(|path| read(path)).collect::<CommandResult<_>>()?,
            tags: self.tag.iter().map(|tag| parse_location(tag)).collect::<CommandResult<Vec<Location>>>()?,
            expect: self.expect.iter().map(platform).collect::<CommandResult<Vec<Platform>>>()?,
            allow_mixed: self.allow_mixed,
            annotations: parse_annotations(&self.annotation, &Platform::host())
                .map_err(|error| CommandError::from(error).context("failed to parse annotations"))?,
        })
    }
}

fn read(path: &Path) -> CommandResult<NamedRecord> {
    use std::io::Read as _;
    let cannot = |error: CommandError| error.context(format!("cannot read the record {}", path.display()));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| cannot(error.into()))?;
    file.take(RECORD_LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(|error| cannot(error.into()))?;
    let record = BuildRecord::parse(&bytes).map_err(|error| {
        cannot(error.into())
            .with_hint(format!("onetag build --push-by-digest --record {} -t REPOSITORY .", path.display()))
    })?;
    Ok(NamedRecord { file: path.display().to_string(), record })
}

fn explain(error: MergeError, request: &MergeRequest) -> CommandError {
    let repository = request.records.first().map(|named| named.record.repository.familiar()).unwrap_or_default();
    let build = |platform: &Platform, file: &str| {
        format!("onetag build --platform {platform} --push-by-digest --record {file} -t {repository} .")
    };
    let mixed = |file: &str| format!("build {file} again of the same revision, or add --allow-mixed if this is meant");
    let hints: Vec<String> = match &error {
        MergeError::Refused { complaints } => complaints
            .iter()
            .map(|complaint| match complaint {
                Complaint::Missing { platform } => {
                    build(platform, &format!("{}.json", platform.to_string().replace('/', "-")))
                }
                Complaint::Unexpected { platform, file } => {
                    format!("leave {file} out, or add {platform} to --expect")
                }
                Complaint::Duplicate { files: [first, other], .. } => format!("leave {first} or {other} out"),
                Complaint::MixedSource { other: (file, _), .. } => mixed(file),
                Complaint::MixedDockerfile { other: (file, _), .. } => mixed(file),
            })
            .collect(),
        MergeError::Unreachable { file, .. } | MergeError::OtherPlatforms { file, .. } => {
            let named = request.records.iter().find(|named| named.file == *file);
            let platforms = named.map(|named| &named.record.platforms);
            platforms
                .and_then(|platforms| platforms.first())
                .map(|first| build(&first.platform, file))
                .into_iter()
                .collect()
        }
        MergeError::Index(_) => Vec::new(),
    };
    let mut seen = Vec::new();
    hints.into_iter().fold(registry_error(error), |error, hint| {
        if seen.contains(&hint) {
            return error;
        }
        seen.push(hint.clone());
        error.with_hint(hint)
    })
}
