//! `onetag history`.

use clap::Args;
use onetag_engine::images::inspect;
use serde_json::json;

use super::ways_out::image_error;
use crate::context::Context;
use crate::error::CommandResult;
use crate::output;
use crate::table;
use crate::template::Value;
use crate::units::{age, decimal_size};

const TABLE: &str = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];
/// Commands are cut to this many characters.
const SHORT: usize = 45;

/// Show the history of an image
#[derive(Args, Debug)]
pub struct HistoryArguments {
    /// The image: name or digest
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Format the output: table, json or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(long, short = 'H', action = clap::ArgAction::Set, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set, value_parser = crate::arguments::go_bool)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// The platform to show
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Only show image IDs
    #[arg(long, short)]
    quiet: bool,
}

impl HistoryArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let platform = context.platform(self.platform.as_deref())?;
        let inspected = inspect(context.engine()?.store()?, &self.image, platform.as_ref())
            .map_err(|error| image_error(error, "history"))?;
        let digest = &inspected.chosen.entry.descriptor.digest;
        let id = if self.no_trunc { digest.as_str() } else { super::pull::short(digest) };
        let mut layers = inspected.chosen.manifest.layers.iter();
        let mut rows = Vec::new();
        for entry in &inspected.chosen.config.history {
            let size = if entry.empty_layer { 0 } else { layers.next().map_or(0, |layer| layer.size) };
            let command = entry.created_by.clone().unwrap_or_default();
            let is_cut = !self.no_trunc && command.chars().count() > SHORT;
            let shown = if is_cut { command.chars().take(SHORT - 1).chain(['…']).collect() } else { command };
            let time = entry.created.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
            let since = time.map(|time| age(jiff::Timestamp::now().as_second() - time.as_second())).unwrap_or_default();
            let at = time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
            rows.push(json!({
                "ID": "<missing>",
                "CreatedAt": at,
                "CreatedSince": if self.human { since } else { at.clone() },
                "CreatedBy": shown,
                "Size": if self.human { decimal_size(size) } else { size.to_string() },
                "Comment": entry.comment.clone().unwrap_or_default(),
            }));
        }
        rows.reverse();
        if let Some(newest) = rows.first_mut() {
            newest["ID"] = json!(id);
        }
        if self.quiet {
            let ids: String = rows.iter().map(|row| format!("{}\n", row["ID"].as_str().unwrap_or_default())).collect();
            return Ok(output::write(ids)?);
        }
        let values: Vec<_> = rows.iter().map(Value::from_json).collect();
        let format = match self.format.as_deref() {
            None | Some("table") => TABLE,
            Some(format) => format,
        };
        Ok(output::write(table::render(format, HEADERS, values)?)?)
    }
}
