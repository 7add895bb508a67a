//! `onetag imagetools`: indexes in registries, layouts and the store.

mod create;
mod inspect;
mod merge;
mod publish;
mod schemas;
#[cfg(test)]
mod tests;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Indexes in registries, image layouts and the local store
#[derive(Debug, Subcommand)]
pub enum ImagetoolsCommand {
    /// Show details of an image in a registry, a layout or the store
    Inspect(inspect::InspectArguments),
    /// Create a new image based on source images
    Create(create::CreateArguments),
    /// Put together what several runners built, from the records of `build --record`
    Merge(merge::MergeArguments),
}

impl ImagetoolsCommand {
    /// Runs the command.
    pub fn run(self, context: &Context) -> CommandResult {
        match self {
            Self::Inspect(arguments) => arguments.run(context),
            Self::Create(arguments) => arguments.run(context),
            Self::Merge(arguments) => arguments.run(context),
        }
    }
}
