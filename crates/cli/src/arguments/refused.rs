//! Docker's commands that onetag has not: refused by name, with the way to go instead.

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::error::CommandError;

const NO_DAEMON: &str = "onetag has no daemon and keeps no containers: `onetag run` runs one in the foreground";

/// Command paths under `onetag` with a hint each.
const REFUSED: &[(&str, &str)] = &[
    ("attach", NO_DAEMON),
    ("bake", "`onetag build` builds one target; a shell script of several does what a bake file does"),
    ("commit", "describe the change in a Dockerfile and run `onetag build`"),
    ("compose", "onetag runs single images: `onetag run IMAGE`"),
    ("context", "onetag has no daemon to choose; builders are `onetag builder ls`"),
    ("cp", "`onetag build -o type=local,dest=DIR` writes files out of an image"),
    ("create", NO_DAEMON),
    ("diff", NO_DAEMON),
    ("events", NO_DAEMON),
    ("exec", NO_DAEMON),
    ("export", "`onetag build -o type=tar,dest=FILE` writes a root file system"),
    ("info", "`onetag doctor` tells what this host can run"),
    ("kill", NO_DAEMON),
    ("logs", NO_DAEMON),
    ("network", "`onetag run --network host|none|default` needs no networks made before"),
    ("node", "onetag is no cluster manager"),
    ("pause", NO_DAEMON),
    ("plugin", "onetag has no plugins"),
    ("port", NO_DAEMON),
    ("ps", NO_DAEMON),
    ("rename", NO_DAEMON),
    ("restart", NO_DAEMON),
    ("rm", NO_DAEMON),
    ("search", "searching is a service of Docker Hub: https://hub.docker.com/search"),
    ("secret", "secrets of a build are `onetag build --secret id=…,src=…`"),
    ("service", "onetag is no cluster manager"),
    ("stack", "onetag is no cluster manager"),
    ("start", NO_DAEMON),
    ("stats", NO_DAEMON),
    ("stop", NO_DAEMON),
    ("swarm", "onetag is no cluster manager"),
    ("top", NO_DAEMON),
    ("trust", "onetag does not sign; cosign signs what `onetag push` pushed"),
    ("unpause", NO_DAEMON),
    ("update", NO_DAEMON),
    ("volume", "`onetag run -v FOLDER:PATH` binds a folder; there are no named volumes"),
    ("wait", NO_DAEMON),
];

/// Adds the refused commands, hidden.
pub fn with_refused_commands(command: Command) -> Command {
    REFUSED.iter().fold(command, |command, (name, _)| {
        let anything = Arg::new("anything")
            .action(ArgAction::Append)
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true);
        command.subcommand(Command::new(*name).hide(true).disable_help_flag(true).arg(anything))
    })
}

/// The refusal, when the parsed command is one of those.
pub fn refusal(matches: &ArgMatches) -> Option<CommandError> {
    let name = matches.subcommand_name()?;
    let (_, hint) = REFUSED.iter().find(|(refused, _)| *refused == name)?;
    Some(CommandError::new(format!("`{name}` is not a command of onetag")).with_hint(*hint))
}
