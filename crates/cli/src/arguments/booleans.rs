//! Go's flags: a switch may be written `--flag`, `--flag=true` or `--flag=false`.

use clap::{ArgAction, Command};

/// Parses a boolean as Go's `strconv.ParseBool`.
///
/// # Errors
/// A message naming the value.
pub fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid boolean value {text:?}")),
    }
}

/// The command with every switch also accepting `=true` and `=false`. Used for parsing only: help shows the switches
/// as they are declared.
pub fn with_go_booleans(command: Command) -> Command {
    command
        .mut_args(|argument| {
            if !matches!(argument.get_action(), ArgAction::SetTrue) || argument.get_long().is_none() {
                return argument;
            }
            argument
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_value("false")
                .default_missing_value("true")
                .value_parser(go_bool)
        })
        .mut_subcommands(with_go_booleans)
}
