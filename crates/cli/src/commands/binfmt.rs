//! `onetag binfmt`: emulators, kept in the store or registered for the whole host for those who want it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use onetag_engine::emulators::{self, EmulatorError, EmulatorSource};
use onetag_oci::{Platform, Reference};
use onetag_sandbox::{BinfmtRow, How, Registered};
use serde_json::json;

use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::output;
use crate::tabwriter::TabWriter;

/// Emulators: which there are, and registering them for the whole host
#[derive(Args, Debug)]
#[command(after_help = "\
Builds and runs find emulators by themselves and register nothing on the host. `--emulator` on any command, or
ONETAG_EMULATOR, chooses otherwise:
  auto      the host's registration where one works, else a private one (the default)
  host      the host's registrations only
  private   private registrations only
  none      no emulation")]
pub struct BinfmtArguments {
    #[command(subcommand)]
    command: Option<BinfmtCommand>,
}

#[derive(Debug, Subcommand)]
enum BinfmtCommand {
    /// Show how each platform's programs run here
    Ls(ListArguments),
    /// Register emulators for the whole host (as root), or take them into the store with --from
    Install(InstallArguments),
    /// Remove such registrations (as root), or with --kept the store's emulators
    Uninstall(UninstallArguments),
}

/// Show how each platform's programs run here
#[derive(Args, Debug, Default)]
struct ListArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Register emulators for the whole host, or take them into the store
#[derive(Args, Debug)]
struct InstallArguments {
    /// Platforms; all that have an emulator where none is named
    #[arg(value_name = "PLATFORM", value_delimiter = ',')]
    platforms: Vec<String>,
    /// Take the emulators of an image (such as tonistiigi/binfmt), a folder or a tar archive into the store, where
    /// builds and runs find them; registers nothing and needs no root
    #[arg(long, value_name = "IMAGE | FOLDER | TAR", conflicts_with = "persistent")]
    from: Option<String>,
    /// Also after the next start of the system
    #[arg(long)]
    persistent: bool,
}

/// Remove registrations
#[derive(Args, Debug)]
struct UninstallArguments {
    /// Platforms; all where none is named
    #[arg(value_name = "PLATFORM", value_delimiter = ',')]
    platforms: Vec<String>,
    /// Remove what --from put into the store, and leave the host alone
    #[arg(long)]
    kept: bool,
}

impl BinfmtArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        match &self.command {
            None => list(context, &ListArguments::default()),
            Some(BinfmtCommand::Ls(arguments)) => list(context, arguments),
            Some(BinfmtCommand::Install(arguments)) => {
                let platforms = platforms(&arguments.platforms)?;
                if let Some(source) = &arguments.from {
                    return keep(context, source, &platforms);
                }
                let registered = context.engine()?.sandbox().binfmt_install(&platforms, arguments.persistent);
                tell(registered.map_err(explain)?, "registered")
            }
            Some(BinfmtCommand::Uninstall(arguments)) => {
                let platforms = platforms(&arguments.platforms)?;
                if arguments.kept {
                    return forget(context, &platforms);
                }
                tell(context.engine()?.sandbox().binfmt_uninstall(&platforms).map_err(explain)?, "removed")
            }
        }
    }
}

fn keep(context: &Context, source: &str, platforms: &[Platform]) -> CommandResult {
    context.enter_namespace()?;
    let source = source_of(source)?;
    let kept = emulators::keep(context.engine()?, &source, platforms).map_err(not_kept)?;
    for emulator in kept {
        let platforms: Vec<String> = emulator.platforms.iter().map(ToString::to_string).collect();
        output::line(format!("{}: {}", platforms.join(", "), emulator.path.display()))?;
    }
    Ok(())
}

fn forget(context: &Context, platforms: &[Platform]) -> CommandResult {
    context.enter_namespace()?;
    for path in emulators::forget(context.engine()?, platforms)? {
        output::line(format!("removed {}", path.display()))?;
    }
    Ok(())
}

