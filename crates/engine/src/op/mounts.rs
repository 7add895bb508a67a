//! What a step sees beside its root file system: binds, caches, secrets, agents, memory.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use onetag_llb::{CacheSharing, Mount, MountKind, SecretMount, SshMount};
use onetag_oci::Digest;
use onetag_sandbox::{self as sandbox, RootFs};
use onetag_solver::ExecContext;
use onetag_store::{CopySnapshot, Upper};
use rustix::fs::FlockOperation;

use super::{Session, StepError};
use crate::snapshot::{Artifact, Snapshot};

/// How many folders of one private cache are tried.
const PRIVATE_FOLDERS: usize = 256;
/// How often the lock of a cache is tried that somebody else has.
const PATIENCE: Duration = Duration::from_millis(10);

/// What has to stay until a process has ended.
pub(super) enum Held {
    /// Changes that are thrown away.
    Upper(#[allow(dead_code, reason = "dropping it is what counts")] Upper),
    /// As `Upper`, where this host refuses overlay mounts.
    Copy(#[allow(dead_code, reason = "dropping it is what counts")] Box<CopySnapshot>),
    /// The lock of a cache's folder.
    Lock(#[allow(dead_code, reason = "dropping it is what counts")] File),
}

/// A mount of a tree.
pub(super) fn bind(mount: &Mount, source: RootFs) -> sandbox::Mount {
    let subpath = (!mount.selector.is_empty() && mount.selector != "/").then(|| mount.selector.clone());
    let kind = sandbox::MountKind::Bind { source, subpath, read_only: mount.readonly, recursive: false };
    sandbox::Mount { target: mount.target.clone(), kind }
}

/// Readies a mount; `None` where an optional one has nothing to show. `cache` is the folder of one that is a cache.
pub(super) fn prepare_mount(
    session: &Session,
    mount: &Mount,
    artifact: Option<&Artifact>,
    cache: Option<&PathBuf>,
    context: &ExecContext<'_>,
    held: &mut Vec<Held>,
) -> Result<Option<sandbox::Mount>, StepError> {
    let kind = match &mount.kind {
        MountKind::Bind => {
            let source = bind_source(session, mount, artifact, context, held)?;
            return Ok(Some(bind(mount, source)));
        }
        MountKind::Cache(_) => {
            let folder = cache.cloned().ok_or(StepError::Unsupported("a cache without a folder"))?;
            return Ok(Some(bind(mount, RootFs::Directory(folder))));
        }
        MountKind::Tmpfs { size } => {
            let size_bytes = u64::try_from(*size).ok().filter(|&size| size > 0);
            sandbox::MountKind::Tmpfs { size_bytes, mode: 0o1777 }
        }
        MountKind::Secret(secret) => match secret_file(session, secret)? {
            Some(kind) => kind,
            None => return Ok(None),
        },
        MountKind::Ssh(ssh) => match ssh_socket(session, ssh)? {
            Some(kind) => kind,
            None => return Ok(None),
        },
    };
    Ok(Some(sandbox::Mount { target: mount.target.clone(), kind }))
}

fn bind_source(
    session: &Session,
    mount: &Mount,
    artifact: Option<&Artifact>,
    context: &ExecContext<'_>,
    held: &mut Vec<Held>,
) -> Result<RootFs, StepError> {
    let snapshot = match artifact {
        Some(artifact) => session.snapshot(artifact)?,
        None => std::sync::Arc::default(),
    };
    let stack = session.stack(&snapshot, context)?;
    if session.is_without_overlay.load(Ordering::Relaxed) {
        let copy = session.store.copy_snapshot(&stack)?;
        let source = RootFs::Directory(copy.root());
        held.push(Held::Copy(Box::new(copy)));
        return Ok(source);
    }
    if mount.readonly {
        return Ok(RootFs::Layers { lowers: stack.lowers.clone() });
    }
    let upper = session.store.new_upper(&stack)?;
    let source =
        RootFs::Overlay { lowers: stack.lowers.clone(), upper: upper.upper(), work: upper.work(), volatile: true };
    held.push(Held::Upper(upper));
    Ok(source)
}

fn secret_file(session: &Session, secret: &SecretMount) -> Result<Option<sandbox::MountKind>, StepError> {
    match session.secrets.get(&secret.id) {
        Some(content) => Ok(Some(sandbox::MountKind::File {
            content: content.clone(),
            mode: secret.mode,
            user: secret.uid,
            group: secret.gid,
            read_only: true,
        })),
        None if secret.optional => Ok(None),
        None => Err(StepError::SecretNotFound { id: secret.id.clone() }),
    }
}

fn ssh_socket(session: &Session, ssh: &SshMount) -> Result<Option<sandbox::MountKind>, StepError> {
    let id = if ssh.id.is_empty() { "default" } else { &ssh.id };
    match session.ssh.get(id) {
        Some(path) => Ok(Some(sandbox::MountKind::Bind {
            source: RootFs::Directory(path.clone()),
            subpath: None,
            read_only: false,
            recursive: false,
        })),
        None if ssh.optional => Ok(None),
        None => Err(StepError::SshNotFound { id: id.to_owned() }),
    }
}

/// The folders of a step's caches by their number among its mounts, made from the mounts' inputs where they are new and
/// locked as their sharing demands. A cache that is mounted twice is one. Locks are taken in the order of their names,
/// so that no two steps, of this build or another, wait for each other.
pub(super) fn cache_folders(
    session: &Session,
    mounts: &[Mount],
    inputs: &[Artifact],
    context: &ExecContext<'_>,
    held: &mut Vec<Held>,
) -> Result<HashMap<usize, PathBuf>, StepError> {
    let mut wanted: BTreeMap<PathBuf, Cache> = BTreeMap::new();
    for (position, mount) in mounts.iter().enumerate() {
        let MountKind::Cache(cache) = &mount.kind else { continue };
        let artifact = match mount.input {
            Some(index) => Some(inputs.get(index).ok_or(StepError::Input { index, operation: "exec" })?),
            None => None,
        };
        let snapshot = match artifact {
            Some(artifact) => session.snapshot(artifact)?,
            None => std::sync::Arc::default(),
        };
        let content = content_name(&snapshot, artifact, session, context)?;
        let key = format!("onetag.cache-mount.1\0{}\0{content}", cache.id);
        let root = session.cache_mounts().join(Digest::sha256(key.as_bytes()).encoded());
        let known = wanted.entry(root).or_insert_with(|| Cache {
            id: cache.id.clone(),
            sharing: cache.sharing,
            snapshot,
            positions: Vec::new(),
        });
        if matches!(cache.sharing, CacheSharing::Locked) {
            known.sharing = CacheSharing::Locked;
        }
        known.positions.push(position);
    }
    let mut folders = HashMap::new();
    for (root, cache) in wanted {
        let (number, lock) = match cache.sharing {
            CacheSharing::Shared => {
                (0, wait_for_lock(&root, &cache.id, FlockOperation::NonBlockingLockShared, context)?)
            }
            CacheSharing::Locked => {
                (0, wait_for_lock(&root, &cache.id, FlockOperation::NonBlockingLockExclusive, context)?)
            }
            CacheSharing::Private => private(&root)?,
        };
        held.push(Held::Lock(lock));
        let folder = root.join(number.to_string());
        session.fill_cache_folder(&folder, &cache.snapshot, context)?;
        folders.extend(cache.positions.into_iter().map(|position| (position, folder.clone())));
    }
    Ok(folders)
}

/// A cache that a step mounts.
struct Cache {
    id: String,
    sharing: CacheSharing,
    snapshot: std::sync::Arc<Snapshot>,
    positions: Vec<usize>,
}

/// What of its input distinguishes a cache: the content that a new folder begins with.
fn content_name(
    snapshot: &Snapshot,
    artifact: Option<&Artifact>,
    session: &Session,
    context: &ExecContext<'_>,
) -> Result<String, StepError> {
    match artifact {
        Some(artifact) if !snapshot.layers.is_empty() => {
            Ok(session.content_of_paths(artifact, &[""], context)?.to_string())
        }
        _ => Ok(String::new()),
    }
}

fn io(action: &str, path: &Path) -> impl FnOnce(std::io::Error) -> StepError {
    let action = format!("{action} {}", path.display());
    move |source| StepError::Io { action, source }
}

/// Takes the lock of a cache, unless somebody has one that does not bear it.
fn try_lock(root: &Path, number: usize, operation: FlockOperation) -> Result<Option<File>, StepError> {
    let path = root.join(format!("{number}.lock"));
    std::fs::create_dir_all(root).map_err(io("make folder", root))?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io("open", &path))?;
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file.as_fd(), operation)) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(io("lock", &path)(errno.into())),
    }
}

/// Waits for the lock of a cache, or for the end of the build.
fn wait_for_lock(
    root: &Path,
    id: &str,
    operation: FlockOperation,
    context: &ExecContext<'_>,
) -> Result<File, StepError> {
    if let Some(file) = try_lock(root, 0, operation)? {
        return Ok(file);
    }
    context.part(&format!("waiting for the cache {id}"), || {
        loop {
            if context.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            if let Some(file) = try_lock(root, 0, operation)? {
                return Ok(file);
            }
            std::thread::sleep(PATIENCE);
        }
    })
}

/// The first folder that nobody uses.
fn private(root: &Path) -> Result<(usize, File), StepError> {
    for number in 0..PRIVATE_FOLDERS {
        if let Some(file) = try_lock(root, number, FlockOperation::NonBlockingLockExclusive)? {
            return Ok((number, file));
        }
    }
    Err(StepError::Unsupported("so many steps at once with one private cache"))
}
