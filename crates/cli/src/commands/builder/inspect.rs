//! `onetag builder inspect`.

use clap::Args;
use onetag_engine::builders::{Builders, LOCAL_DRIVER};

use super::platforms;
use crate::context::Context;
use crate::error::CommandResult;
use crate::output;
use crate::tabwriter::TabWriter;

/// Inspect a builder instance and the platforms it can run
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// The builder; the current one where none is named
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Ensure builder has booted before inspecting: there is nothing to boot, platforms are always found by trying
    #[arg(long)]
    bootstrap: bool,
    #[arg(long, hide = true)]
    timeout: Option<String>,
}

impl InspectArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let name = self.name.clone().or_else(|| context.builder_name());
        let root = context.engine()?.options().root.clone();
        let builder = Builders::new(&root).get(name.as_deref())?;
        let found = platforms::found(context)?;
        let mut table = TabWriter::new(0, 1);
        table.line(format!("Name:\t{}", builder.name));
        table.line(format!("Driver:\t{LOCAL_DRIVER}"));
        if let Some(time) = builder.last_activity.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok()) {
            table.line(format!("Last Activity:\t{}", time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC")));
        }
        table.line("");
        table.line("Nodes:");
        for (number, node) in builder.nodes.iter().enumerate() {
            if number > 0 {
                table.line("");
            }
            table.line(format!("Name:\t{}", node.name));
            table.line(format!("Endpoint:\t{}", root.display()));
            table.line("Status:\trunning");
            table.line(format!("BuildKit version:\tonetag {}", env!("CARGO_PKG_VERSION")));
            table.line(format!("Platforms:\t{}", platforms::listed(node, &found).join(", ")));
        }
        Ok(output::write(table.finish())?)
    }
}
