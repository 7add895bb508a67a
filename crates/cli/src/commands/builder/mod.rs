//! `onetag builder`, `onetag buildx`: builders and what buildx gathers under its name.

mod create;
mod inspect;
mod list;
mod platforms;
mod remove;
mod select;

use clap::Subcommand;

use super::build::BuildArguments;
use super::imagetools::ImagetoolsCommand;
use super::version::VersionArguments;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};

/// Manage builders and their cache
#[derive(Debug, Subcommand)]
pub enum BuilderCommand {
    /// Start a build
    #[command(alias = "b")]
    Build(Box<BuildArguments>),
    /// Create a new builder instance
    Create(create::CreateArguments),
    /// Set the current builder instance
    Use(select::UseArguments),
    /// List builder instances
    #[command(alias = "list")]
    Ls(list::ListArguments),
    /// Inspect a builder instance and the platforms it can run
    Inspect(inspect::InspectArguments),
    /// Remove one or more builder instances
    Rm(remove::RemoveArguments),
    /// Remove build cache
    Prune(super::prune::CacheArguments),
    /// Disk usage of the build cache
    Du(super::du::UsageArguments),
    /// Indexes in registries, image layouts and the local store
    #[command(subcommand)]
    Imagetools(ImagetoolsCommand),
    /// Print the version
    Version(VersionArguments),
    /// Stop builder instances: nothing runs between commands
    #[command(hide = true)]
    Stop(StopArguments),
    /// Build from a file
    #[command(hide = true, alias = "f", disable_help_flag = true)]
    Bake(RefusedArguments),
    /// Build records
    #[command(hide = true, disable_help_flag = true)]
    History(RefusedArguments),
    /// Stand in for `docker build`
    #[command(hide = true)]
    Install,
    /// Undo `install`
    #[command(hide = true)]
    Uninstall,
}

/// Arguments of `stop`
#[derive(clap::Args, Debug)]
pub struct StopArguments {
    names: Vec<String>,
}

/// Arguments of a command that is refused
#[derive(clap::Args, Debug)]
pub struct RefusedArguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    anything: Vec<String>,
}

impl BuilderCommand {
    /// Runs the command.
    pub fn run(self, context: &Context) -> CommandResult {
        match self {
            Self::Build(arguments) => arguments.run(context),
            Self::Create(arguments) => arguments.run(context),
            Self::Use(arguments) => arguments.run(context),
            Self::Ls(arguments) => arguments.run(context),
            Self::Inspect(arguments) => arguments.run(context),
            Self::Rm(arguments) => arguments.run(context),
            Self::Prune(arguments) => arguments.run(context),
            Self::Du(arguments) => arguments.run_for_cache(context),
            Self::Imagetools(command) => command.run(context),
            Self::Version(arguments) => arguments.run(),
            Self::Stop(arguments) => arguments.run(context),
            Self::Bake(_) => Err(CommandError::new("bake is not supported yet")
                .with_hint("`onetag build --platform … -t …` builds one target; a shell script builds several")),
            Self::History(_) => Err(CommandError::new("build records are not kept")
                .with_hint("`onetag build --metadata-file FILE` writes what a build made")),
            Self::Install | Self::Uninstall => Ok(()),
        }
    }
}

impl StopArguments {
    fn run(&self, context: &Context) -> CommandResult {
        let builders = onetag_engine::builders::Builders::new(&context.engine()?.options().root);
        for name in &self.names {
            builders.get(Some(name))?;
        }
        Ok(())
    }
}
