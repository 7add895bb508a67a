//! `onetag version`.

use clap::Args;

use crate::error::CommandResult;
use crate::output;
use crate::template::{JsonStyle, Template, Value};

/// Print the version
#[derive(Args, Debug)]
pub struct VersionArguments {
    /// Format the output using the given Go template, or `json`
    #[arg(long, short, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Prints the one line that scripts look at.
pub fn print_line() -> Result<(), output::OutputError> {
    output::line(format!("onetag {}", env!("CARGO_PKG_VERSION")))
}

impl VersionArguments {
    /// Runs the command.
    pub fn run(&self) -> CommandResult {
        let Some(format) = &self.format else { return Ok(print_line()?) };
        let value = Value::map([
            ("Version".to_owned(), Value::from(env!("CARGO_PKG_VERSION"))),
            ("Os".to_owned(), Value::from("linux")),
            ("Arch".to_owned(), Value::from(onetag_oci::Platform::host().architecture)),
        ]);
        let format = if format == "json" { "{{json .}}" } else { format };
        Ok(output::line(Template::parse(format)?.execute(&value, JsonStyle::Compact)?)?)
    }
}
