//! Expansion of variables in typed instructions.

use super::mount::{Mount, MountError};
use super::{Command, KeyValue, Sources};

/// Expands one word: the text as written in, the value out.
pub type Expand<'a, E> = dyn FnMut(&str) -> Result<String, E> + 'a;

/// Why an instruction could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandFailure<E> {
    /// The expander refused a word.
    #[error(transparent)]
    Word(E),
    /// A `--mount` is wrong once its variables are known.
    #[error(transparent)]
    Mount(MountError),
}

impl<E> From<E> for ExpandFailure<E> {
    fn from(error: E) -> Self {
        ExpandFailure::Word(error)
    }
}

impl Command {
    /// Expands variables wherever a single word stands for a single value. `ARG`, `RUN` words,
    /// `CMD`, `ENTRYPOINT`, `HEALTHCHECK`, `EXPOSE`, `SHELL`, `ONBUILD` and `MAINTAINER` are left
    /// alone: `ARG` defaults and `EXPOSE` words have rules of their own, the others take none.
    /// Words are handed over in the order in which BuildKit expands them.
    pub fn expand<E>(&mut self, expander: &mut Expand<'_, E>) -> Result<(), ExpandFailure<E>> {
        match self {
            Command::Add(add) => {
                expand_in_place(&mut add.chown, expander)?;
                expand_in_place(&mut add.chmod, expander)?;
                expand_in_place(&mut add.checksum, expander)?;
                expand_sources(&mut add.sources, expander)?;
            }
            Command::Copy(copy) => {
                expand_in_place(&mut copy.chown, expander)?;
                expand_in_place(&mut copy.chmod, expander)?;
                expand_sources(&mut copy.sources, expander)?;
            }
            Command::Env(pairs) | Command::Label(pairs) => expand_pairs(pairs, expander)?,
            Command::Run(run) => {
                if let Some(flags) = &mut run.flags {
                    flags.mounts =
                        flags.mount_flags.iter().map(|flag| Mount::parse(flag, expander)).collect::<Result<_, _>>()?;
                }
            }
            Command::Stopsignal(value) | Command::User(value) | Command::Workdir(value) => {
                expand_in_place(value, expander)?;
            }
            Command::Volume(values) => {
                for value in values {
                    expand_in_place(value, expander)?;
                }
            }
            Command::Arg(_)
            | Command::Cmd(_)
            | Command::Entrypoint(_)
            | Command::Expose(_)
            | Command::Healthcheck(_)
            | Command::Maintainer(_)
            | Command::Onbuild(_)
            | Command::Shell(_) => {}
        }
        Ok(())
    }

    /// Expands the heredoc bodies of `COPY` and `ADD`. The expander MUST keep quotes
    /// (`Lex { skip_process_quotes: true, escape: '\\', .. }`).
    pub fn expand_raw<E>(&mut self, expander: &mut Expand<'_, E>) -> Result<(), E> {
        let contents = match self {
            Command::Add(add) => &mut add.sources.contents,
            Command::Copy(copy) => &mut copy.sources.contents,
            _ => return Ok(()),
        };
        for content in contents.iter_mut().filter(|content| content.expand) {
            content.data = expander(&content.data)?;
        }
        Ok(())
    }
}

fn expand_in_place<E>(value: &mut String, expander: &mut Expand<'_, E>) -> Result<(), E> {
    *value = expander(value)?;
    Ok(())
}

fn expand_sources<E>(sources: &mut Sources, expander: &mut Expand<'_, E>) -> Result<(), E> {
    for path in &mut sources.paths {
        expand_in_place(path, expander)?;
    }
    expand_in_place(&mut sources.destination, expander)
}

fn expand_pairs<E>(pairs: &mut [KeyValue], expander: &mut Expand<'_, E>) -> Result<(), E> {
    for pair in pairs {
        expand_in_place(&mut pair.key, expander)?;
        expand_in_place(&mut pair.value, expander)?;
    }
    Ok(())
}
