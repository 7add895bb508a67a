//! `onetag du`, `onetag builder du`.

use std::collections::HashSet;

use clap::Args;
use onetag_engine::images::{all, entries};
use onetag_oci::{Platform, PlatformMatcher, exact};
use onetag_store::{Resource, Store, Usage, UsageKind};

use super::prune::{kind, until};
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
    /// Filter: type=blob|layer|step|stack|cachemount, platform=PLATFORM, until=DURATION (unused for so long), unused=BOOL
    #[arg(long, value_name = "KEY=VALUE")]
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
        let store = context.engine()?.store()?;
        let mut usage: Vec<Usage> = store.usage()?.into_iter().filter(is_shown).collect();
        for filter in &self.filter {
            let is_wanted = wanted(store, filter)?;
            usage.retain(|usage| is_wanted(usage));
        }
        usage.sort_by_key(|usage| std::cmp::Reverse(usage.bytes));
        let rows: Vec<Value> = usage.iter().map(|usage| self.row(usage)).collect();
        let is_table = matches!(self.format.as_deref(), None | Some("table"));
        let format = if is_table { TABLE } else { self.format.as_deref().unwrap_or_default() };
        output::write(table::render(format, HEADERS, rows)?)?;
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

/// Whether something is let through.
type Filter = Box<dyn Fn(&Usage) -> bool>;

/// What a filter lets through.
fn wanted(store: &Store, filter: &str) -> CommandResult<Filter> {
    let of_kind = |kind: UsageKind| -> Filter { Box::new(move |usage| usage.kind == kind) };
    Ok(match filter.split_once('=') {
        Some(("type", "blob")) => of_kind(UsageKind::Blob),
        Some(("type", "layer")) => of_kind(UsageKind::Layer),
        Some(("type", "step" | "regular")) => of_kind(UsageKind::Step),
        Some(("type", "stack")) => of_kind(UsageKind::Chain),
        Some(("type", "cachemount" | "exec.cachemount")) => of_kind(UsageKind::CacheMount),
        Some(("platform", platform)) => {
            let content = content_of(store, &crate::context::parse_platform(platform)?)?;
            Box::new(move |usage| usage.resource.as_ref().is_some_and(|resource| content.contains(resource)))
        }
        Some(("until" | "unused-for", _)) => {
            let age = until(&[filter.to_owned()])?.unwrap_or_default();
            let limit = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0).saturating_sub(age.as_secs());
            Box::new(move |usage| usage.last_used.is_some_and(|used| used <= limit))
        }
        Some(("unused", value)) => {
            let is_unused = crate::arguments::go_bool(value).map_err(CommandError::new)?;
            Box::new(move |usage| usage.needed != is_unused)
        }
        _ => {
            return Err(CommandError::new(format!("invalid filter {filter:?}")).with_hint(
                "--filter type=blob, layer, step, stack or cachemount; platform=PLATFORM; until=24h; unused=true",
            ));
        }
    })
}

/// Manifests, configs and layers of a platform, of all images.
fn content_of(store: &Store, platform: &Platform) -> CommandResult<HashSet<Resource>> {
    let matcher = exact(platform);
    let mut content = HashSet::new();
    for image in all(store)? {
        for entry in entries(store, &image.descriptor)? {
            if entry.is_attestation || !entry.platform.as_ref().is_some_and(|platform| matcher.matches(platform)) {
                continue;
            }
            content.insert(Resource::Blob(entry.descriptor.digest));
            let blobs = entry.manifest.iter().flat_map(|manifest| manifest.layers.iter().chain([&manifest.config]));
            content.extend(blobs.map(|blob| Resource::Blob(blob.digest.clone())));
            let diff_ids = entry.config.iter().flat_map(|config| config.rootfs.diff_ids.iter());
            content.extend(diff_ids.map(|diff_id| Resource::Layer(diff_id.clone())));
        }
    }
    Ok(content)
}
