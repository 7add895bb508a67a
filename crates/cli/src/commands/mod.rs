//! The commands: one file each, arguments and all.

mod binfmt;
pub mod build;
pub mod builder;
mod changes;
mod check;
pub mod completion;
mod copy;
mod debug;
mod doctor;
mod du;
mod fsck;
mod history;
mod image;
mod images;
mod imagetools;
mod import;
mod index;
mod inspect;
mod login;
mod manifest;
mod pin;
mod prune;
mod pull;
mod push;
mod registry;
mod rmi;
mod run;
mod save;
mod tag;
pub mod version;
pub mod ways_out;

use std::io::ErrorKind;

use clap::Subcommand;
use onetag_dockerfile::ResolveError;
use onetag_engine::CatalogError;
use onetag_engine::check::CheckError;
use onetag_engine::content::ContentError;
use onetag_engine::copy::CopyError;
use onetag_engine::index::edit::EditError;
use onetag_engine::index::pending::PendingError;
use onetag_engine::index::{IndexError, MergeError};
use onetag_engine::pull::PullError;
use onetag_engine::push::PushError;
use onetag_registry::Error as RegistryError;

use crate::context::Context;
use crate::error::{CommandError, CommandResult};

/// Where names without a registry lead.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// A command of `onetag`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image for one or many platforms
    #[command(visible_alias = "b")]
    Build(Box<build::BuildArguments>),
    /// Manage builders and their cache
    #[command(subcommand)]
    Builder(builder::BuilderCommand),
    /// Docker's name for `builder`
    #[command(subcommand, hide = true)]
    Buildx(builder::BuilderCommand),
    /// Indexes in registries, image layouts and the local store
    #[command(subcommand)]
    Imagetools(imagetools::ImagetoolsCommand),
    /// Change an index where it is
    #[command(subcommand)]
    Index(index::IndexCommand),
    /// Manifest lists in Docker's spelling
    #[command(subcommand)]
    Manifest(manifest::ManifestCommand),
    /// List images: tag, index, platforms
    Images(images::ImagesArguments),
    /// Inspect, tag, remove, import and prune images
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Display detailed information on one or more images
    Inspect(inspect::InspectArguments),
    /// Show the history of an image
    History(history::HistoryArguments),
    /// Download an image from a registry
    Pull(pull::PullArguments),
    /// Upload an image to a registry, all its platforms
    Push(push::PushArguments),
    /// Create a tag TARGET that refers to SOURCE
    Tag(tag::TagArguments),
    /// Remove one or more images, or platforms of them
    Rmi(rmi::RemoveArguments),
    /// Save images, all their platforms, to an archive
    Save(save::SaveArguments),
    /// Load images from an archive or STDIN
    Load(save::LoadArguments),
    /// Make an image of a root file system
    Import(import::ImportArguments),
    /// Copy an image, all its platforms, among registries, layouts, archives and the store
    Copy(copy::CopyArguments),
    /// Write index digests behind the tags of Dockerfiles, compose files and Kubernetes YAML
    Pin(Box<pin::PinArguments>),
    /// Does an index tell the truth: platforms, programs, blobs
    Check(check::CheckArguments),
    /// Create and run a new container from an image
    Run(Box<run::RunArguments>),
    /// Containers: `container run`
    #[command(subcommand, hide = true)]
    Container(ContainerCommand),
    /// Serve a registry
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Keep credentials of a registry
    Login(login::LoginArguments),
    /// Forget credentials of a registry
    Logout(login::LogoutArguments),
    /// What this host can run, how, and what to type where something is missing
    Doctor(doctor::DoctorArguments),
    /// Emulators: which there are, and registering them for the whole host
    Binfmt(binfmt::BinfmtArguments),
    /// Check the store: every blob, name and unpacked layer
    Fsck(fsck::CheckArguments),
    /// Remove what is not needed: content without a name, the build cache
    Prune(prune::PruneArguments),
    /// Disk usage of the store
    Du(du::UsageArguments),
    /// The store as a whole, in Docker's spelling
    #[command(subcommand, hide = true)]
    System(SystemCommand),
    /// Look inside: the build graph of a Dockerfile
    #[command(subcommand, hide = true)]
    Debug(debug::DebugCommand),
    /// Print the completion script of a shell
    Completion(completion::CompletionArguments),
    /// Print the version
    Version(version::VersionArguments),
}

/// Docker's `container` commands that exist here.
#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    /// Create and run a new container from an image
    Run(Box<run::RunArguments>),
}

/// Docker's `system` commands that exist here.
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Remove what is not needed: content without a name, the build cache
    Prune(prune::PruneArguments),
    /// Disk usage of the store
    Df(du::UsageArguments),
}

impl Command {
    /// Runs it.
    pub fn run(self, context: &Context) -> CommandResult {
        match self {
            Self::Build(arguments) => arguments.run(context),
            Self::Builder(command) | Self::Buildx(command) => command.run(context),
            Self::Imagetools(command) => command.run(context),
            Self::Index(command) => command.run(context),
            Self::Manifest(command) => command.run(context),
            Self::Images(arguments) => arguments.run(context),
            Self::Image(command) => command.run(context),
            Self::Inspect(arguments) => arguments.run(context),
            Self::History(arguments) => arguments.run(context),
            Self::Pull(arguments) => arguments.run(context),
            Self::Push(arguments) => arguments.run(context),
            Self::Tag(arguments) => arguments.run(context),
            Self::Rmi(arguments) => arguments.run(context),
            Self::Save(arguments) => arguments.run(context),
            Self::Load(arguments) => arguments.run(context),
            Self::Import(arguments) => arguments.run(context),
            Self::Copy(arguments) => arguments.run(context),
            Self::Pin(arguments) => arguments.run(context),
            Self::Check(arguments) => arguments.run(context),
            Self::Run(arguments) | Self::Container(ContainerCommand::Run(arguments)) => arguments.run(context),
            Self::Registry(command) => command.run(context),
            Self::Login(arguments) => arguments.run(context),
            Self::Logout(arguments) => arguments.run(context),
            Self::Doctor(arguments) => arguments.run(context),
            Self::Binfmt(arguments) => arguments.run(context),
            Self::Fsck(arguments) => arguments.run(context),
            Self::Prune(arguments) | Self::System(SystemCommand::Prune(arguments)) => arguments.run(context),
            Self::Du(arguments) | Self::System(SystemCommand::Df(arguments)) => arguments.run(context),
            Self::Debug(command) => command.run(context),
            Self::Completion(arguments) => arguments.run(),
            Self::Version(arguments) => arguments.run(),
        }
    }
}

