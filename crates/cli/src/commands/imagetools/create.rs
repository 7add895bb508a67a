//! `onetag imagetools create`.

use std::path::PathBuf;

use clap::Args;
use onetag_engine::content::Location;
use onetag_engine::flags::parse_annotations;
use onetag_engine::index::{CreateRequest, Created, SourceName, plan};
use onetag_oci::Platform;
use serde_json::json;

use super::publish::publish;
use crate::commands::registry_error;
use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::output;
use crate::progress::Mode;

/// Create a new image based on source images
#[derive(Args, Debug)]
pub struct CreateArguments {
    /// Images, digests or descriptors: NAME, store:NAME, oci:PATH[:NAME], sha256:…, {…}
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
    /// Add annotation to the image
    #[arg(long, value_name = "[TYPE:]KEY=VALUE")]
    annotation: Vec<String>,
    /// Append to existing manifest
    #[arg(long)]
    append: bool,
    /// Show final image instead of pushing
    #[arg(long)]
    dry_run: bool,
    /// Read source descriptor from file
    #[arg(long, short, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Write create result metadata to a file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Filter specified platforms of target image
    #[arg(long, short, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// When only a single source is specified, prefer outputting an image index or manifest list instead of performing a carbon copy
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set, value_parser = crate::arguments::go_bool)]
    prefer_index: bool,
    /// Set type of progress output (auto, none, plain, rawjson, tty)
    #[arg(long, value_name = "MODE", default_value = "auto")]
    progress: String,
    /// Set reference for new image
    #[arg(long, short, value_name = "NAME")]
    tag: Vec<String>,
}

impl CreateArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        if self.sources.is_empty() && self.file.is_empty() {
            return Err(CommandError::new("no sources specified"));
        }
        if !self.dry_run && self.tag.is_empty() {
            return Err(CommandError::new("can't push with no tags specified, please set --tag or --dry-run"));
        }
        let mode = Mode::choose(Some(&self.progress))?;
        let request = self.request()?;
        let engine = context.engine()?;
        let created = plan(engine, &request).map_err(registry_error)?;
        if self.dry_run {
            let mut document = created.combined.bytes;
            document.push(b'\n');
            return Ok(output::write(document)?);
        }
        publish(engine, &created, &request.tags, mode)?;
        self.write_metadata(&created, &request.tags)
    }

    fn request(&self) -> CommandResult<CreateRequest> {
        let tags = self.tag.iter().map(|tag| Location::parse(tag)).collect::<Result<Vec<_>, _>>()?;
        let mut sources = Vec::new();
        if self.append
            && let Some(first) = self.tag.first()
        {
            sources.push(SourceName::parse(first)?);
        }
        for file in &self.file {
            let text = std::fs::read_to_string(file)
                .map_err(|error| CommandError::from(error).context(format!("cannot read {}", file.display())))?;
            sources.push(SourceName::parse(text.trim())?);
        }
        for source in &self.sources {
            sources.push(SourceName::parse(source)?);
        }
        let annotations = parse_annotations(&self.annotation, &Platform::host())
            .map_err(|error| CommandError::from(error).context("failed to parse annotations"))?;
        let platforms: Vec<Platform> =
            self.platform.iter().map(|platform| parse_platform(platform)).collect::<CommandResult<_>>()?;
        Ok(CreateRequest { sources, tags, annotations, prefer_index: self.prefer_index, platforms })
    }

    fn write_metadata(&self, created: &Created, tags: &[Location]) -> CommandResult {
        let Some(path) = &self.metadata_file else { return Ok(()) };
        let mut names: Vec<String> = tags.iter().map(Location::repository).collect();
        names.sort();
        names.dedup();
        let metadata = json!({
            "containerimage.descriptor": created.combined.descriptor,
            "image.name": names.join(","),
        });
        std::fs::write(path, onetag_oci::go_json_indent(&metadata, "  "))
            .map_err(|error| CommandError::from(error).context(format!("cannot write {}", path.display())))
    }
}
