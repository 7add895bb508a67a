//! `onetag copy`: images from place to place, digest-exact.

use clap::Args;
use onetag_engine::content::{Contents, Location, Transfer, TransferEvent};
use onetag_engine::index::{CreateRequest, SourceName, create, plan};
use onetag_oci::{Platform, order};

use super::pull::short;
use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::interrupt;
use crate::output;

/// Copy an image, all its platforms, among registries, layouts and the store
#[derive(Args, Debug)]
pub struct CopyArguments {
    /// The image: NAME, store:NAME or oci:PATH[:NAME]
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to: NAME, store:NAME or oci:PATH[:NAME]
    #[arg(value_name = "DESTINATION")]
    destination: String,
    /// Copy all platforms: always so without --platform
    #[arg(long, conflicts_with = "platform")]
    all: bool,
    /// Copy one platform's image, or with --strip a smaller index
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Make a smaller index of the platforms named; its digest is another
    #[arg(long, requires = "platform")]
    strip: bool,
    /// Suppress verbose output
    #[arg(long, short)]
    quiet: bool,
}

impl CopyArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let (source, destination) = (Location::parse(&self.source)?, Location::parse(&self.destination)?);
        let platforms: Vec<Platform> =
            self.platform.iter().map(|text| parse_platform(text)).collect::<CommandResult<_>>()?;
        if platforms.len() > 1 && !self.strip {
            return Err(CommandError::new("several platforms make a smaller index with another digest")
                .with_hint("add --strip to have that, or leave --platform out to copy the whole index"));
        }
        context.enter_namespace()?;
        let cancel = interrupt::listen();
        let result = match self.strip {
            true => self.stripped(context, destination, platforms, &cancel),
            false => self.exact(context, &source, &destination, platforms.first(), &cancel),
        };
        if cancel.is_cancelled() { Err(CommandError::interrupted()) } else { result }
    }

    fn exact(
        &self,
        context: &Context,
        source: &Location,
        destination: &Location,
        platform: Option<&Platform>,
        cancel: &onetag_engine::progress::Cancellation,
    ) -> CommandResult {
        let contents = Contents::new(context.engine()?);
        let mut found = contents.find(source).map_err(super::registry_error)?;
        if let (Some(wanted), Some(index)) = (platform, found.document.as_index()) {
            let images: Vec<_> = index.manifests.iter().filter(|child| !child.is_attestation()).collect();
            let best = order(&onetag_oci::only(wanted), &images, |child| child.platform.as_ref());
            let best = best.first().filter(|position| images[**position].platform.is_some());
            let Some(child) = best.map(|position| images[*position].clone()) else {
                let there: Vec<_> =
                    images.iter().filter_map(|child| child.platform.as_ref()).map(ToString::to_string).collect();
                let message = format!(
                    "{source}: no match for platform in manifest: wanted {wanted}, there are {}",
                    there.join(", ")
                );
                return Err(CommandError::new(message));
            };
            found = contents.document(source, &child)?;
        }
        let events = |event: TransferEvent| {
            if !self.quiet {
                show(event);
            }
        };
        let transfer = Transfer::new(contents, source, destination, cancel, &events);
        let moved = transfer.tree(&found, &|_| true).and_then(|()| transfer.name(&found));
        moved.map_err(super::registry_error)?;
        Ok(output::line(found.document.digest().as_str())?)
    }

    fn stripped(
        &self,
        context: &Context,
        destination: Location,
        platforms: Vec<Platform>,
        cancel: &onetag_engine::progress::Cancellation,
    ) -> CommandResult {
        let request = CreateRequest {
            sources: vec![SourceName::parse(&self.source)?],
            tags: vec![destination],
            prefer_index: true,
            platforms,
            ..CreateRequest::default()
        };
        let engine = context.engine()?;
        let created = plan(engine, &request).map_err(super::registry_error)?;
        create(engine, &created, &request.tags, cancel, &|_| {}).map_err(super::registry_error)?;
        Ok(output::line(created.combined.descriptor.digest.as_str())?)
    }
}

fn show(event: TransferEvent) {
    match event {
        TransferEvent::Existed { digest } => output::note(format!("{}: already there", short(&digest))),
        TransferEvent::Mounted { digest, from } => output::note(format!("{}: mounted from {from}", short(&digest))),
        TransferEvent::Done { digest } => output::note(format!("{}: copied", short(&digest))),
        TransferEvent::Started { .. } | TransferEvent::Progress { .. } => {}
    }
}
