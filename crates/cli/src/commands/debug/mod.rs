//! `onetag debug`: what lies between a Dockerfile and its image, for those who look for a fault.

mod llb;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Look inside
#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// Print the build graph of a Dockerfile for one platform (BuildKit's LLB); nothing is built
    Llb(Box<llb::LlbArguments>),
}

impl DebugCommand {
    /// Runs the command.
    pub fn run(self, context: &Context) -> CommandResult {
        match self {
            Self::Llb(arguments) => arguments.run(context),
        }
    }
}
