//! `onetag manifest rm`.

use clap::Args;
use onetag_engine::index::pending::PendingLists;

use super::{explain, reference};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};

/// Delete one or more manifest lists from local storage
#[derive(Args, Debug)]
pub struct RemoveArguments {
    /// The lists
    #[arg(value_name = "MANIFEST_LIST", required = true)]
    lists: Vec<String>,
}

impl RemoveArguments {
    /// Runs the command; a list that is not there keeps none of the others.
    pub fn run(&self, context: &Context) -> CommandResult {
        let lists = PendingLists::new(&context.engine()?.options().root);
        let mut errors: Vec<CommandError> = Vec::new();
        for name in &self.lists {
            if let Err(error) = lists.remove(&reference(name)?) {
                errors.push(explain(error));
            }
        }
        let mut errors = errors.into_iter();
        let Some(first) = errors.next() else { return Ok(()) };
        Err(errors.fold(first, |first, other| first.context(format!("{:#}", other.source))))
    }
}
