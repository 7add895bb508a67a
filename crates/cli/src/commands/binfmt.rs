//! `onetag binfmt`: emulators, registered for the whole host for those who want it.

use clap::{Args, Subcommand};
use onetag_oci::Platform;
use onetag_sandbox::Registered;

use super::doctor::how;
use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::output;
use crate::tabwriter::TabWriter;

/// Emulators: which there are, and registering them for the whole host
#[derive(Args, Debug)]
pub struct BinfmtArguments {
    #[command(subcommand)]
    command: Option<BinfmtCommand>,
}

#[derive(Debug, Subcommand)]
enum BinfmtCommand {
    /// Show how each platform's programs run here
    Ls,
    /// Register emulators for the whole host (as root); builds and runs need no registration
    Install(InstallArguments),
    /// Remove such registrations (as root)
    Uninstall(UninstallArguments),
}

/// Register emulators for the whole host
#[derive(Args, Debug)]
struct InstallArguments {
    /// Platforms; all that have an emulator where none is named
    #[arg(value_name = "PLATFORM", value_delimiter = ',')]
    platforms: Vec<String>,
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
}

impl BinfmtArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        match &self.command {
            None | Some(BinfmtCommand::Ls) => list(context),
            Some(BinfmtCommand::Install(arguments)) => {
                let platforms = platforms(&arguments.platforms)?;
                let registered = context.engine()?.sandbox().binfmt_install(&platforms, arguments.persistent);
                tell(registered.map_err(explain)?, "registered")
            }
            Some(BinfmtCommand::Uninstall(arguments)) => {
                let platforms = platforms(&arguments.platforms)?;
                tell(context.engine()?.sandbox().binfmt_uninstall(&platforms).map_err(explain)?, "removed")
            }
        }
    }
}

fn list(context: &Context) -> CommandResult {
    context.enter_namespace()?;
    let mut table = TabWriter::new(0, 3);
    table.line("PLATFORM\tHOW\tVERSION\tFLAGS");
    for row in context.engine()?.sandbox().binfmt() {
        let version = row.version.unwrap_or_default();
        let flags = row.flags.unwrap_or_default();
        table.line(format!("{}\t{}\t{version}\t{flags}", row.support.platform, how(&row.support)));
    }
    Ok(output::write(table.finish())?)
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
            output::line(format!("  kept in {}", file.display()))?;
        }
    }
    Ok(())
}

fn explain(error: onetag_sandbox::Error) -> CommandError {
    let hint = error.hint();
    hint.into_iter().fold(CommandError::from(error), CommandError::with_hint)
}
