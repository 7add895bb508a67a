//! `onetag push`.

use clap::Args;
use onetag_engine::content::TransferEvent;
use onetag_engine::push::{PushError, PushRequest, push};
use onetag_oci::Reference;

use super::pull::short;
use super::ways_out::image_error;
use crate::arguments::{Flag, FlagTable, Foreign, Treatment};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::interrupt;
use crate::output;

/// Upload an image to a registry, all its platforms
#[derive(Args, Debug)]
pub struct PushArguments {
    /// The image
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    /// Push all tags of an image to the repository
    #[arg(long, short)]
    all_tags: bool,
    /// Push one platform as a single-platform image, or several as a smaller index
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Fetch what is not here of the image from the registries of its other names
    #[arg(long, conflicts_with = "platform")]
    pull: bool,
    /// Suppress verbose output
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    foreign: Foreign<PushFlags>,
}

/// Flags of `docker push`.
#[derive(Debug)]
pub struct PushFlags;

impl FlagTable for PushFlags {
    const FLAGS: &'static [Flag] = &[Flag::switch("disable-content-trust", Treatment::Accepted)];
}

impl PushArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        self.foreign.settle()?;
        context.enter_namespace()?;
        let reference = Reference::parse(&self.name)?;
        if reference.digest().is_some() {
            return Err(CommandError::new("cannot push a digest reference"));
        }
        let mut references = vec![reference.clone().with_default_tag()];
        if self.all_tags {
            if reference.tag().is_some() {
                return Err(CommandError::new("tag can't be used with --all-tags/-a"));
            }
            let names = context.engine()?.store()?.references()?;
            let parsed = names.iter().filter_map(|(name, _)| Reference::parse(name).ok());
            let repository = reference.repository();
            references = parsed.filter(|name| name.repository() == repository && name.tag().is_some()).collect();
            if references.is_empty() {
                return Err(CommandError::new(format!("no such image: {}", reference.familiar_name())));
            }
        }
        if !self.quiet {
            output::note(format!("The push refers to repository [{}]", reference.repository()));
        }
        references.iter().try_for_each(|reference| self.one(context, reference))
    }

    fn one(&self, context: &Context, reference: &Reference) -> CommandResult {
        let platforms = crate::context::parse_platforms(&self.platform)?;
        let is_smaller = platforms.len() > 1;
        let cancel = interrupt::listen();
        let events = |event: TransferEvent| {
            if !self.quiet {
                show(event);
            }
        };
        let request = PushRequest { reference: reference.clone(), platforms, fetches_missing: self.pull };
        let result = push(context.engine()?, &request, &cancel, &events);
        if cancel.is_cancelled() {
            return Err(CommandError::interrupted());
        }
        let pushed = result.map_err(|error| self.explain(error, reference))?;
        for (part, source) in &pushed.elsewhere {
            output::note(match source {
                Some(source) => format!("note: {part} is not here; it came from {}", source.repository()),
                None => format!("note: {part} is not here; the registry had it already"),
            });
        }
        if is_smaller {
            let name = pushed.reference.familiar();
            output::note(format!("note: {name} is a smaller index there; its digest is not the one of {name} here"));
        }
        if self.quiet {
            return Ok(output::line(pushed.reference.to_string())?);
        }
        let tag = pushed.reference.tag().unwrap_or_default();
        let descriptor = &pushed.descriptor;
        Ok(output::line(format!("{tag}: digest: {} size: {}", descriptor.digest, descriptor.size))?)
    }

    /// With the ways out that the error leaves.
    fn explain(&self, error: PushError, reference: &Reference) -> CommandError {
        let name = reference.familiar();
        match error {
            PushError::Partial { ref here, ref others, .. } => {
                let mut hints = Vec::new();
                if let (Some(other), false) = (others.first(), self.pull) {
                    let from = other.repository();
                    hints.push(format!("onetag push --pull {name}    (fetches what is missing from {from})"));
                }
                if let Some(platform) = here.first() {
                    hints.push(format!("onetag push --platform {platform} {name}    (that platform only)"));
                }
                if here.len() > 1 {
                    let here: Vec<_> = here.iter().map(ToString::to_string).collect();
                    hints.push(format!("onetag push --platform {} {name}    (a smaller index)", here.join(",")));
                }
                hints.into_iter().fold(CommandError::from(error), CommandError::with_hint)
            }
            PushError::Image(error) => image_error(error, "push"),
            _ => super::registry_error(error),
        }
    }
}

fn show(event: TransferEvent) {
    match event {
        TransferEvent::Started { digest, .. } => output::note(format!("{}: Preparing", short(&digest))),
        TransferEvent::Existed { digest } => output::note(format!("{}: Layer already exists", short(&digest))),
        TransferEvent::Mounted { digest, from } => output::note(format!("{}: Mounted from {from}", short(&digest))),
        TransferEvent::Done { digest } => output::note(format!("{}: Pushed", short(&digest))),
        TransferEvent::Progress { .. } => {}
    }
}
