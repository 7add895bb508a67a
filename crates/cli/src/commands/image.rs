//! `onetag image`: Docker's management spelling of the image commands.

use clap::Subcommand;

use super::{history, images, import, inspect, prune, pull, push, rmi, save, tag};
use crate::context::Context;
use crate::error::CommandResult;

/// Inspect, tag, remove, import and prune images
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build an image for one or many platforms
    Build(Box<super::build::BuildArguments>),
    /// Show the history of an image
    History(history::HistoryArguments),
    /// Make an image of a root file system
    Import(import::ImportArguments),
    /// Display detailed information on one or more images
    Inspect(inspect::InspectArguments),
    /// Load images from an archive or STDIN
    Load(save::LoadArguments),
    /// List images: tag, index, platforms
    #[command(alias = "list")]
    Ls(images::ImagesArguments),
    /// Remove unused images
    Prune(prune::ImageArguments),
    /// Download an image from a registry
    Pull(pull::PullArguments),
    /// Upload an image to a registry, all its platforms
    Push(push::PushArguments),
    /// Remove one or more images, or platforms of them
    #[command(alias = "remove")]
    Rm(rmi::RemoveArguments),
    /// Save images, all their platforms, to an archive
    Save(save::SaveArguments),
    /// Create a tag TARGET that refers to SOURCE
    Tag(tag::TagArguments),
}

impl ImageCommand {
    /// Runs the command.
    pub fn run(self, context: &Context) -> CommandResult {
        match self {
            Self::Build(arguments) => arguments.run(context),
            Self::History(arguments) => arguments.run(context),
            Self::Import(arguments) => arguments.run(context),
            Self::Inspect(arguments) => arguments.run(context),
            Self::Load(arguments) => arguments.run(context),
            Self::Ls(arguments) => arguments.run(context),
            Self::Prune(arguments) => arguments.run(context),
            Self::Pull(arguments) => arguments.run(context),
            Self::Push(arguments) => arguments.run(context),
            Self::Rm(arguments) => arguments.run(context),
            Self::Save(arguments) => arguments.run(context),
            Self::Tag(arguments) => arguments.run(context),
        }
    }
}
