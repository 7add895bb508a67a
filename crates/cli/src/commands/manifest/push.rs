//! `onetag manifest push`.

use clap::Args;
use onetag_engine::content::Location;
use onetag_engine::index::create;
use onetag_engine::index::pending::{PendingLists, plan_list};

use super::{explain, note_insecure, reference};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::interrupt;
use crate::output;

/// Push a manifest list to a repository
#[derive(Args, Debug)]
pub struct PushArguments {
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(long, short)]
    purge: bool,
}

impl PushArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        note_insecure(self.insecure);
        let engine = context.engine()?;
        let lists = PendingLists::new(&engine.options().root);
        let list = reference(&self.list)?;
        let images = lists.list(&list).map_err(explain)?;
        let created = plan_list(&images).map_err(explain)?;
        let cancel = interrupt::listen();
        let pushed = create(engine, &created, &[Location::Registry(list.clone())], &cancel, &|_| {});
        if cancel.is_cancelled() {
            return Err(CommandError::interrupted());
        }
        pushed.map_err(|error| explain(error.into()))?;
        for image in &images {
            let digest = &image.descriptor().digest;
            output::line(format!("Pushed ref {}@{digest} with digest: {digest}", list.familiar_name()))?;
        }
        output::line(created.combined.descriptor.digest.as_str())?;
        if self.purge { lists.remove(&list).map_err(explain) } else { Ok(()) }
    }
}
