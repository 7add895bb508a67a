//! `onetag manifest`: Docker's way of making manifest lists, step by step. `imagetools create` does it in one.

mod annotate;
mod create;
mod inspect;
mod push;
mod remove;

use clap::Subcommand;
use onetag_engine::content::ContentError;
use onetag_engine::index::pending::PendingError;
use onetag_oci::Reference;
use onetag_registry::Error as RegistryError;

use crate::context::Context;
use crate::error::{CommandError, CommandResult};

/// Manifest lists in Docker's spelling
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Add additional information to a local image manifest
    Annotate(annotate::AnnotateArguments),
    /// Create a local manifest list for annotating and pushing to a registry
    Create(create::CreateArguments),
    /// Display an image manifest, or manifest list
    Inspect(inspect::InspectArguments),
    /// Push a manifest list to a repository
    Push(push::PushArguments),
    /// Delete one or more manifest lists from local storage
    Rm(remove::RemoveArguments),
}

impl ManifestCommand {
    /// Runs the command.
    pub fn run(self, context: &Context) -> CommandResult {
        match self {
            Self::Annotate(arguments) => arguments.run(context),
            Self::Create(arguments) => arguments.run(context),
            Self::Inspect(arguments) => arguments.run(context),
            Self::Push(arguments) => arguments.run(context),
            Self::Rm(arguments) => arguments.run(context),
        }
    }
}

fn reference(text: &str) -> CommandResult<Reference> {
    let parsed = Reference::parse(text).map(Reference::with_default_tag);
    parsed.map_err(|error| CommandError::from(error).context(format!("error parsing name {text:?}")))
}

/// In Docker's words where it has some.
fn explain(error: PendingError) -> CommandError {
    match &error {
        PendingError::Content(ContentError::Registry(RegistryError::NotFound { what })) => {
            CommandError::new(format!("no such manifest: {what}"))
        }
        PendingError::IsList { name } => {
            let hint = format!("onetag imagetools create -t NAME {name} … takes lists as sources");
            CommandError::from(error).with_hint(hint)
        }
        _ => super::registry_error(error),
    }
}

/// Loopback registries are tried over plain HTTP without being told to.
fn note_insecure(insecure: bool) {
    if insecure {
        crate::output::note("note: --insecure: loopback registries are tried over plain HTTP; others need TLS");
    }
}