/// An error with what to type when a registry wants credentials or is not there.
pub fn registry_error(error: impl Into<anyhow::Error>) -> CommandError {
    let error = CommandError::from(error);
    let hint = match error.source.chain().find_map(registry_cause) {
        Some(RegistryError::Unauthorized { registry, had_credentials: false, .. }) => {
            Some(format!("onetag login {registry}"))
        }
        Some(RegistryError::Token { registry, status, .. }) if matches!(status.as_u16(), 401 | 403) => {
            Some(format!("onetag login {registry}"))
        }
        Some(RegistryError::Connect { host, .. }) if host.starts_with("localhost") || host.starts_with("127.") => {
            Some(format!("onetag registry serve --addr {host}    (serves a registry there)"))
        }
        Some(RegistryError::Connect { host, source }) => Some(unreachable(host, source.kind())),
        Some(RegistryError::Tls { host, .. }) => Some(format!(
            "name who signed its certificate in ~/.config/onetag/config.toml: [registry.\"{host}\"] with ca = [\"FILE\"]"
        )),
        _ => None,
    };
    hint.into_iter().fold(error, CommandError::with_hint)
}

/// What to do about a registry that there is no way to.
fn unreachable(host: &str, kind: ErrorKind) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    match kind {
        _ if name == DOCKER_HUB => "a name without a registry means docker.io; another one is typed before it: \
                                    registry.example/app. The way through a proxy: HTTPS_PROXY=http://HOST:PORT"
            .to_owned(),
        ErrorKind::NotFound => format!("getent hosts {name}    (asks this machine's name servers)"),
        ErrorKind::ConnectionRefused => format!("nothing listens there; a registry at another port: {name}:PORT/…"),
        _ => "the way through a proxy: HTTPS_PROXY=http://HOST:PORT".to_owned(),
    }
}

/// What the registry client said, also where the engine's errors show it as their own.
fn registry_cause<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a RegistryError> {
    if let Some(error) = cause.downcast_ref::<ResolveError>() {
        return match error.get_ref().downcast_ref::<CatalogError>() {
            Some(CatalogError::Registry(error)) => Some(error),
            _ => None,
        };
    }
    let content = match cause.downcast_ref::<PullError>() {
        Some(PullError::Content(content)) => Some(content),
        _ => None,
    };
    let content = content.or_else(|| match cause.downcast_ref::<PushError>() {
        Some(PushError::Content(content) | PushError::Index(IndexError::Content(content))) => Some(content),
        _ => None,
    });
    let content = content.or_else(|| match cause.downcast_ref::<IndexError>() {
        Some(IndexError::Content(content)) => Some(content),
        _ => None,
    });
    let content = content.or_else(|| cause.downcast_ref::<std::sync::Arc<ContentError>>().map(AsRef::as_ref));
    let content = content.or_else(|| match cause.downcast_ref::<CopyError>() {
        Some(CopyError::Content(content) | CopyError::Index(IndexError::Content(content))) => Some(content),
        _ => None,
    });
    let content = content.or_else(|| match cause.downcast_ref::<MergeError>() {
        Some(MergeError::Index(IndexError::Content(content))) => Some(content),
        _ => None,
    });
    let content = content.or_else(|| match cause.downcast_ref::<PendingError>() {
        Some(PendingError::Content(content) | PendingError::Index(IndexError::Content(content))) => Some(content),
        _ => None,
    });
    let content = content.or_else(|| match cause.downcast_ref::<EditError>() {
        Some(EditError::Content(content)) => Some(content),
        _ => None,
    });
    let content = content.or_else(|| match cause.downcast_ref::<CheckError>() {
        Some(CheckError::Content(content)) => Some(content),
        _ => None,
    });
    match content.or_else(|| cause.downcast_ref::<ContentError>()) {
        Some(ContentError::Registry(error)) => Some(error),
        _ => cause.downcast_ref::<RegistryError>(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use onetag_registry::Error as RegistryError;

    use super::registry_error;

    #[test]
    fn a_registry_without_a_way_to_it_says_what_to_type() {
        for (host, kind, hint) in [
            ("registry-1.docker.io", io::ErrorKind::NotFound, "registry.example/app"),
            ("nowhere.example:5000", io::ErrorKind::NotFound, "getent hosts nowhere.example  "),
            ("10.0.0.1:5000", io::ErrorKind::ConnectionRefused, "10.0.0.1:PORT/"),
            ("10.0.0.1", io::ErrorKind::TimedOut, "HTTPS_PROXY="),
            ("localhost:5000", io::ErrorKind::ConnectionRefused, "onetag registry serve --addr localhost:5000"),
        ] {
            let error = RegistryError::Connect { host: host.to_owned(), source: kind.into() };
            let hints = registry_error(error).hints;
            assert!(matches!(hints.as_slice(), [only] if only.contains(hint)), "{host} {kind}: {hints:?}");
        }
    }
}
