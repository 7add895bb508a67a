//! `onetag completion`.

use clap::{Args, ValueEnum};
use clap_complete::{Shell as Generator, generate};

use crate::application;
use crate::error::CommandResult;
use crate::output;

/// Print the completion script of a shell
#[derive(Args, Debug)]
pub struct CompletionArguments {
    /// The shell
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl CompletionArguments {
    /// Runs the command.
    pub fn run(&self) -> CommandResult {
        let generator = match self.shell {
            Shell::Bash => Generator::Bash,
            Shell::Zsh => Generator::Zsh,
            Shell::Fish => Generator::Fish,
        };
        let mut script = Vec::new();
        generate(generator, &mut application::definition(), "onetag", &mut script);
        Ok(output::write(script)?)
    }
}
