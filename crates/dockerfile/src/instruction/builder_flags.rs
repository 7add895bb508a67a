//! The `--name=value` flags of an instruction.

use super::error::{Focus, InstructionError, InstructionErrorKind as Kind, Mistakes};
use crate::parser::Word;
use crate::suggest;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlagKind {
    /// `--name`, `--name=true`, `--name=false`
    Boolean,
    /// `--name=value`, once.
    Text,
    /// `--name=value`, any number of times.
    List,
}

/// The flags that were given, checked against those there are.
pub(super) struct Flags<'a> {
    given: Vec<(&'static str, &'a str, usize)>,
}

impl<'a> Flags<'a> {
    /// The flags, unless one is wrong.
    pub(super) fn parse(words: &'a [Word], known: &[(&'static str, FlagKind)]) -> Result<Self, InstructionError> {
        let (flags, mistakes) = Flags::read(words, known);
        mistakes.finish()?;
        Ok(flags)
    }

    /// The flags that are right, and what is wrong with the others.
    pub(super) fn read(words: &'a [Word], known: &[(&'static str, FlagKind)]) -> (Self, Mistakes) {
        let (mut flags, mut mistakes) = (Flags { given: Vec::new() }, Mistakes::default());
        for (index, word) in words.iter().enumerate().take_while(|(_, word)| word.text != "--") {
            let (flag, value) = match word.text.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (word.text.as_str(), None),
            };
            let read = flags.one(flag, value, known).map_err(|kind| kind.at(Focus::Flag(index)));
            flags.given.extend(mistakes.note(read).map(|(name, value)| (name, value, index)));
        }
        (flags, mistakes)
    }

    fn one(
        &self,
        flag: &str,
        value: Option<&'a str>,
        known: &[(&'static str, FlagKind)],
    ) -> Result<(&'static str, &'a str), Kind> {
        // The parser only takes words with two dashes for flags; a lone one is quoted.
        let name = flag.strip_prefix("--").unwrap_or(flag);
        let Some((name, kind)) = known.iter().find(|(known, _)| *known == name).copied() else {
            let nearest = suggest::nearest(name, known.iter().map(|(name, _)| *name));
            let known = known.iter().map(|(name, _)| *name).collect();
            return Err(Kind::UnknownFlag { flag: flag.to_owned(), nearest, known });
        };
        if kind != FlagKind::List && self.given.iter().any(|(given, ..)| *given == name) {
            return Err(Kind::DuplicateFlag(flag.to_owned()));
        }
        let missing = || Kind::FlagValue(flag.to_owned());
        let value = match kind {
            FlagKind::Boolean => match value.map(str::to_lowercase).as_deref() {
                None | Some("true") => "true",
                Some("false") => "false",
                Some("") => return Err(missing()),
                Some(_) => {
                    let value = value.unwrap_or_default().to_owned();
                    return Err(Kind::FlagNotBoolean { flag: flag.to_owned(), value });
                }
            },
            FlagKind::Text | FlagKind::List => value.ok_or_else(missing)?,
        };
        Ok((name, value))
    }

    /// The value of a flag with one; empty where it was not given.
    pub(super) fn text(&self, name: &str) -> String {
        self.find(name).map(|(value, _)| value.to_owned()).unwrap_or_default()
    }

    /// The value of a flag with one and where it stands.
    pub(super) fn find(&self, name: &str) -> Option<(&'a str, Focus)> {
        self.given.iter().find(|(given, ..)| *given == name).map(|(_, value, index)| (*value, Focus::Flag(*index)))
    }

    /// The value of a boolean flag where it was given.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.find(name).map(|(value, _)| value == "true")
    }

    /// All values of a flag with where they stand.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = (&'a str, Focus)> {
        self.given
            .iter()
            .filter(move |(given, ..)| *given == name)
            .map(|(_, value, index)| (*value, Focus::Flag(*index)))
    }
}
