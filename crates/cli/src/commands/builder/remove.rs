//! `onetag builder rm`.

use clap::Args;
use onetag_engine::builders::Builders;

use crate::context::Context;
use crate::error::CommandResult;
use crate::output;

/// Remove one or more builder instances
#[derive(Args, Debug)]
pub struct RemoveArguments {
    /// The builders; the current one where none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Remove all inactive builders: builders are active only while a command runs
    #[arg(long)]
    all_inactive: bool,
    /// Do not prompt for confirmation
    #[arg(long, short)]
    force: bool,
    /// Keep the BuildKit daemon running: there is none
    #[arg(long, hide = true)]
    keep_daemon: bool,
    /// Keep the cache, which builders share and which is kept anyway
    #[arg(long)]
    keep_state: bool,
    #[arg(long, hide = true)]
    timeout: Option<String>,
}

impl RemoveArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let builders = Builders::new(&context.engine()?.options().root);
        let names = if self.all_inactive {
            let all = builders.list()?.into_iter().map(|builder| builder.name);
            let names: Vec<_> = all.filter(|name| name != onetag_engine::builders::DEFAULT_BUILDER).collect();
            if !self.force && !output::confirm("This will remove all inactive builders. Continue?") {
                return Ok(());
            }
            names
        } else if self.names.is_empty() {
            vec![match context.builder_name() {
                Some(name) => name,
                None => builders.current()?,
            }]
        } else {
            self.names.clone()
        };
        for name in names {
            builders.remove(&name)?;
            output::line(format!("{name} removed"))?;
        }
        Ok(())
    }
}
