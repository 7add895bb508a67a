//! The commands: one file each, arguments and all.

pub mod completion;
pub mod version;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// A command of `onetag`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the completion script of a shell
    Completion(completion::CompletionArguments),
    /// Print the version
    Version(version::VersionArguments),
}

impl Command {
    /// Runs it.
    pub fn run(self, _context: &Context) -> CommandResult {
        match self {
            Self::Completion(arguments) => arguments.run(),
            Self::Version(arguments) => arguments.run(),
        }
    }
}
