//! What can be found about an index, each with what to do about it.

use std::sync::Arc;

use onetag_oci::{Digest, DocumentError, Platform};
use onetag_store::layer::LayerError;

use super::entry::EntryProblem;
use crate::progress::chain;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing, nothing is wrong.
    Note,
    /// Some client will have trouble.
    Warning,
    /// The index says something that is not so.
    Error,
}

impl Severity {
    /// As it is printed before a finding.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A manifest or index cannot be used.
    #[error("{}", chain(source.as_ref()))]
    Document {
        /// The document.
        digest: Digest,
        /// Why not.
        source: Arc<DocumentError>,
    },
    /// A config cannot be used.
    #[error("the config {digest} cannot be read: {}", chain(source.as_ref()))]
    Config {
        /// The config.
        digest: Digest,
        /// Why not.
        source: Arc<DocumentError>,
    },
    /// An entry whose manifest or index does not exist.
    #[error("the {what} {digest} is not there")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// An entry whose image was not pulled.
    #[error("{digest} is not in the local store")]
    NotHere {
        /// Its digest.
        digest: Digest,
    },
    /// Content of another size than its descriptor says.
    #[error("the {what} {digest} has {actual} bytes, its descriptor says {said}")]
    Size {
        /// What it is.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The size in its descriptor.
        said: u64,
        /// Its size.
        actual: u64,
    },
    /// Content of another digest.
    #[error("the content of the {what} {digest} has digest {actual}")]
    Content {
        /// What it is.
        what: &'static str,
        /// The digest that it is named by.
        digest: Digest,
        /// The digest that it has.
        actual: Digest,
    },
    /// A document larger than clients read.
    #[error("the {what} {digest} is larger than {limit} bytes, which clients do not read")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The limit.
        limit: u64,
    },
    /// A descriptor with the wrong media type.
    #[error("{digest} is {actual}, its descriptor says {said}")]
    MediaType {
        /// The content.
        digest: Digest,
        /// The media type in its descriptor.
        said: String,
        /// What it is.
        actual: String,
    },
    /// A layer compressed in another way than its media type says.
    #[error("the layer {digest} is {actual}, its media type says {said}")]
    Compression {
        /// The layer.
        digest: Digest,
        /// Its media type.
        said: String,
        /// How it is compressed.
        actual: &'static str,
    },
    /// A layer that is none.
    #[error("the layer {digest} cannot be unpacked: {}", chain(source.as_ref()))]
    Layer {
        /// The layer.
        digest: Digest,
        /// What is wrong with it.
        source: Arc<LayerError>,
    },
    /// A layer whose uncompressed archive is not the one that the config names.
    #[error("the layer {digest} unpacks to {actual}, its config says {said}")]
    DiffId {
        /// The layer.
        digest: Digest,
        /// The diff ID in the config.
        said: Digest,
        /// The digest of the uncompressed archive.
        actual: Digest,
    },
    /// A config that tells of other layers than its manifest.
    #[error("the manifest has {layers} layers, its config has {diff_ids} diff IDs")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Diff IDs of the config.
        diff_ids: usize,
    },
    /// Indexes in indexes, deeper than anybody follows.
    #[error("{digest} is nested more than {limit} indexes deep")]
    TooDeep {
        /// The innermost index looked at.
        digest: Digest,
        /// The limit.
        limit: usize,
    },
    /// An index that is its own descendant.
    #[error("the index {digest} contains itself")]
    Circle {
        /// The index.
        digest: Digest,
    },
    /// An index in an index.
    #[error("{digest} is an index within the index")]
    Nested {
        /// The inner index.
        digest: Digest,
    },
    /// Index and config name different platforms.
    #[error("the index says {said}, the config says {config}")]
    ConfigPlatform {
        /// What the index says.
        said: String,
        /// What the config says.
        config: String,
    },
    /// The config leaves out the variant that the index names.
    #[error("the index says {said}, the config {config} leaves the variant out")]
    ConfigVariant {
        /// What the index says.
        said: String,
        /// What the config says.
        config: String,
    },
    /// Two images for one platform.
    #[error("{platform} is in the index twice: {first} and {second}")]
    Duplicate {
        /// The platform.
        platform: String,
        /// The first image.
        first: Digest,
        /// The other.
        second: Digest,
    },
    /// One image twice.
    #[error("{digest} is in the index twice for {platform}")]
    Repeated {
        /// The platform.
        platform: String,
        /// The image.
        digest: Digest,
    },
    /// An entry without a platform.
    #[error("the entry {digest} has no platform")]
    NoPlatform {
        /// The entry.
        digest: Digest,
    },
    /// A platform that no client asks for.
    #[error("{platform} is no platform that a client asks for")]
    UnknownPlatform {
        /// The platform.
        platform: String,
    },
    /// A platform in another spelling than Go's.
    #[error("{platform} is spelt {canonical} by clients that compare words")]
    Spelling {
        /// As the index has it.
        platform: String,
        /// As it should be.
        canonical: String,
    },
    /// 32-bit ARM without a variant.
    #[error("{platform} has no variant: clients take it for v7")]
    NoVariant {
        /// The platform.
        platform: String,
    },
    /// Attestations in the index.
    #[error("{count} {} unknown/unknown for attestations", if *count == 1 { "entry is" } else { "entries are" })]
    Attestations {
        /// How many.
        count: usize,
    },
    /// An attestation that clients may take for an image.
    #[error("the attestation {digest} is not marked by the platform unknown/unknown")]
    UnmarkedAttestation {
        /// The attestation.
        digest: Digest,
    },
    /// An attestation about nothing in the index.
    #[error("the attestation {digest} is about {subject}, which the index does not have")]
    LooseAttestation {
        /// The attestation.
        digest: Digest,
        /// What it is about.
        subject: String,
    },
    /// Docker's and OCI's media types side by side.
    #[error("{document} mixes media types: it is {own}, but names {other}")]
    Mixed {
        /// The document.
        document: Digest,
        /// Its own media type.
        own: String,
        /// One that it names.
        other: String,
    },
    /// A file on the way of the entry point that is for another machine.
    #[error("the {role} {path} is for {machine}, not for {platform}")]
    Foreign {
        /// What it is on the way.
        role: &'static str,
        /// Its path.
        path: String,
        /// Its machine.
        machine: String,
        /// The platform.
        platform: String,
    },
    /// A file on the way of the entry point that only some processors of the platform run.
    #[error("the {role} {path} is for {machine}, which not every machine of {platform} runs")]
    Compatible {
        /// What it is on the way.
        role: &'static str,
        /// Its path.
        path: String,
        /// Its machine.
        machine: String,
        /// The platform.
        platform: String,
    },
    /// A file on the way of the entry point that needs a newer processor.
    #[error("the {role} {path} needs {machine} {needed}, {platform} promises less")]
    TooNew {
        /// What it is on the way.
        role: &'static str,
        /// Its path.
        path: String,
        /// Its machine.
        machine: String,
        /// The variant that it needs.
        needed: String,
        /// The platform.
        platform: String,
    },
    /// The entry point cannot be executed.
    #[error(transparent)]
    Entry(EntryProblem),
    /// Programs for another machine, somewhere in the image.
    #[error("{} for {machine}, not for {platform}: {}", count_of(*count, "program is", "programs are"), examples(paths, *count))]
    ForeignPrograms {
        /// Their machine.
        machine: String,
        /// The platform.
        platform: String,
        /// How many.
        count: usize,
        /// The first of them.
        paths: Vec<String>,
    },
    /// Files for another machine that are no programs, or whose names say so.
    #[error("{} for {machine}: {}", count_of(*count, "file is", "files are"), examples(paths, *count))]
    ForeignFiles {
        /// Their machine.
        machine: String,
        /// How many.
        count: usize,
        /// The first of them.
        paths: Vec<String>,
    },
    /// Files that need a newer processor.
    #[error("{} {machine} {needed}, {platform} promises less: {}", count_of(*count, "file needs", "files need"), examples(paths, *count))]
    NewerFiles {
        /// Their machine.
        machine: String,
        /// The variant that they need.
        needed: String,
        /// The platform.
        platform: String,
        /// How many.
        count: usize,
        /// The first of them.
        paths: Vec<String>,
    },
    /// Neither entry point nor command.
    #[error("the config names neither an entry point nor a command")]
    NoEntryPoint,
    /// A layer that lies elsewhere.
    #[error("{} not looked into: what may not be distributed lies elsewhere", count_of(*count, "layer is", "layers are"))]
    ForeignLayers {
        /// How many.
        count: usize,
    },
    /// Programs of an operating system that this program does not know.
    #[error("programs of {os} are not looked into")]
    NotLooked {
        /// The operating system.
        os: String,
    },
    /// A manifest that is no image.
    #[error("{digest} is no image but {kind}")]
    Artifact {
        /// The manifest.
        digest: Digest,
        /// What it is.
        kind: String,
    },
}

