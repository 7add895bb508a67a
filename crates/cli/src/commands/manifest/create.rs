//! `onetag manifest create`.

use clap::Args;
use onetag_engine::index::pending::{PendingLists, fetch};

use super::{explain, note_insecure, reference};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;

/// Create a local manifest list for annotating and pushing to a registry
#[derive(Args, Debug)]
pub struct CreateArguments {
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// Images in registries
    #[arg(value_name = "MANIFEST", required = true)]
    images: Vec<String>,
    /// Amend an existing manifest list
    #[arg(long, short)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
}

impl CreateArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        note_insecure(self.insecure);
        let engine = context.engine()?;
        let lists = PendingLists::new(&engine.options().root);
        let list = reference(&self.list)?;
        if lists.exists(&list) && !self.amend {
            return Err(CommandError::new("refusing to amend an existing manifest list with no --amend flag")
                .with_hint(format!("--amend, or onetag manifest rm {}", self.list)));
        }
        // all are read before one is written
        let mut images = Vec::with_capacity(self.images.len());
        for image in &self.images {
            images.push(fetch(engine, &reference(image)?).map_err(explain)?);
        }
        images.iter().try_for_each(|image| lists.put(&list, image)).map_err(explain)?;
        Ok(output::line(format!("Created manifest list {}", list.familiar()))?)
    }
}
