//! From the arguments of the process to a command and its exit status.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind as ClapErrorKind;
use clap::{ArgMatches, Command as ClapCommand, CommandFactory, FromArgMatches, Parser};

use crate::arguments::{refusal, with_go_booleans, with_refused_commands};
use crate::commands::Command;
use crate::context::{Context, Global};
use crate::error::{CommandError, CommandResult, ErrorKind, Voice};
use crate::output;

/// The commands by job, as bare `onetag` prints them.
const OVERVIEW: &str = "\
One tag, every architecture: builds, stores, moves, inspects and runs multi-platform container images.

Usage: onetag COMMAND

Build
  build        Build an image for one or many platforms
  builder      Manage builders and their cache (create, use, ls, inspect, rm, prune, du)
Images here
  images       List images: tag, index, platforms
  image        Inspect, tag, remove, import and prune images
  pull, push   Move images from and to registries
  import       Make an image from a root file system
  save, load   Move images to and from archives
  run          Run an image, natively or emulated
Indexes in registries
  imagetools   Inspect indexes, make them of several images or of records of builds
  index        Change an index where it is (edit)
  copy         Copy images among registries, layouts, archives and the store
  pin          Write index digests behind the tags of Dockerfiles and YAML
  check        Does an index tell the truth: platforms, programs, blobs
This host
  doctor       What this host can run, how, and what is missing
  binfmt       Emulators, and registering them for the whole host
  registry     Serve a registry
  login, logout     Keep credentials of registries
  prune, du, fsck   Look after the local store
More
  completion, version

`onetag COMMAND --help` tells more. Docker's spelling works too: `onetag buildx build`, `onetag image ls`, …
";

/// One tag, every architecture.
#[derive(Debug, Parser)]
#[command(name = "onetag", disable_version_flag = true, disable_help_subcommand = true, infer_long_args = true)]
// Of a flag that has one value the last counts, as with Docker.
#[command(args_override_self = true)]
pub struct Application {
    #[command(flatten)]
    global: Global,
    /// Print the version
    #[arg(long, short = 'v')]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The whole command tree, as completions and help show it.
pub fn definition() -> ClapCommand {
    Application::command().override_help(OVERVIEW)
}

/// Parses, runs, prints the error if there is one.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let voice = voice(&arguments);
    let result = parse(&arguments).and_then(|application| match application {
        None => Ok(()),
        Some(Application { version: true, .. }) => Ok(crate::commands::version::print_line()?),
        Some(Application { command: None, .. }) => Ok(output::write(OVERVIEW)?),
        Some(Application { command: Some(command), global, .. }) => command.run(&Context::new(global)),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = crate::commands::ways_out::with_limit_hint(error);
            let text = error.render(voice);
            if !text.is_empty() {
                output::note(text.trim_end());
            }
            ExitCode::from(error.kind.exit_code())
        }
    }
}

/// `None` when help was asked for and printed.
fn parse(arguments: &[OsString]) -> CommandResult<Option<Application>> {
    let tolerant = with_refused_commands(with_go_booleans(definition()));
    let matches = match tolerant.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ClapErrorKind::DisplayHelp => return help(arguments, &error),
        Err(error) => return Err(usage_error(arguments, &error)),
    };
    if let Some(error) = refusal(&matches) {
        return Err(error);
    }
    from_matches(&matches).map(Some)
}

fn from_matches(matches: &ArgMatches) -> CommandResult<Application> {
    Application::from_arg_matches(matches).map_err(|error| CommandError::new(error.to_string()))
}

/// Prints help from the plain definitions, where switches do not show that they take values.
fn help(arguments: &[OsString], tolerant: &clap::Error) -> CommandResult<Option<Application>> {
    let text = match definition().try_get_matches_from(arguments) {
        Err(error) if error.kind() == ClapErrorKind::DisplayHelp => error.render(),
        _ => tolerant.render(),
    };
    let text = if output::stdout_is_terminal() { text.ansi().to_string() } else { text.to_string() };
    output::write(text)?;
    Ok(None)
}

/// A mistake in the arguments, in clap's words without its own `error:`.
fn usage_error(arguments: &[OsString], error: &clap::Error) -> CommandError {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    let kind = if is_run(arguments) { ErrorKind::NotStarted } else { ErrorKind::Failure };
    CommandError::new(text).with_kind(kind)
}

/// The first words of the command line that are no flags.
fn words(arguments: &[OsString]) -> impl Iterator<Item = &str> {
    arguments.iter().skip(1).filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-'))
}

fn is_run(arguments: &[OsString]) -> bool {
    let mut words = words(arguments);
    match words.next() {
        Some("run") => true,
        Some("container") => words.next() == Some("run"),
        _ => false,
    }
}

/// buildx's commands report errors in buildx's way.
fn voice(arguments: &[OsString]) -> Voice {
    let mut words = words(arguments);
    match (words.next(), words.next()) {
        (Some("build" | "b" | "buildx" | "builder" | "imagetools" | "bake"), _) => Voice::Buildx,
        (Some("image"), Some("build")) => Voice::Buildx,
        _ => Voice::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::{definition, is_run, voice};
    use crate::arguments::{with_go_booleans, with_refused_commands};
    use crate::error::Voice;

    fn words(line: &str) -> Vec<std::ffi::OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn the_definitions_are_sound() {
        definition().debug_assert();
        with_refused_commands(with_go_booleans(definition())).debug_assert();
    }

    #[test]
    fn switches_that_are_on_by_default_stay_on() {
        let tolerant = || with_refused_commands(with_go_booleans(definition()));
        let flag = |line: &str, name: &str| {
            let matches = tolerant().try_get_matches_from(words(line)).unwrap();
            let mut inner = &matches;
            while let Some((_, below)) = inner.subcommand() {
                inner = below;
            }
            *inner.get_one::<bool>(name).unwrap()
        };
        assert!(flag("onetag run image", "sig_proxy"));
        assert!(!flag("onetag run --sig-proxy=false image", "sig_proxy"));
        assert!(!flag("onetag run image", "rm"));
        assert!(flag("onetag run --rm=true image", "rm"));
        assert!(flag("onetag imagetools create -t x y", "prefer_index"));
        assert!(!flag("onetag buildx imagetools create --prefer-index=false -t x y", "prefer_index"));
        assert!(flag("onetag history x", "human"));
    }

    #[test]
    fn voices_and_statuses_follow_the_command() {
        assert_eq!(voice(&words("onetag buildx ls")), Voice::Buildx);
        assert_eq!(voice(&words("onetag image build .")), Voice::Buildx);
        assert_eq!(voice(&words("onetag pull x")), Voice::Own);
        assert!(is_run(&words("onetag container run x")));
        assert!(!is_run(&words("onetag image run")));
    }
}