fn count_of(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn examples(paths: &[String], count: usize) -> String {
    let more = count.saturating_sub(paths.len());
    let shown = paths.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

impl Problem {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Document { .. }
            | Self::Config { .. }
            | Self::Missing { .. }
            | Self::Size { .. }
            | Self::Content { .. }
            | Self::TooLarge { .. }
            | Self::MediaType { .. }
            | Self::Compression { .. }
            | Self::Layer { .. }
            | Self::DiffId { .. }
            | Self::LayerCount { .. }
            | Self::TooDeep { .. }
            | Self::Circle { .. }
            | Self::ConfigPlatform { .. }
            | Self::Duplicate { .. }
            | Self::UnmarkedAttestation { .. }
            | Self::Foreign { .. }
            | Self::TooNew { .. }
            | Self::Entry(_)
            | Self::ForeignPrograms { .. } => Severity::Error,
            Self::Nested { .. }
            | Self::ConfigVariant { .. }
            | Self::Repeated { .. }
            | Self::NoPlatform { .. }
            | Self::UnknownPlatform { .. }
            | Self::Spelling { .. }
            | Self::NoVariant { .. }
            | Self::Attestations { .. }
            | Self::LooseAttestation { .. }
            | Self::Mixed { .. }
            | Self::Compatible { .. }
            | Self::ForeignFiles { .. }
            | Self::NewerFiles { .. } => Severity::Warning,
            Self::NotHere { .. }
            | Self::NoEntryPoint
            | Self::ForeignLayers { .. }
            | Self::NotLooked { .. }
            | Self::Artifact { .. } => Severity::Note,
        }
    }

    /// A word for scripts to recognise it by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Document { .. } => "document",
            Self::Config { .. } => "config",
            Self::Missing { .. } => "missing",
            Self::NotHere { .. } => "not-here",
            Self::Size { .. } => "size",
            Self::Content { .. } => "digest",
            Self::TooLarge { .. } => "too-large",
            Self::MediaType { .. } => "media-type",
            Self::Compression { .. } => "compression",
            Self::Layer { .. } => "layer",
            Self::DiffId { .. } => "diff-id",
            Self::LayerCount { .. } => "layer-count",
            Self::TooDeep { .. } => "too-deep",
            Self::Circle { .. } => "circle",
            Self::Nested { .. } => "nested-index",
            Self::ConfigPlatform { .. } => "config-platform",
            Self::ConfigVariant { .. } => "config-variant",
            Self::Duplicate { .. } => "duplicate-platform",
            Self::Repeated { .. } => "repeated-entry",
            Self::NoPlatform { .. } => "no-platform",
            Self::UnknownPlatform { .. } => "unknown-platform",
            Self::Spelling { .. } => "platform-spelling",
            Self::NoVariant { .. } => "no-variant",
            Self::Attestations { .. } => "attestations",
            Self::UnmarkedAttestation { .. } => "unmarked-attestation",
            Self::LooseAttestation { .. } => "loose-attestation",
            Self::Mixed { .. } => "mixed-media-types",
            Self::Foreign { .. } => "foreign-entry-point",
            Self::Compatible { .. } => "compatible-entry-point",
            Self::TooNew { .. } => "entry-point-level",
            Self::Entry(_) => "entry-point",
            Self::ForeignPrograms { .. } => "foreign-programs",
            Self::ForeignFiles { .. } => "foreign-files",
            Self::NewerFiles { .. } => "file-level",
            Self::NoEntryPoint => "no-entry-point",
            Self::ForeignLayers { .. } => "foreign-layers",
            Self::NotLooked { .. } => "not-looked",
            Self::Artifact { .. } => "artifact",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Document { source, .. } => match source.as_ref() {
                DocumentError::Ambiguous { .. } => {
                    "clients disagree on what it is: push the image anew with another tool".to_owned()
                }
                _ => return None,
            },
            Self::Missing { what: "manifest or index", .. } => {
                "push that platform again, or make the index without it: onetag imagetools create -p PLATFORM… -t REF REF".to_owned()
            }
            Self::Missing { .. } | Self::Content { .. } | Self::Layer { .. } => {
                "push the image again from where it is whole".to_owned()
            }
            Self::ConfigPlatform { config, .. } => {
                format!("either the entry belongs to {config}, or its image was built from a base of another platform")
            }
            Self::Duplicate { .. } | Self::Repeated { .. } => {
                "make the index of one image for each platform: onetag imagetools create -t REF SOURCE@DIGEST…".to_owned()
            }
            Self::NoPlatform { .. } => "clients choose by platform: onetag imagetools create fills it in from the config".to_owned(),
            Self::NoVariant { .. } => "say v6 or v7: build with --platform linux/arm/v7".to_owned(),
            Self::Spelling { canonical, .. } => format!("write {canonical}"),
            Self::Attestations { .. } => {
                "clients that know no attestations show or choose them: build with --provenance=false --sbom=false".to_owned()
            }
            Self::Nested { .. } => {
                "podman and others do not look inside: onetag imagetools create -t REF SOURCE… makes one index of several".to_owned()
            }
            Self::Foreign { .. } | Self::ForeignPrograms { .. } => {
                "build or copy the file of the target: ARG TARGETARCH in its stage, then $TARGETARCH in what names it".to_owned()
            }
            Self::TooNew { needed, .. } | Self::NewerFiles { needed, .. } => {
                format!("compile for an older level, or name it in the platform: …/{needed}")
            }
            Self::Entry(EntryProblem::NoLoader { .. }) => {
                "link it statically, or use a base with that loader (glibc and musl have different ones)".to_owned()
            }
            Self::Entry(EntryProblem::NotExecutable { .. }) => "COPY --chmod=755".to_owned(),
            Self::NotHere { .. } => "onetag pull --platform PLATFORM REF".to_owned(),
            _ => return None,
        })
    }
}

/// Something found about an index, or about the image of one platform in it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What.
    pub problem: Problem,
    /// The platform that it is about; none where it is about the index.
    pub platform: Option<String>,
}

impl Finding {
    /// About the index.
    pub(crate) fn new(problem: Problem) -> Self {
        Self { problem, platform: None }
    }

    /// About one platform's image.
    pub(crate) fn of(platform: &str, problem: Problem) -> Self {
        Self { problem, platform: Some(platform.to_owned()) }
    }
}

/// The name of a platform in findings and tables.
pub(crate) fn label(platform: &Platform) -> String {
    if platform.os.is_empty() && platform.architecture.is_empty() { "-".to_owned() } else { platform.format_all() }
}
