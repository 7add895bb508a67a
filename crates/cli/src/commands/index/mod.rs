//! `onetag index`: changes to an index where it is.

mod difference;
mod edit;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Change an index where it is
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Change platforms, labels, variables, annotations and commands of an index, in place
    Edit(Box<edit::EditArguments>),
}

impl IndexCommand {
    /// Runs the command.
    pub fn run(self, context: &Context) -> CommandResult {
        match self {
            Self::Edit(arguments) => arguments.run(context),
        }
    }
}
