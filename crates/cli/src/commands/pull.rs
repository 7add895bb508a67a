//! `onetag pull`.

use clap::Args;
use onetag_engine::content::TransferEvent;
use onetag_engine::pull::{PlatformSelection, PullError, Pulled, pull};
use onetag_oci::{Digest, Reference};

use crate::arguments::{Flag, FlagTable, Foreign, Treatment};
use crate::context::{Context, parse_platforms};
use crate::error::{CommandError, CommandResult};
use crate::interrupt;
use crate::output;

/// Download an image from a registry
#[derive(Args, Debug)]
pub struct PullArguments {
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
    /// Download all tagged images in the repository
    #[arg(long, short)]
    all_tags: bool,
    /// Platforms to pull; the host's where none is given
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Pull all platforms of the index
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Unpack the layers at once, rather than when something needs their files
    #[arg(long)]
    unpack: bool,
    /// Suppress verbose output
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    foreign: Foreign<PullFlags>,
}

/// Flags of `docker pull`.
#[derive(Debug)]
pub struct PullFlags;

impl FlagTable for PullFlags {
    const FLAGS: &'static [Flag] = &[Flag::switch("disable-content-trust", Treatment::Accepted)];
}

impl PullArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        self.foreign.settle()?;
        context.enter_namespace()?;
        let reference = Reference::parse(&self.name)?;
        let selection = selection(context, &self.platform, self.all_platforms)?;
        if !self.all_tags {
            return self.one(context, &reference, &selection).map(drop);
        }
        if reference.tag().is_some() || reference.digest().is_some() {
            return Err(CommandError::new("tag can't be used with --all-tags/-a"));
        }
        for tag in context.engine()?.client()?.tags(&reference)? {
            self.one(context, &reference.with_tag(&tag)?, &selection)?;
        }
        Ok(())
    }

    fn one(&self, context: &Context, reference: &Reference, selection: &PlatformSelection) -> CommandResult<Pulled> {
        let pulled = pull_with_progress(context, reference, selection, self.unpack, !self.quiet)?;
        if !self.quiet {
            output::line(format!("Digest: {}", pulled.descriptor.digest))?;
            let name = pulled.reference.familiar();
            let status = match pulled.changed {
                true => format!("Downloaded newer image for {name}"),
                false => format!("Image is up to date for {name}"),
            };
            output::line(format!("Status: {status}"))?;
        }
        output::line(pulled.reference.to_string())?;
        Ok(pulled)
    }
}

/// What `--platform`, `--all-platforms` and DOCKER_DEFAULT_PLATFORM ask for.
pub fn selection(context: &Context, platforms: &[String], all: bool) -> CommandResult<PlatformSelection> {
    if all || platforms.iter().any(|platform| platform == "all") {
        return Ok(PlatformSelection::All);
    }
    if platforms.is_empty() {
        return Ok(context
            .platform(None)?
            .map_or(PlatformSelection::Host, |platform| PlatformSelection::These(vec![platform])));
    }
    Ok(PlatformSelection::These(parse_platforms(platforms)?))
}

/// Pulls, and with `unpack` unpacks; what moves is told on standard error as Docker tells it.
pub fn pull_with_progress(
    context: &Context,
    reference: &Reference,
    selection: &PlatformSelection,
    unpack: bool,
    is_shown: bool,
) -> CommandResult<Pulled> {
    let engine = context.engine()?;
    if is_shown {
        let named = reference.clone().with_default_tag();
        let what =
            named.tag().map_or_else(|| named.digest().map(ToString::to_string).unwrap_or_default(), str::to_owned);
        output::note(format!("{what}: Pulling from {}", named.path()));
    }
    let cancel = interrupt::listen();
    let events = |event: TransferEvent| {
        if is_shown {
            show(event);
        }
    };
    let result = pull(engine, reference, selection, unpack, &cancel, &events);
    if cancel.is_cancelled() {
        return Err(CommandError::interrupted());
    }
    result.map_err(explain)
}

/// Tells how a blob fares.
pub fn show(event: TransferEvent) {
    match event {
        TransferEvent::Started { digest, .. } => output::note(format!("{}: Pulling fs layer", short(&digest))),
        TransferEvent::Existed { digest } => output::note(format!("{}: Already exists", short(&digest))),
        TransferEvent::Done { digest } => output::note(format!("{}: Pull complete", short(&digest))),
        TransferEvent::Progress { .. } | TransferEvent::Mounted { .. } => {}
    }
}

/// The twelve digits that stand for a digest.
pub fn short(digest: &Digest) -> &str {
    digest.encoded().get(..12).unwrap_or(digest.encoded())
}

/// With the ways out that the error leaves.
fn explain(error: PullError) -> CommandError {
    match &error {
        PullError::NoMatch { reference, available, .. } if !available.is_empty() => {
            let hint = format!("onetag pull --platform {} {reference}", available[0]);
            CommandError::from(error).with_hint(hint)
        }
        _ => super::registry_error(error),
    }
}
