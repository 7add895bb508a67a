//! `onetag builder ls`.

use clap::Args;
use onetag_engine::builders::{Builder, Builders, LOCAL_DRIVER, Node};
use onetag_oci::Platform;
use serde_json::json;

use super::platforms;
use crate::context::Context;
use crate::error::CommandResult;
use crate::output;
use crate::table;
use crate::template::Value;

/// What is shown without `--format`.
const TABLE: &str = "table {{.Name}}\t{{.DriverEndpoint}}\t{{.Status}}\t{{.Buildkit}}\t{{.Platforms}}";
const HEADERS: &[(&str, &str)] = &[
    ("Name", "NAME/NODE"),
    ("DriverEndpoint", "DRIVER/ENDPOINT"),
    ("LastActivity", "LAST ACTIVITY"),
    ("Status", "STATUS"),
    ("Buildkit", "BUILDKIT"),
    ("Platforms", "PLATFORMS"),
    ("Error", "ERROR"),
];

/// List builder instances
#[derive(Args, Debug)]
pub struct ListArguments {
    /// Format the output: table, json or a Go template
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(long, hide = true)]
    timeout: Option<String>,
}

impl ListArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let found = platforms::found(context)?;
        let root = context.engine()?.options().root.clone();
        let builders = Builders::new(&root);
        let current = match context.builder_name() {
            Some(name) => name,
            None => builders.current()?,
        };
        let format = if self.format == "table" { TABLE } else { &self.format };
        let is_table = format.starts_with("table");
        let endpoint = root.display().to_string();
        let mut rows = Vec::new();
        for builder in builders.list()? {
            let is_current = builder.name == current;
            if format == "json" || format == "{{json .}}" {
                rows.push(Value::from_json(&record(&builder, is_current, &endpoint, &found)));
                continue;
            }
            rows.push(self.builder_row(&builder, is_current && is_table));
            for node in &builder.nodes {
                rows.push(self.node_row(node, &endpoint, &found, is_table));
            }
        }
        Ok(output::write(table::render(format, HEADERS, rows)?)?)
    }

    fn builder_row(&self, builder: &Builder, is_marked: bool) -> Value {
        let mark = if is_marked { "*" } else { "" };
        row([
            ("Name", format!("{}{mark}", builder.name)),
            ("DriverEndpoint", LOCAL_DRIVER.to_owned()),
            ("LastActivity", builder.last_activity.clone().unwrap_or_default()),
        ])
    }

    fn node_row(&self, node: &Node, endpoint: &str, found: &[Platform], is_table: bool) -> Value {
        let indent = if is_table { " \\_ " } else { "" };
        let platforms = platforms::listed(node, found);
        let is_short = is_table && !self.no_trunc;
        row([
            ("Name", format!("{indent}{}", node.name)),
            ("DriverEndpoint", format!("{indent}{endpoint}")),
            ("Status", "running".to_owned()),
            ("Buildkit", format!("onetag {}", env!("CARGO_PKG_VERSION"))),
            ("Platforms", if is_short { platforms::shortened(&platforms) } else { platforms.join(", ") }),
        ])
    }
}

/// A row with all columns; those not given are empty.
fn row<const N: usize>(columns: [(&str, String); N]) -> Value {
    let empty = HEADERS.iter().map(|(name, _)| ((*name).to_owned(), Value::from("")));
    let given = columns.into_iter().map(|(name, text)| (name.to_owned(), Value::Text(text)));
    Value::map(empty.chain(given))
}

fn record(builder: &Builder, is_current: bool, endpoint: &str, found: &[Platform]) -> serde_json::Value {
    let nodes: Vec<_> = builder
        .nodes
        .iter()
        .map(|node| {
            json!({
                "Name": node.name,
                "Endpoint": endpoint,
                "Platforms": platforms::listed(node, found),
                "Status": "running",
            })
        })
        .collect();
    json!({
        "Current": is_current,
        "Driver": LOCAL_DRIVER,
        "Dynamic": false,
        "LastActivity": builder.last_activity,
        "Name": builder.name,
        "Nodes": nodes,
    })
}
