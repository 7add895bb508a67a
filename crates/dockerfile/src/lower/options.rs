//! What lowering is told, and what it gives.

use std::collections::BTreeMap;

use onetag_llb::{Edge, Graph, HostIp, NetworkMode, Ulimit};
use onetag_oci::{Digest, ImageConfig, Platform, Reference};

use crate::resolver::ResolveMode;

/// How a Dockerfile is lowered for one target platform.
#[derive(Clone, Debug, PartialEq)]
pub struct LowerOptions {
    /// Name of the Dockerfile, for the source map.
    pub filename: String,
    /// `--build-arg`; a value of `SOURCE_DATE_EPOCH` counts too.
    pub build_args: BTreeMap<String, String>,
    /// `--target`; the last stage if absent.
    pub target: Option<String>,
    /// The platform of the machine that builds.
    pub build_platform: Platform,
    /// The platform that is built for; `None` when nothing was asked for, which means the build platform or what the
    /// base image is.
    pub target_platform: Option<Platform>,
    /// Whether several platforms are built; names then carry the platform.
    pub multi_platform: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--no-cache` and `--no-cache-filter`.
    pub no_cache: NoCache,
    /// `--network`.
    pub network: NetworkMode,
    /// `--add-host`.
    pub extra_hosts: Vec<HostIp>,
    /// `--shm-size` in bytes; 0 for the default.
    pub shm_size: i64,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--cgroup-parent`; empty for none.
    pub cgroup_parent: String,
    /// Host name of every step; empty for the default. The build argument `BUILDKIT_SANDBOX_HOSTNAME` wins.
    pub hostname: String,
    /// Where base images may be found.
    pub resolve_mode: ResolveMode,
    /// Prefix of cache mounts' identifiers. The build argument `BUILDKIT_CACHE_MOUNT_NS` wins.
    pub cache_namespace: String,
    /// What stands in `local.unique` of local sources. It MUST be the same for all platforms of a build.
    pub local_unique: String,
    /// The main context.
    pub context: MainContext,
}

impl Default for LowerOptions {
    fn default() -> LowerOptions {
        LowerOptions {
            filename: "Dockerfile".to_owned(),
            build_args: BTreeMap::new(),
            target: None,
            build_platform: Platform::host(),
            target_platform: None,
            multi_platform: false,
            labels: BTreeMap::new(),
            no_cache: NoCache::Never,
            network: NetworkMode::Sandbox,
            extra_hosts: Vec::new(),
            shm_size: 0,
            ulimits: Vec::new(),
            cgroup_parent: String::new(),
            hostname: String::new(),
            resolve_mode: ResolveMode::Default,
            cache_namespace: String::new(),
            local_unique: "onetag".to_owned(),
            context: MainContext::default(),
        }
    }
}

/// Which stages are executed although the cache holds their results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    #[default]
    Never,
    /// All.
    Always,
    /// Those of these names.
    Stages(Vec<String>),
}

impl NoCache {
    pub(crate) fn covers(&self, stage: &str) -> bool {
        match self {
            NoCache::Never => false,
            NoCache::Always => true,
            NoCache::Stages(names) => names.iter().any(|name| name.to_lowercase() == stage.to_lowercase()),
        }
    }
}

/// Where `COPY` and `ADD` without `--from` take files from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MainContext {
    /// A local folder, `local://NAME`, less what its ignore file names.
    Local {
        /// The name of the source.
        name: String,
    },
    /// An archive on this host, whose content is the context: the file `context` of `local://NAME`.
    Archive {
        /// The name of the source.
        name: String,
    },
    /// A git repository.
    Git {
        /// The repository with ref and folder in BuildKit's syntax.
        url: String,
        /// Whether `.git` stays in the checkout.
        keep_git_dir: bool,
    },
    /// A file at a URL.
    Http {
        /// The URL.
        url: String,
        /// Whether the file is an archive whose content is the context.
        archive: bool,
    },
}

impl Default for MainContext {
    fn default() -> MainContext {
        MainContext::Local { name: "context".to_owned() }
    }
}

/// A Dockerfile as a graph for one platform.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The vertices that the result needs.
    pub graph: Graph,
    /// The root file system of the image; `None` for an empty one.
    pub result: Option<Edge>,
    /// The image config: complete but for the diff IDs of new layers. Its history marks the entries without a layer.
    pub image: ImageConfig,
    /// The config of the image that the target stage builds upon.
    pub base: Option<ImageConfig>,
    /// The platform that the image is for.
    pub platform: Platform,
    /// The resolved SOURCE_DATE_EPOCH in seconds since 1970.
    pub epoch: Option<i64>,
    /// The images that were resolved, in the order of the stages that use them.
    pub images: Vec<UsedImage>,
}

/// An image that a build uses.
#[derive(Clone, Debug, PartialEq)]
pub struct UsedImage {
    /// The reference as resolved, without its digest.
    pub reference: Reference,
    /// The platform.
    pub platform: Platform,
    /// The index or manifest.
    pub digest: Digest,
}
