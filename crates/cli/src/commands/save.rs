//! `onetag save` and `onetag load`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use onetag_engine::images::{load, save};

use super::pull::short;
use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::output;

/// Save images, all their platforms, to an archive
#[derive(Args, Debug)]
pub struct SaveArguments {
    /// Images: names or digests
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Write to a file, instead of STDOUT
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Save only the given platform variant
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

/// Load images from an archive or STDIN
#[derive(Args, Debug)]
pub struct LoadArguments {
    /// Read from archive file, instead of STDIN
    #[arg(long, short, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load only the given platform variant
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Suppress the load output
    #[arg(long, short)]
    quiet: bool,
}

impl SaveArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let platform = self.platform.as_deref().map(parse_platform).transpose()?;
        let store = context.engine()?.store()?;
        match &self.output {
            None if io::stdout().is_terminal() => {
                Err(CommandError::new("cowardly refusing to save to a terminal").with_hint("onetag save -o FILE IMAGE"))
            }
            None => Ok(save(store, &self.images, platform.as_ref(), &mut BufWriter::new(io::stdout().lock()))?),
            Some(path) => {
                // beside the target, so that a failed save leaves nothing half written under its name
                let temporary = beside(path);
                let result = File::create(&temporary).map_err(CommandError::from).and_then(|file| {
                    let mut out = BufWriter::with_capacity(1 << 20, file);
                    save(store, &self.images, platform.as_ref(), &mut out)?;
                    out.flush()?;
                    Ok(std::fs::rename(&temporary, path)?)
                });
                if result.is_err() {
                    // the first error is the one to tell
                    let _ = std::fs::remove_file(&temporary);
                }
                result.map_err(|error| error.context(format!("cannot save to {}", path.display())))
            }
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

impl LoadArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        context.enter_namespace()?;
        let platform = self.platform.as_deref().map(parse_platform).transpose()?;
        let input: Box<dyn Read> = match &self.input {
            Some(path) => Box::new(
                File::open(path)
                    .map_err(|error| CommandError::from(error).context(format!("open {}", path.display())))?,
            ),
            None if io::stdin().is_terminal() => {
                return Err(
                    CommandError::new("requested load from stdin, but stdin is empty").with_hint("onetag load -i FILE")
                );
            }
            None => Box::new(io::stdin().lock()),
        };
        let loaded = load(context.engine()?.store()?, input, platform.as_ref())?;
        if loaded.is_empty() {
            return Err(CommandError::new("the archive has no image of that platform"));
        }
        for image in loaded {
            let mut lines: Vec<String> =
                image.names.iter().map(|name| format!("Loaded image: {}", name.familiar())).collect();
            if lines.is_empty() {
                lines.push(format!("Loaded image ID: {}", image.descriptor.digest));
                output::note(format!(
                    "note: the archive names no image: onetag tag {} NAME",
                    short(&image.descriptor.digest)
                ));
            }
            for line in lines.iter().filter(|_| !self.quiet) {
                output::line(line)?;
            }
        }
        Ok(())
    }
}
