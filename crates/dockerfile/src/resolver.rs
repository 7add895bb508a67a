//! What lowering asks the outside: image configs, ignore files and named contexts. Metadata only.

use std::error::Error;
use std::fmt;

use onetag_llb::SourceOp;
use onetag_oci::{Digest, ImageConfig, Platform, Reference};

/// Answers the questions that lowering cannot answer from the Dockerfile. One resolver serves the lowering of all
/// platforms of a build, possibly at the same time.
pub trait Resolver: Sync {
    /// The config of an image for a platform, and what its reference points to.
    ///
    /// # Errors
    /// The image or the platform does not exist, or the registry does not answer.
    fn image_config(
        &self,
        reference: &Reference,
        platform: &Platform,
        options: &ResolveOptions,
    ) -> Result<ResolvedImage, ResolveError>;

    /// Says which images will be asked for next, so that they can be looked up at the same time. Nothing needs to be
    /// done; errors belong to [`Resolver::image_config`].
    fn prefetch(&self, _wanted: &[(Reference, Platform, ResolveOptions)]) {}

    /// The ignore file of the main context: `<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore`
    /// in the context's root. Not asked for where the context is not a local folder.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    fn ignore_file(&self) -> Result<Option<IgnoreFile>, ResolveError>;

    /// The named context (`--build-context`) of exactly this key, which is a name or `name::platform`.
    ///
    /// # Errors
    /// The context exists and cannot be read.
    fn named_context(&self, key: &str) -> Result<Option<NamedContext>, ResolveError>;

    /// When a source was last changed, in seconds since 1970: the commit's time, the `Last-Modified` of a URL. Asked
    /// for where SOURCE_DATE_EPOCH names a source; `None` where it is not known.
    ///
    /// # Errors
    /// The source cannot be asked.
    fn source_time(&self, _source: &SourceOp, _log_name: &str) -> Result<Option<i64>, ResolveError> {
        Ok(None)
    }
}

/// How an image is looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolveOptions {
    /// What progress shows while it is looked up: `[internal] load metadata for …`.
    pub log_name: String,
    /// Where it may be found.
    pub mode: ResolveMode,
    /// The OCI layout that holds it, as [`NamedContext::OciLayout`] names it; else the local store and registries.
    pub layout: Option<String>,
    /// Whether only files are taken from the image (`COPY --from=IMAGE`): its platform then matters less.
    pub files_only: bool,
}

/// Where an image may be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResolveMode {
    /// In the local store or in its registry, as the builder likes it.
    #[default]
    Default,
    /// In its registry (`--pull`).
    ForcePull,
    /// In the local store if it is there.
    PreferLocal,
}

impl ResolveMode {
    /// BuildKit's name of the mode.
    pub fn as_str(self) -> &'static str {
        match self {
            ResolveMode::Default => "default",
            ResolveMode::ForcePull => "pull",
            ResolveMode::PreferLocal => "local",
        }
    }
}

/// An image's metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedImage {
    /// The reference that was looked up (a tag and digest that it had stay).
    pub reference: Reference,
    /// What it points to: the index, or the manifest where there is no index.
    pub digest: Digest,
    /// The config of the platform's image.
    pub config: ImageConfig,
    /// The config's exact bytes.
    pub config_bytes: Vec<u8>,
}

/// An ignore file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreFile {
    /// Its name, for messages.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// What a `--build-context` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// `docker-image://REFERENCE`; `scratch` is the empty file system.
    Image(String),
    /// `oci-layout://…`, already resolved to a digest.
    OciLayout {
        /// How the layout is known to the builder.
        store: String,
        /// The index or manifest in it.
        digest: Digest,
    },
    /// A local folder.
    Local {
        /// The name of its source: `local://NAME`.
        name: String,
        /// Its `.dockerignore`.
        ignore: Option<Vec<u8>>,
    },
    /// A git repository, or a URL that ends in `.git`.
    Git(String),
    /// A file at a URL.
    Http(String),
    /// `target:STAGE`: a stage of the same Dockerfile.
    Stage(String),
}

/// Why a question could not be answered; the cause is the resolver's own error.
#[derive(Debug)]
pub struct ResolveError(Box<dyn Error + Send + Sync>);

impl ResolveError {
    /// Wraps the resolver's own error.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> ResolveError {
        ResolveError(error.into())
    }

    /// The resolver's own error.
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        self.0.as_ref()
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for ResolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
