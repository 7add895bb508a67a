//! The `onetag` command.
//!
//! `main` only dispatches: a command is one file under `commands` with its arguments in it.

#![forbid(unsafe_code)]

mod application;
mod arguments;
mod commands;
mod configuration;
mod context;
mod error;
mod interrupt;
mod output;
mod progress;
mod table;
mod tabwriter;
mod template;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    onetag_sandbox::init_if_requested();
    application::run(std::env::args_os().collect())
}
