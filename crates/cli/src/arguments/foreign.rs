//! Flags of Docker's commands that onetag does not honour: each is named here with what happens instead.

use std::fmt;
use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::error::{CommandError, CommandResult};
use crate::output;

/// What becomes of a flag.
#[derive(Clone, Copy, Debug)]
pub enum Treatment {
    /// Accepted; it makes no difference here and needs no words.
    Accepted,
    /// Accepted, with a line on standard error that says what it does not do.
    Noted(&'static str),
    /// Refused, with what to do instead.
    Refused(&'static str),
}

/// A flag of another tool.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its long name.
    pub long: &'static str,
    /// Its short name.
    pub short: Option<char>,
    /// Whether a value follows it.
    pub takes_value: bool,
    /// What becomes of it.
    pub treatment: Treatment,
}

impl Flag {
    /// A flag with a value.
    pub const fn value(long: &'static str, treatment: Treatment) -> Self {
        Self { long, short: None, takes_value: true, treatment }
    }

    /// A switch.
    pub const fn switch(long: &'static str, treatment: Treatment) -> Self {
        Self { long, short: None, takes_value: false, treatment }
    }

    /// The same flag with a short name.
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }
}

/// The flags of one command.
pub trait FlagTable {
    /// All of them.
    const FLAGS: &'static [Flag];
}

/// The flags of table `T` that were given; flattened into a command's arguments.
pub struct Foreign<T> {
    present: Vec<&'static Flag>,
    table: PhantomData<T>,
}

impl<T> fmt::Debug for Foreign<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.present.iter().map(|flag| flag.long)).finish()
    }
}

impl<T> Foreign<T> {
    /// Prints the notes of the flags that were given.
    ///
    /// # Errors
    /// For the first flag that is refused.
    pub fn settle(&self) -> CommandResult {
        for flag in &self.present {
            match flag.treatment {
                Treatment::Accepted => {}
                Treatment::Noted(note) => output::note(format!("note: --{}: {note}", flag.long)),
                Treatment::Refused(hint) => {
                    return Err(CommandError::new(format!("--{} is not supported", flag.long)).with_hint(hint));
                }
            }
        }
        Ok(())
    }
}

impl<T: FlagTable> Args for Foreign<T> {
    fn augment_args(command: Command) -> Command {
        T::FLAGS.iter().fold(command, |command, flag| {
            let mut argument = Arg::new(flag.long).long(flag.long).hide(true);
            if let Some(short) = flag.short {
                argument = argument.short(short);
            }
            argument = if flag.takes_value {
                argument.action(ArgAction::Append).num_args(1).allow_hyphen_values(true)
            } else {
                argument.action(ArgAction::SetTrue)
            };
            command.arg(argument)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: FlagTable> FromArgMatches for Foreign<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |flag: &&Flag| match flag.takes_value {
            true => matches.get_many::<String>(flag.long).is_some(),
            false => matches.get_flag(flag.long),
        };
        Ok(Self { present: T::FLAGS.iter().filter(given).collect(), table: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
