//! `onetag prune`, `onetag builder prune`, `onetag image prune`.

use std::time::Duration;

use clap::Args;
use onetag_dockerfile::values::parse_duration;
use onetag_engine::images::list;
use onetag_store::{PruneOptions, PruneReport, UsageKind};

use crate::arguments::{Flag, FlagTable, Foreign, Treatment, parse_size};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;
use crate::units::decimal_size;

/// Remove what is not needed: content without a name, the build cache
#[derive(Args, Debug)]
pub struct PruneArguments {
    /// Remove all images too
    #[arg(long, short)]
    all: bool,
    /// Only cache that was not used for so long: until=24h
    #[arg(long, value_name = "until=DURATION")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(long, short)]
    force: bool,
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Remove build cache
#[derive(Args, Debug)]
pub struct CacheArguments {
    /// Remove cache mounts and unpacked layers too
    #[arg(long, short)]
    all: bool,
    /// Only cache that was not used for so long: until=24h
    #[arg(long, value_name = "until=DURATION")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(long, short)]
    force: bool,
    /// Amount of disk space always allowed to keep for cache
    #[arg(long, alias = "max-used-space", alias = "keep-storage", value_name = "BYTES")]
    reserved_space: Option<String>,
    /// Provide a more verbose output
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    foreign: Foreign<CacheFlags>,
}

/// Flags of `buildx prune`.
#[derive(Debug)]
pub struct CacheFlags;

impl FlagTable for CacheFlags {
    const FLAGS: &'static [Flag] = &[
        Flag::value("min-free-space", Treatment::Noted("not looked at; --reserved-space bounds the cache")),
        Flag::value("timeout", Treatment::Accepted),
    ];
}

/// Remove unused images
#[derive(Args, Debug)]
pub struct ImageArguments {
    /// Remove all images, not only content without a name
    #[arg(long, short)]
    all: bool,
    /// Only images made before: until=24h
    #[arg(long, value_name = "until=DURATION")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(long, short)]
    force: bool,
}

impl PruneArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let unused_for = until(&self.filter)?.unwrap_or(Duration::ZERO);
        let images = if self.all { "all images, " } else { "" };
        let question = format!("This will remove {images}content without a name and the build cache. Continue?");
        if !self.force && !self.dry_run && !output::confirm(&question) {
            return Ok(());
        }
        context.enter_namespace()?;
        if self.all && !self.dry_run {
            remove_images(context, None)?;
        }
        let options = PruneOptions {
            unused_for: Some(unused_for),
            cache_mounts: true,
            dry_run: self.dry_run,
            ..PruneOptions::default()
        };
        tell(&context.engine()?.store()?.prune(&options)?, true)
    }
}

impl CacheArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        self.foreign.settle()?;
        let question = match self.all {
            true => "WARNING! This will remove all build cache. Continue?",
            false => "WARNING! This will remove all dangling build cache. Continue?",
        };
        if !self.force && !output::confirm(question) {
            return Ok(());
        }
        context.enter_namespace()?;
        let keep_bytes = self.reserved_space.as_deref().map(parse_size).transpose()?;
        let unused_for = match until(&self.filter)? {
            None if keep_bytes.is_some() => None,
            unused_for => Some(unused_for.unwrap_or(Duration::ZERO)),
        };
        let options = PruneOptions {
            unused_for,
            keep_bytes,
            cache_mounts: self.all,
            unpacked_layers: self.all,
            ..PruneOptions::default()
        };
        tell(&context.engine()?.store()?.prune(&options)?, self.verbose)
    }
}

impl ImageArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let question = match self.all {
            true => "WARNING! This will remove all images. Continue?",
            false => "WARNING! This will remove all dangling images. Continue?",
        };
        if !self.force && !output::confirm(question) {
            return Ok(());
        }
        context.enter_namespace()?;
        let age = until(&self.filter)?;
        if self.all {
            for name in remove_images(context, age)? {
                output::line(format!("untagged: {name}"))?;
            }
        }
        tell(&context.engine()?.store()?.prune(&PruneOptions::default())?, false)
    }
}

/// Takes all names away, of images older than `age` only where it is given.
fn remove_images(context: &Context, age: Option<Duration>) -> CommandResult<Vec<String>> {
    let store = context.engine()?.store()?;
    let limit = age.and_then(|age| jiff::Timestamp::now().checked_sub(age).ok());
    let mut removed = Vec::new();
    for summary in list(store)? {
        let created = summary.created.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        if limit.is_some_and(|limit| created.is_none_or(|created| created > limit)) {
            continue;
        }
        for name in &summary.image.names {
            store.remove_reference(name)?;
            removed.push(name.clone());
        }
    }
    Ok(removed)
}

/// The age in `until=…` or `unused-for=…`.
fn until(filters: &[String]) -> CommandResult<Option<Duration>> {
    let mut age = None;
    for filter in filters {
        let Some(("until" | "unused-for", value)) = filter.split_once('=') else {
            return Err(CommandError::new(format!("invalid filter {filter:?}")).with_hint("--filter until=24h"));
        };
        let nanoseconds = parse_duration(value).map_err(|error| {
            CommandError::from(error).context(format!("invalid duration {value:?}")).with_hint("--filter until=24h")
        })?;
        age = Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0)));
    }
    Ok(age)
}

fn tell(report: &PruneReport, verbose: bool) -> CommandResult {
    if verbose {
        for usage in &report.removed {
            output::line(format!("{}\t{}\t{}", kind(usage.kind), usage.name, decimal_size(usage.bytes)))?;
        }
    }
    Ok(output::line(format!("Total reclaimed space: {}", decimal_size(report.reclaimed_bytes)))?)
}

/// A kind of content in words: `cache mount` for `CacheMount`.
pub fn kind(kind: UsageKind) -> String {
    let mut words = String::new();
    for c in format!("{kind:?}").chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{UsageKind, kind};

    #[test]
    fn kinds_are_words() {
        assert_eq!(kind(UsageKind::CacheMount), "cache mount");
        assert_eq!(kind(UsageKind::Blob), "blob");
    }
}
