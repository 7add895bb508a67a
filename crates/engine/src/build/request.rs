//! What a build is asked to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use onetag_dockerfile::NoCache;
use onetag_llb::{HostIp, NetworkMode, Ulimit};
use onetag_oci::{Platform, Reference};
use onetag_store::Scratch;

use super::LockChoice;
use crate::cache::{CacheExport, CacheImport};
use crate::export::ExportOptions;
use crate::op::Entitlements;
use crate::provenance::{AttestationPlace, ProvenanceMode, ProvenanceOptions};

/// Where the files of a build come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildContext {
    /// A folder of the host.
    Local(PathBuf),
    /// A git repository in BuildKit's syntax.
    Git(String),
    /// A file or an archive at a URL.
    Http(String),
    /// An archive: the file `context` in this folder of the host.
    Archive(PathBuf),
    /// None: the Dockerfile came alone.
    Empty,
}

/// Where the Dockerfile is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file of the host.
    Path(PathBuf),
    /// A file of the context, by its path in there. The context MUST be remote.
    InContext(String),
    /// A file at a URL.
    Url(String),
    /// Its content, such as that of standard input.
    Content(Vec<u8>),
}

/// A whole build. [`BuildRequest::new`] gives one without any option.
#[derive(Clone)]
pub struct BuildRequest {
    /// Where the files come from.
    pub context: BuildContext,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// `--platform`; empty means what the base images and the host say.
    pub platforms: Vec<Platform>,
    /// `--tag`
    pub tags: Vec<Reference>,
    /// `--target`
    pub target: Option<String>,
    /// `--build-arg`, with SOURCE_DATE_EPOCH of the environment.
    pub build_args: BTreeMap<String, String>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--no-cache` and `--no-cache-filter`
    pub no_cache: NoCache,
    /// `--pull`: ask registries even for what is in the local store.
    pub pull: bool,
    /// `--network`
    pub network: NetworkMode,
    /// `--add-host`
    pub extra_hosts: Vec<HostIp>,
    /// `--shm-size` in bytes; 0 for the default.
    pub shm_size_bytes: i64,
    /// `--ulimit`
    pub ulimits: Vec<Ulimit>,
    /// `--cgroup-parent`
    pub cgroup_parent: String,
    /// `--build-context`: names and what they stand for, as written.
    pub build_contexts: BTreeMap<String, String>,
    /// `--secret`: contents by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// `--ssh`: sockets by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// `--allow`
    pub entitlements: Entitlements,
    /// `--output`, `--push`, `--load`; empty keeps the result in the cache only.
    pub outputs: Vec<ExportOptions>,
    /// `--cache-from`
    pub cache_from: Vec<CacheImport>,
    /// `--cache-to`
    pub cache_to: Vec<CacheExport>,
    /// Provenance of the images (`--provenance`, `--attest`).
    pub provenance: Option<ProvenanceOptions>,
    /// Where attestations go.
    pub attestation_place: AttestationPlace,
    /// Whether the outcome tells of the provenance, and how much (`BUILDX_METADATA_PROVENANCE`).
    pub recorded_provenance: Option<ProvenanceMode>,
    /// What the version control of the context says: `source` and `revision`.
    pub vcs: BTreeMap<String, String>,
    /// `--annotation`, in buildx's syntax (`[index,manifest[PLATFORM]:]KEY=VALUE`).
    pub annotations: Vec<String>,
    /// Take a base that is a bare manifest of another platform.
    pub allow_platform_mismatch: bool,
    /// The lock file that says what tags stand for.
    pub lock: LockChoice,
    /// What the context's files are in, where they came with the request; removed with it.
    pub scratch: Option<Arc<Scratch>>,
    /// What names the local sources of this build in its graph (`local.unique`).
    pub local_unique: String,
    /// Finish the other platforms when one fails.
    pub keep_going: bool,
    /// Export what could be built when a platform fails; has a meaning with `keep_going` only.
    pub allow_partial: bool,
}

impl BuildContext {
    /// Whether its files have to be brought here before anything in them can be read.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Git(_) | Self::Http(_) | Self::Archive(_))
    }
}

impl BuildRequest {
    /// A build of a folder and the Dockerfile in it.
    pub fn new(folder: PathBuf) -> Self {
        let dockerfile = DockerfileSource::Path(folder.join("Dockerfile"));
        Self {
            context: BuildContext::Local(folder),
            dockerfile,
            platforms: Vec::new(),
            tags: Vec::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            no_cache: NoCache::Never,
            pull: false,
            network: NetworkMode::Sandbox,
            extra_hosts: Vec::new(),
            shm_size_bytes: 0,
            ulimits: Vec::new(),
            cgroup_parent: String::new(),
            build_contexts: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            entitlements: Entitlements::default(),
            outputs: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            provenance: None,
            attestation_place: AttestationPlace::default(),
            recorded_provenance: None,
            vcs: BTreeMap::new(),
            annotations: Vec::new(),
            allow_platform_mismatch: false,
            lock: LockChoice::Beside,
            scratch: None,
            local_unique: "onetag".to_owned(),
            keep_going: false,
            allow_partial: false,
        }
    }
}
