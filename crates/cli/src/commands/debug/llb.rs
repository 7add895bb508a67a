//! `onetag debug llb`: a Dockerfile's build graph, as BuildKit's tools read it.

use clap::Args;

use crate::commands::build::BuildArguments;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;

/// Print the build graph of a Dockerfile for one platform (BuildKit's LLB); nothing is built
#[derive(Args, Debug)]
pub struct LlbArguments {
    /// One line of JSON an operation, in place of the binary definition
    #[arg(long)]
    json: bool,
    /// What names the local sources of the graph (local.unique); the same in every run where it is left out
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    #[command(flatten)]
    build: BuildArguments,
}

impl LlbArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        if !self.json && output::stdout_is_terminal() {
            return Err(CommandError::new("a definition is binary, and standard output is a terminal")
                .with_hint("--json, or > build.llb.pb"));
        }
        let graph = self.build.graph(context, self.unique.as_deref())?;
        let content = if self.json { graph.to_json_lines() } else { graph.to_definition() };
        Ok(output::write(content)?)
    }
}
