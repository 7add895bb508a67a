//! Names of the capabilities that BuildKit records beside a vertex (`solver/pb/caps.go`).

/// `source.image`: an image is a source.
pub const SOURCE_IMAGE: &str = "source.image";
/// `source.image.resolvemode`: the image must be resolved in a stated way.
pub const SOURCE_IMAGE_RESOLVE_MODE: &str = "source.image.resolvemode";
/// `source.local`: a local folder is a source.
pub const SOURCE_LOCAL: &str = "source.local";
/// `source.local.unique`: a local source carries an identifier of its build.
pub const SOURCE_LOCAL_UNIQUE: &str = "source.local.unique";
/// `source.local.followpaths`: a local source names the paths it needs.
pub const SOURCE_LOCAL_FOLLOW_PATHS: &str = "source.local.followpaths";
/// `source.local.excludepatterns`: a local source leaves files out.
pub const SOURCE_LOCAL_EXCLUDE_PATTERNS: &str = "source.local.excludepatterns";
/// `source.local.sharedkeyhint`: a local source names what it may share transfers with.
pub const SOURCE_LOCAL_SHARED_KEY_HINT: &str = "source.local.sharedkeyhint";
/// `source.git`: a git repository is a source.
pub const SOURCE_GIT: &str = "source.git";
/// `source.git.keepgitdir`: `.git` stays in the checkout.
pub const SOURCE_GIT_KEEP_DIR: &str = "source.git.keepgitdir";
/// `source.git.fullurl`: the URL to clone from is given.
pub const SOURCE_GIT_FULL_URL: &str = "source.git.fullurl";
/// `source.git.knownsshhosts`: host keys are given.
pub const SOURCE_GIT_KNOWN_SSH_HOSTS: &str = "source.git.knownsshhosts";
/// `source.git.mountsshsock`: an SSH agent is used.
pub const SOURCE_GIT_MOUNT_SSH_SOCK: &str = "source.git.mountsshsock";
/// `source.git.checksum`: the commit is pinned.
pub const SOURCE_GIT_CHECKSUM: &str = "source.git.checksum";
/// `source.git.skipsubmodules`: submodules are not fetched.
pub const SOURCE_GIT_SKIP_SUBMODULES: &str = "source.git.skipsubmodules";
/// `source.git.mtime`: modification times are those of the commit.
pub const SOURCE_GIT_MTIME: &str = "source.git.mtime";
/// `source.git.fetchbycommit`: the pinned commit is fetched without asking for the ref.
pub const SOURCE_GIT_FETCH_BY_COMMIT: &str = "source.git.fetchbycommit";
/// `source.http`: a URL is a source.
pub const SOURCE_HTTP: &str = "source.http";
/// `source.http.checksum`: the content of a URL is pinned.
pub const SOURCE_HTTP_CHECKSUM: &str = "source.http.checksum";
/// `source.ocilayout`: an OCI layout is a source.
pub const SOURCE_OCI_LAYOUT: &str = "source.ocilayout";
/// `exec.meta.base`: a command is run.
pub const EXEC_META_BASE: &str = "exec.meta.base";
/// `exec.meta.cgroup.parent`: the command's cgroup is given.
pub const EXEC_META_CGROUP_PARENT: &str = "exec.meta.cgroup.parent";
/// `exec.meta.network`: the command's network differs from the default.
pub const EXEC_META_NETWORK: &str = "exec.meta.network";
/// `exec.meta.proxyenv`: proxy variables that do not count for the cache.
pub const EXEC_META_PROXY: &str = "exec.meta.proxyenv";
/// `exec.meta.security`: the command runs with all capabilities.
pub const EXEC_META_SECURITY: &str = "exec.meta.security";
/// `exec.meta.setsdefaultpath`: the runner supplies PATH.
pub const EXEC_META_SETS_DEFAULT_PATH: &str = "exec.meta.setsdefaultpath";
/// `exec.meta.ulimit`: resource limits are given.
pub const EXEC_META_ULIMIT: &str = "exec.meta.ulimit";
/// `exec.mount.bind`: a result of another vertex is mounted.
pub const EXEC_MOUNT_BIND: &str = "exec.mount.bind";
/// `exec.mount.cache`: a cache folder is mounted.
pub const EXEC_MOUNT_CACHE: &str = "exec.mount.cache";
/// `exec.mount.cache.sharing`: a cache folder states how it is shared.
pub const EXEC_MOUNT_CACHE_SHARING: &str = "exec.mount.cache.sharing";
/// `exec.mount.selector`: a folder of a result is mounted.
pub const EXEC_MOUNT_SELECTOR: &str = "exec.mount.selector";
/// `exec.mount.tmpfs`: a tmpfs is mounted.
pub const EXEC_MOUNT_TMPFS: &str = "exec.mount.tmpfs";
/// `exec.mount.tmpfs.size`: a tmpfs has a size limit.
pub const EXEC_MOUNT_TMPFS_SIZE: &str = "exec.mount.tmpfs.size";
/// `exec.mount.secret`: a secret is mounted.
pub const EXEC_MOUNT_SECRET: &str = "exec.mount.secret";
/// `exec.mount.ssh`: an SSH agent socket is mounted.
pub const EXEC_MOUNT_SSH: &str = "exec.mount.ssh";
/// `exec.secretenv`: a secret is an environment variable.
pub const EXEC_SECRET_ENV: &str = "exec.secretenv";
/// `file.base`: files are copied, made or removed.
pub const FILE_BASE: &str = "file.base";
/// `mergeop`: results are laid over each other.
pub const MERGE_OP: &str = "mergeop";
/// `constraints`: set on the last op of a definition.
pub const CONSTRAINTS: &str = "constraints";
/// `platform`: set on the last op of a definition.
pub const PLATFORM: &str = "platform";
/// `meta.ignorecache`: some vertex must not be taken from the cache.
pub const META_IGNORE_CACHE: &str = "meta.ignorecache";
/// `meta.description`: some vertex has a description.
pub const META_DESCRIPTION: &str = "meta.description";
/// `meta.exportcache`: some vertex states whether its cache is exported.
pub const META_EXPORT_CACHE: &str = "meta.exportcache";
