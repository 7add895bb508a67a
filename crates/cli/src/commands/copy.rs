//! `onetag copy`: images from place to place, digest-exact.

use clap::Args;
use onetag_engine::content::{ArchiveError, ContentError, Location, LocationError, TransferEvent};
use onetag_engine::copy::{CopyError, CopyRequest, Part, copy};
use onetag_oci::Platform;

use super::pull::short;
use crate::arguments::{Flag, FlagTable, Foreign, Treatment};
use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::interrupt;
use crate::output;
use crate::units::decimal_size;

/// Copy an image, all its platforms, among registries, layouts, archives and the store
#[derive(Args, Debug)]
pub struct CopyArguments {
    /// The image: [docker://]NAME, store:NAME, oci:PATH[:NAME], oci-archive:FILE[:NAME] or docker-archive:FILE[:NAME]
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to: the same forms
    #[arg(value_name = "DESTINATION")]
    destination: String,
    /// Copy all platforms: always so without --platform
    #[arg(long, short, conflicts_with = "platform")]
    all: bool,
    /// Copy one platform's image; with --strip or --sparse an index of the platforms named
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Make a smaller index of the platforms named; its digest is another
    #[arg(long, requires = "platform", conflicts_with = "sparse")]
    strip: bool,
    /// Keep the index byte for byte although only the platforms named are copied
    #[arg(long, requires = "platform")]
    sparse: bool,
    /// Copy what is about the image too: signatures, attestations
    #[arg(long)]
    referrers: bool,
    /// Suppress verbose output
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    foreign: Foreign<CopyFlags>,
}

/// Flags of `skopeo copy` that are not honoured.
#[derive(Debug)]
struct CopyFlags;

const CREDENTIALS: Treatment = Treatment::Refused("onetag login REGISTRY keeps credentials, as docker login does");
const LOOPBACK: Treatment = Treatment::Noted("loopback registries are tried over plain HTTP; others need TLS");
const EXACT: Treatment = Treatment::Refused("a copy is exact to the byte: signatures stay valid");

impl FlagTable for CopyFlags {
    const FLAGS: &'static [Flag] = &[
        Flag::switch("preserve-digests", Treatment::Accepted),
        Flag::switch("src-tls-verify", LOOPBACK),
        Flag::switch("dest-tls-verify", LOOPBACK),
        Flag::value("src-creds", CREDENTIALS),
        Flag::value("dest-creds", CREDENTIALS),
        Flag::value("authfile", Treatment::Refused("REGISTRY_AUTH_FILE=FILE onetag copy … reads it")),
        Flag::value("format", EXACT).short('f'),
        Flag::switch("dest-compress", EXACT),
        Flag::value("dest-compress-format", EXACT),
        Flag::switch("remove-signatures", Treatment::Accepted),
        Flag::value("multi-arch", Treatment::Refused("all platforms are copied; --platform PLATFORM copies one")),
    ];
}

impl CopyArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        self.foreign.settle()?;
        let (source, destination) = (parse_location(&self.source)?, parse_location(&self.destination)?);
        let platforms: Vec<Platform> =
            self.platform.iter().map(|text| parse_platform(text)).collect::<CommandResult<_>>()?;
        let part = match (platforms.as_slice(), self.strip, self.sparse) {
            ([], ..) => Part::All,
            (_, true, _) => Part::Stripped(platforms),
            (_, _, true) => Part::Sparse(platforms),
            ([one], ..) => Part::One(one.clone()),
            _ => {
                return Err(CommandError::new("several platforms of an image: which index shall name them?")
                    .with_hint("--strip makes a smaller index with another digest; every target takes it")
                    .with_hint("--sparse keeps the index as it is; targets that want all children refuse it"));
            }
        };
        if [&source, &destination].iter().any(|place| matches!(place, Location::Store(_))) {
            context.enter_namespace()?;
        }
        let cancel = interrupt::listen();
        let events = |event: TransferEvent| {
            if !self.quiet {
                show(event);
            }
        };
        let request = CopyRequest { source, destination, part, referrers: self.referrers };
        let result = copy(context.engine()?, &request, &cancel, &events);
        if cancel.is_cancelled() {
            return Err(CommandError::interrupted());
        }
        let copied = result.map_err(|error| explain(error, &request))?;
        if self.referrers && !self.quiet {
            output::note(format!("{} manifests about it went along", copied.referrers));
        }
        Ok(output::line(copied.digest.as_str())?)
    }
}

/// A place of an image; a place that only other tools know gets a hint.
pub fn parse_location(text: &str) -> CommandResult<Location> {
    Location::parse(text).map_err(|error| {
        let hint = match &error {
            LocationError::Refused { instead, .. } => Some(*instead),
            _ => None,
        };
        let error = CommandError::from(error).context(format!("invalid image name {text:?}"));
        hint.into_iter().fold(error, CommandError::with_hint)
    })
}

fn explain(error: CopyError, request: &CopyRequest) -> CommandError {
    let destination = &request.destination;
    let hints: Vec<String> = match &error {
        CopyError::SparseRefused { .. } => {
            vec!["--strip in place of --sparse makes a smaller index; --all copies every platform".to_owned()]
        }
        CopyError::Content(ContentError::Archive(ArchiveError::NoIndex { path })) => vec![
            "--platform PLATFORM copies one platform into it".to_owned(),
            format!("oci-archive:{} holds all platforms", path.display()),
        ],
        CopyError::NoIndex { .. } => vec![format!("onetag copy {} {destination}", request.source)],
        _ => Vec::new(),
    };
    hints.into_iter().fold(super::registry_error(error), CommandError::with_hint)
}

fn show(event: TransferEvent) {
    match event {
        TransferEvent::Existed { digest } => output::note(format!("{}: already there", short(&digest))),
        TransferEvent::Mounted { digest, from } => output::note(format!("{}: mounted from {from}", short(&digest))),
        TransferEvent::Done { digest } => output::note(format!("{}: copied", short(&digest))),
        TransferEvent::Started { digest, size: bytes } if bytes >= 16 << 20 => {
            output::note(format!("{}: {}", short(&digest), decimal_size(bytes)));
        }
        TransferEvent::Started { .. } | TransferEvent::Progress { .. } => {}
    }
}
