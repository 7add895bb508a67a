//! Which stages and images an instruction reads from.

use super::stages::{State, States};
use super::{Checked, failure};
use crate::instruction::{Command, Instruction};
use crate::shell::{Lex, Variables};
use crate::span::LineRange;

/// The stages that an instruction reads from, one per `--from` or `--mount`. Images that no stage
/// has are added.
pub(super) fn find(states: &mut States, lex: &Lex, instruction: &Instruction) -> Checked<Vec<usize>> {
    match &instruction.command {
        Command::Copy(copy) if !copy.from.is_empty() => {
            copy_source(states, lex, &copy.from, instruction.lines).map(|source| vec![source])
        }
        Command::Run(run) => Ok(run
            .mounts()
            .iter()
            .map(|mount| {
                let from = if mount.from.is_empty() { "scratch" } else { &mount.from };
                stage_or_image(states, from, LineRange::default())
            })
            .collect()),
        _ => Ok(Vec::new()),
    }
}

fn copy_source(states: &mut States, lex: &Lex, from: &str, lines: LineRange) -> Checked<usize> {
    match lex.process_word(from, &Variables::new()) {
        Err(error) => return failure(error.to_string(), []),
        Ok(done) if done.value != from => {
            let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG \
                           from global scope as a workaround";
            return failure(message, []);
        }
        Ok(_) => {}
    }
    match from.parse::<i64>() {
        Ok(index) => match usize::try_from(index).ok().filter(|index| *index < states.all.len()) {
            Some(index) => Ok(index),
            None => failure(format!("invalid stage index {index}"), []),
        },
        Err(_) => Ok(stage_or_image(states, from, lines)),
    }
}

fn stage_or_image(states: &mut States, name: &str, lines: LineRange) -> usize {
    match states.by_name(name) {
        Some(index) => index,
        None => states.add(State::of_image(name.to_owned(), lines, true)),
    }
}
