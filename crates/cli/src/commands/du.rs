//! `onetag du`, `onetag builder du`.

use clap::Args;
use onetag_store::{Usage, UsageKind};

use super::prune::kind;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;
use crate::table;
use crate::template::Value;
use crate::units::{age, decimal_size};

const TABLE: &str = "table {{.ID}}\t{{.Type}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsed}}";
const HEADERS: &[(&str, &str)] =
    &[("ID", "ID"), ("Type", "TYPE"), ("Reclaimable", "RECLAIMABLE"), ("Size", "SIZE"), ("LastUsed", "LAST ACCESSED")];

/// Disk usage of the store
#[derive(Args, Debug)]
pub struct UsageArguments {
    /// Filter: type=blob|layer|step|stack|cachemount
    #[arg(long, value_name = "type=KIND")]
    filter: Vec<String>,
    /// Format the output: table, json or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show full names
    #[arg(long)]
    verbose: bool,
    #[arg(long, hide = true)]
    timeout: Option<String>,
}

impl UsageArguments {
    /// Runs the command over everything in the store.
    pub fn run(&self, context: &Context) -> CommandResult {
        self.show(context, |_| true)
    }

    /// Runs the command over what builds made.
    pub fn run_for_cache(&self, context: &Context) -> CommandResult {
        self.show(context, |usage| usage.kind != UsageKind::Blob)
    }

    fn show(&self, context: &Context, is_shown: impl Fn(&Usage) -> bool) -> CommandResult {
        context.enter_namespace()?;
        let mut usage: Vec<Usage> = context.engine()?.store()?.usage()?.into_iter().filter(is_shown).collect();
        for filter in &self.filter {
            let wanted = match filter.split_once('=') {
                Some(("type", "blob")) => UsageKind::Blob,
                Some(("type", "layer")) => UsageKind::Layer,
                Some(("type", "step" | "regular")) => UsageKind::Step,
                Some(("type", "stack")) => UsageKind::Chain,
                Some(("type", "cachemount" | "exec.cachemount")) => UsageKind::CacheMount,
                _ => {
                    return Err(CommandError::new(format!("invalid filter {filter:?}"))
                        .with_hint("--filter type=blob, layer, step, stack or cachemount"));
                }
            };
            usage.retain(|usage| usage.kind == wanted);
        }
        usage.sort_by_key(|usage| std::cmp::Reverse(usage.bytes));
        let rows: Vec<Value> = usage.iter().map(|usage| self.row(usage)).collect();
        let is_table = matches!(self.format.as_deref(), None | Some("table"));
        let format = if is_table { TABLE } else { self.format.as_deref().unwrap_or_default() };
        output::write(table::render(format, HEADERS, &rows)?)?;
        if is_table {
            let total: u64 = usage.iter().map(|usage| usage.bytes).sum();
            let reclaimable: u64 = usage.iter().filter(|usage| !usage.needed).map(|usage| usage.bytes).sum();
            output::line(format!("Reclaimable:\t{}\nTotal:\t\t{}", decimal_size(reclaimable), decimal_size(total)))?;
        }
        Ok(())
    }

    fn row(&self, usage: &Usage) -> Value {
        let name = usage.name.split_once(':').map_or(usage.name.as_str(), |(_, hex)| hex);
        let id = if self.verbose { usage.name.as_str() } else { name.get(..25).unwrap_or(name) };
        let now = jiff::Timestamp::now().as_second();
        let used = usage.last_used.and_then(|time| i64::try_from(time).ok()).map(|time| age(now - time));
        Value::map([
            ("ID".to_owned(), Value::from(id)),
            ("Type".to_owned(), Value::from(kind(usage.kind))),
            ("Reclaimable".to_owned(), Value::from((!usage.needed).to_string())),
            ("Size".to_owned(), Value::from(decimal_size(usage.bytes))),
            ("LastUsed".to_owned(), Value::from(used.unwrap_or_default())),
        ])
    }
}