/// What is there as a folder or a file is meant as such; everything else is an image.
fn source_of(text: &str) -> CommandResult<EmulatorSource> {
    let path = Path::new(text);
    let looks_like_path = text.starts_with(['/', '.']);
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(EmulatorSource::Folder(PathBuf::from(text))),
        Ok(_) => Ok(EmulatorSource::Archive(PathBuf::from(text))),
        Err(error) if looks_like_path => Err(CommandError::from(error).context(format!("cannot open {text}"))),
        Err(_) => Ok(EmulatorSource::Image(Reference::parse(text)?)),
    }
}

fn not_kept(error: EmulatorError) -> CommandError {
    let hint = match &error {
        EmulatorError::NoneThere { .. } => Some(
            "emulators are named qemu-aarch64, qemu-s390x-static, …: --from tonistiigi/binfmt, or a folder that has \
             them",
        ),
        EmulatorError::NoneWorks { .. } => Some("statically linked emulators for this processor are needed"),
        _ => None,
    };
    hint.into_iter().fold(super::registry_error(error), CommandError::with_hint)
}

fn list(context: &Context, arguments: &ListArguments) -> CommandResult {
    context.enter_namespace()?;
    let rows = context.engine()?.sandbox().binfmt();
    if arguments.json {
        let rows: Vec<_> = rows.iter().map(document).collect();
        return Ok(output::line(String::from_utf8_lossy(&onetag_oci::go_json_indent(&rows, "  ")))?);
    }
    let mut table = TabWriter::new(0, 3);
    table.line("PLATFORM\tHOW\tINTERPRETER\tVERSION\tFLAGS\tVERDICT");
    for row in rows {
        let interpreter = row.interpreter.as_ref().map(|path| path.display().to_string());
        let cell = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
        let (platform, way, verdict) = (&row.support.platform, way(&row.support.how), verdict(&row));
        let (interpreter, version, flags) = (cell(interpreter), cell(row.version), cell(row.flags));
        table.line(format!("{platform}\t{way}\t{interpreter}\t{version}\t{flags}\t{verdict}"));
    }
    Ok(output::write(table.finish())?)
}

/// How programs run, in a word.
fn way(how: &How) -> &'static str {
    match how {
        How::Native => "native",
        How::Compatible => "compatible",
        How::HostHandler { .. } => "host",
        How::Private { .. } => "private",
        How::Unsupported { .. } => "none",
    }
}

fn verdict(row: &BinfmtRow) -> String {
    match &row.support.how {
        How::Unsupported { cause, .. } => cause.clone(),
        How::Private { keeps_names: false, .. } => {
            "ok, but a program's argument 0 is its path (before QEMU 6.0)".to_owned()
        }
        How::HostHandler { .. } if row.flags.as_ref().is_some_and(|flags| !flags.contains('P')) => {
            "ok, but a program's argument 0 is its path (registered without P)".to_owned()
        }
        _ => "ok".to_owned(),
    }
}

fn document(row: &BinfmtRow) -> serde_json::Value {
    json!({
        "platform": row.support.platform.to_string(),
        "how": way(&row.support.how),
        "interpreter": row.interpreter.as_ref().map(|path| path.display().to_string()),
        "version": row.version,
        "flags": row.flags,
        "supported": row.support.is_supported(),
        "verdict": verdict(row),
    })
}

fn platforms(texts: &[String]) -> CommandResult<Vec<Platform>> {
    texts.iter().filter(|text| *text != "all").map(|text| parse_platform(text)).collect()
}

fn tell(registered: Vec<Registered>, what: &str) -> CommandResult {
    for entry in registered {
        let by = match entry.interpreter.as_os_str().is_empty() {
            true => String::new(),
            false => format!(": {}", entry.interpreter.display()),
        };
        output::line(format!("{} {what} ({}){by}", entry.platform, entry.name))?;
        if let Some(file) = entry.persistent {
            let lasting = if by.is_empty() { "and" } else { "kept in" };
            output::line(format!("  {lasting} {}", file.display()))?;
        }
    }
    Ok(())
}

fn explain(error: onetag_sandbox::Error) -> CommandError {
    let hint = error.hint();
    hint.into_iter().fold(CommandError::from(error), CommandError::with_hint)
}
