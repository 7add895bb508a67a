//! `onetag prune`, `onetag builder prune`, `onetag image prune`.

use std::time::Duration;

use clap::Args;
use onetag_dockerfile::values::parse_duration;
use onetag_engine::images::{ImageError, ImageSummary, list, remove};
use onetag_oci::{Platform, PlatformMatcher, exact};
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
    /// Only images made before: until=24h; with --all only one platform of them: platform=linux/arm64
    #[arg(long, value_name = "KEY=VALUE")]
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
        let (platforms, ages): (Vec<&String>, Vec<&String>) =
            self.filter.iter().partition(|filter| filter.starts_with("platform="));
        let platform = platforms.last().and_then(|filter| filter.split_once('='));
        let platform = platform.map(|(_, platform)| crate::context::parse_platform(platform)).transpose()?;
        let age = until(&ages.into_iter().cloned().collect::<Vec<_>>())?;
        let question = match (self.all, &platform) {
            (true, None) => "WARNING! This will remove all images. Continue?".to_owned(),
            (true, Some(platform)) => format!("WARNING! This will remove {platform} from all images. Continue?"),
            (false, None) => "WARNING! This will remove all dangling images. Continue?".to_owned(),
            (false, Some(_)) => {
                return Err(CommandError::new("content without a name has no platform")
                    .with_hint("image prune --all --filter platform=PLATFORM"));
            }
        };
        if !self.force && !output::confirm(&question) {
            return Ok(());
        }
        context.enter_namespace()?;
        match platform {
            Some(platform) => remove_platform(context, &platform, age)?,
            None if self.all => {
                for name in remove_images(context, age)? {
                    output::line(format!("untagged: {name}"))?;
                }
            }
            None => {}
        }
        tell(&context.engine()?.store()?.prune(&PruneOptions::default())?, false)
    }
}

/// Takes a platform away from all images that have it here, of those older than `age` only where it is given.
fn remove_platform(context: &Context, platform: &Platform, age: Option<Duration>) -> CommandResult {
    let store = context.engine()?.store()?;
    let matcher = exact(platform);
    for summary in list(store)?.into_iter().filter(|summary| is_old_enough(summary, age)) {
        let mut here = summary.platforms.iter().filter(|platform| platform.is_here);
        let has = here.any(|here| here.platform.as_ref().is_some_and(|here| matcher.matches(here)));
        let Some(name) = summary.names.first().filter(|_| has) else { continue };
        match remove(store, name, std::slice::from_ref(platform), true) {
            Ok(removal) => {
                removal.untagged.iter().try_for_each(|name| output::line(format!("untagged: {name}")))?;
                removal.deleted.iter().try_for_each(|digest| output::line(format!("deleted: {digest}")))?;
            }
            // what went with another name of it
            Err(ImageError::NotFound { .. } | ImageError::NotHere { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_old_enough(summary: &ImageSummary, age: Option<Duration>) -> bool {
    let limit = age.and_then(|age| jiff::Timestamp::now().checked_sub(age).ok());
    let created = summary.created.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    limit.is_none_or(|limit| created.is_some_and(|created| created <= limit))
}

/// Takes all names away, of images older than `age` only where it is given.
fn remove_images(context: &Context, age: Option<Duration>) -> CommandResult<Vec<String>> {
    let store = context.engine()?.store()?;
    let mut removed = Vec::new();
    for summary in list(store)?.into_iter().filter(|summary| is_old_enough(summary, age)) {
        for name in &summary.names {
            store.remove_reference(name)?;
            removed.push(name.clone());
        }
    }
    Ok(removed)
}

/// The age in `until=…` or `unused-for=…`.
pub fn until(filters: &[String]) -> CommandResult<Option<Duration>> {
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
