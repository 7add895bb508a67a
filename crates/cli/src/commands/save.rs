//! `onetag save` and `onetag load`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use onetag_engine::images::{Loaded, LocalImage, Missing, fetch, find, load, missing, save};
use onetag_oci::{Platform, Reference};
use onetag_store::Store;

use super::pull::short;
use super::ways_out::image_error;
use crate::context::{Context, parse_platforms};
use crate::error::{CommandError, CommandResult};
use crate::interrupt;
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
    /// Save one platform as an image of its own, or several of the index
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Fetch what is not here of the images from the registries that their names tell
    #[arg(long, conflicts_with = "platform")]
    pull: bool,
}

/// Load images from an archive or STDIN
#[derive(Args, Debug)]
pub struct LoadArguments {
    /// Read from archive file, instead of STDIN
    #[arg(long, short, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load one platform as an image of its own, or several of the index
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Suppress the load output
    #[arg(long, short)]
    quiet: bool,
}

impl SaveArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let platforms = parse_platforms(&self.platform)?;
        if self.pull {
            context.enter_namespace()?;
        }
        let store = context.engine()?.store()?;
        match &self.output {
            None if io::stdout().is_terminal() => {
                Err(CommandError::new("cowardly refusing to save to a terminal").with_hint("onetag save -o FILE IMAGE"))
            }
            None => {
                self.complete(context, platforms.is_empty())?;
                self.write(store, &platforms, &mut BufWriter::new(io::stdout().lock()))
            }
            // a pipe or a device is written to, not replaced
            Some(path) if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) => {
                self.complete(context, platforms.is_empty())?;
                let failed = |error| CommandError::from(error).context(format!("cannot save to {}", path.display()));
                let file = File::options().write(true).open(path).map_err(failed)?;
                self.write(store, &platforms, &mut BufWriter::with_capacity(1 << 20, file))
            }
            Some(path) => {
                self.complete(context, platforms.is_empty())?;
                // beside the target, so that a failed save leaves nothing half written under its name
                let temporary = beside(path);
                let result = File::create(&temporary).map_err(CommandError::from).and_then(|file| {
                    let mut out = BufWriter::with_capacity(1 << 20, file);
                    self.write(store, &platforms, &mut out)?;
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

impl SaveArguments {
    fn write(&self, store: &Store, platforms: &[Platform], out: &mut dyn Write) -> CommandResult {
        save(store, &self.images, platforms, out).map_err(|error| image_error(error, "save"))
    }

    /// Fetches what is not here of the images where that is asked for, and says what stays missing.
    fn complete(&self, context: &Context, whole: bool) -> CommandResult {
        let engine = context.engine()?;
        for name in self.images.iter().filter(|_| whole) {
            let image = find(engine.store()?, name).map_err(|error| image_error(error, "save"))?;
            let mut absent = missing(engine.store()?, &image)?;
            if self.pull && !absent.is_empty() {
                let cancel = interrupt::listen();
                let fetched = fetch(engine, &image, &absent, &cancel, &super::pull::show);
                if cancel.is_cancelled() {
                    return Err(CommandError::interrupted());
                }
                absent = fetched.map_err(super::registry_error)?;
            }
            if !absent.is_empty() {
                let parts: Vec<_> = absent.iter().map(ToString::to_string).collect();
                output::note(format!("note: {name} is here in part; not in the archive: {}", parts.join(", ")));
                let hint = match self.pull {
                    true => pull_hint(name, &absent),
                    false => format!("onetag save --pull {name}    (what is missing comes from where the image came)"),
                };
                output::note(format!("hint: {hint}"));
            }
        }
        Ok(())
    }
}

/// What to type to get the missing platforms of an image.
pub fn pull_hint(name: &str, missing: &[Missing]) -> String {
    let platforms: Vec<String> = match missing.iter().any(|part| part.is_attestation || part.platform.is_none()) {
        true => Vec::new(),
        false => missing.iter().filter_map(|part| part.platform.as_ref()).map(ToString::to_string).collect(),
    };
    match platforms.as_slice() {
        [] => format!("onetag pull --all-platforms {name}"),
        platforms => format!("onetag pull --platform {} {name}", platforms.join(",")),
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
        let platforms = parse_platforms(&self.platform)?;
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
        let loaded = load(context.engine()?.store()?, input, &platforms)?;
        if loaded.is_empty() {
            return Err(CommandError::new("the archive has no image of that platform"));
        }
        for image in &loaded {
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
            if platforms.is_empty() {
                tell_missing(context, image)?;
            }
        }
        Ok(())
    }
}

/// Says what the archive lacks of an image.
fn tell_missing(context: &Context, image: &Loaded) -> CommandResult {
    let Some(name) = image.names.first().map(Reference::familiar) else { return Ok(()) };
    let local = LocalImage {
        names: image.names.iter().map(ToString::to_string).collect(),
        descriptor: image.descriptor.clone(),
        asked: name.clone(),
    };
    let absent = missing(context.engine()?.store()?, &local)?;
    if !absent.is_empty() {
        let parts: Vec<_> = absent.iter().map(ToString::to_string).collect();
        output::note(format!("note: {name} is here in part; not in the archive: {}", parts.join(", ")));
        output::note(format!("hint: {}", pull_hint(&name, &absent)));
    }
    Ok(())
}
