//! `onetag builder use`.

use clap::Args;
use onetag_engine::builders::Builders;

use crate::context::Context;
use crate::error::CommandResult;

/// Set the current builder instance
#[derive(Args, Debug)]
pub struct UseArguments {
    /// The builder
    #[arg(value_name = "NAME")]
    name: String,
    /// Set builder as default for current context: there is one context
    #[arg(long)]
    default: bool,
    /// Builder persists context changes: there is one context
    #[arg(long)]
    global: bool,
}

impl UseArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        Ok(Builders::new(&context.engine()?.options().root).make_current(&self.name)?)
    }
}
