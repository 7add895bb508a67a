//! Opening the store, and where everything in it lies.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use onetag_oci::{DiffId, Digest};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::batch::Unsettled;
use crate::database::Database;
use crate::error::{At, Error, Result};
use crate::files;
use crate::layer::{Limits, Ownership};
use crate::leases::SessionLease;
use crate::record::TreeRecord;
use crate::steps::StepId;
use crate::sweeper::Sweeper;
use crate::tree::FrozenDirectory;

/// The content of the `oci-layout` file.
const OCI_LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";
/// What an empty `index.json` holds.
pub(crate) const EMPTY_INDEX: &[u8] =
    b"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}";

/// The local store.
///
/// ```text
/// oci-layout, index.json       an OCI image layout: references are annotations of index.json
/// blobs/sha256/<hex>           immutable content
/// layers/sha256/<hex>/<ids>/   a layer unpacked under an id mapping: tree/ and record.json
/// layers/steps/<id>/           the result of a build step: tree/ and record.json, or blob.json, or both
/// chains/<key>/                what a stack needs beyond its layers: tree/ and record.json
/// cache.db                     rebuildable records
/// leases/ locks/ tmp/          files held by flock; unfinished work
/// ```
///
/// Cloning shares the open store. Opening does no more than look at the layout file; everything else is opened
/// when it is first needed. Any number of processes may use one store at a time.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    limits: Limits,
    ids: OnceLock<Ids>,
    boot: OnceLock<String>,
    session: Mutex<Option<SessionLease>>,
    database: OnceLock<Arc<Database>>,
    deferred: Mutex<HashMap<StepId, Arc<FrozenDirectory>>>,
    records: Mutex<HashMap<PathBuf, Arc<TreeRecord>>>,
    unsettled: Mutex<Unsettled>,
    sweeper: Sweeper,
}

struct Ids {
    name: String,
    ownership: Ownership,
}

impl Store {
    /// Opens the store in `root`, which is made where it is absent.
    ///
    /// # Errors
    /// [`Error::NotAStore`] where `root` holds something else, or an error of the file system.
    pub fn open(root: &Path) -> Result<Store> {
        Store::open_with_limits(root, Limits::default())
    }

    /// As [`Store::open`], with limits on what an unpacked layer may demand.
    pub fn open_with_limits(root: &Path, limits: Limits) -> Result<Store> {
        let root = std::path::absolute(root).at("find", root)?;
        let layout = root.join("oci-layout");
        match std::fs::read(&layout) {
            Ok(content) => check_layout(&root, &content)?,
            Err(error) if error.kind() == ErrorKind::NotFound => create(&root)?,
            Err(error) => return Err(error).at("read", &layout),
        }
        let inner = Inner {
            root,
            limits,
            ids: OnceLock::new(),
            boot: OnceLock::new(),
            session: Mutex::new(None),
            database: OnceLock::new(),
            deferred: Mutex::default(),
            records: Mutex::default(),
            unsettled: Mutex::default(),
            sweeper: Sweeper::default(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Limits on what an unpacked layer may demand.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// How files of unpacked layers get their owners in this process.
    pub fn ownership(&self) -> Ownership {
        self.ids().ownership
    }

    fn ids(&self) -> &Ids {
        self.inner.ids.get_or_init(|| {
            let ownership = Ownership::of_this_process();
            Ids { name: id_mapping_name(ownership), ownership }
        })
    }

    /// The kernel's mark of the current boot; empty where the kernel does not tell, which distrusts nothing.
    pub(crate) fn boot_id(&self) -> &str {
        self.inner.boot.get_or_init(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            id.trim().to_owned()
        })
    }

    pub(crate) fn session(&self) -> &Mutex<Option<SessionLease>> {
        &self.inner.session
    }

    /// Results of steps that are held in memory.
    pub(crate) fn deferred(&self) -> MutexGuard<'_, HashMap<StepId, Arc<FrozenDirectory>>> {
        self.inner.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records of held trees that this process has read.
    pub(crate) fn records(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<TreeRecord>>> {
        self.inner.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blobs that wait to be made durable together.
    pub(crate) fn unsettled_blobs(&self) -> &Mutex<Unsettled> {
        &self.inner.unsettled
    }

    /// The database of cache records, opened on first use.
    pub fn database(&self) -> Arc<Database> {
        let path = || self.root().join("cache.db");
        Arc::clone(self.inner.database.get_or_init(|| Arc::new(Database::new(path()))))
    }

    /// Where a blob lies, whether or not it is there. One of an open [`Batch`](crate::Batch) is not there yet.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let mut path = self.root().join("blobs");
        path.push(digest.algorithm().name());
        path.push(digest.encoded());
        path
    }

    pub(crate) fn layer_path(&self, diff_id: &DiffId) -> PathBuf {
        let mut path = self.root().join("layers");
        path.push(diff_id.0.algorithm().name());
        path.push(diff_id.0.encoded());
        path.push(&self.ids().name);
        path
    }

    pub(crate) fn step_path(&self, step: &StepId) -> PathBuf {
        self.root().join("layers/steps").join(step.as_str())
    }

    pub(crate) fn chain_path(&self, key: &str) -> PathBuf {
        self.root().join("chains").join(format!("{key}-{}", self.ids().name))
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.root().join("index.json")
    }

    /// A path in `tmp/` that no other process or thread uses. It is reclaimed once this process has ended.
    pub(crate) fn temporary(&self, kind: &str) -> Result<PathBuf> {
        Ok(self.temporary_of(&self.session_name()?, kind))
    }

    /// As [`Store::temporary`] for the store's own lease of a known name.
    pub(crate) fn temporary_of(&self, session: &str, kind: &str) -> PathBuf {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        self.root().join("tmp").join(format!("{session}.{kind}-{count:x}"))
    }

    /// Takes a lock of the store by name and holds it until the file is dropped.
    pub(crate) fn lock(&self, name: &str, operation: FlockOperation) -> Result<File> {
        let path = self.root().join("locks").join(name);
        let file = File::options().create(true).append(true).open(&path).at("open", &path)?;
        lock_file(&file, operation).at("lock", &path)?;
        Ok(file)
    }

    /// Removes a tree of the store in two steps, so that it is never seen half there: renamed into `tmp/`, then
    /// removed. Absence is success.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        self.records().remove(path);
        let trash = self.temporary("trash")?;
        match std::fs::rename(path, &trash) {
            Ok(()) => self.remove_temporary(&trash),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).at("remove", path),
        }
    }

    /// Moves a tree of the store into `tmp/` and has it removed beside whatever comes next.
    pub(crate) fn discard_later(&self, path: &Path) -> Result<()> {
        let trash = self.temporary("trash")?;
        std::fs::rename(path, &trash).at("remove", path)?;
        match self.inner.sweeper.remove(&self.root().join("tmp"), &trash) {
            Ok(()) => Ok(()),
            Err(left) => self.remove_temporary(left),
        }
    }

    /// Removes something in `tmp/`.
    pub(crate) fn remove_temporary(&self, path: &Path) -> Result<()> {
        let folder = self.root().join("tmp");
        let fd = files::open_folder(&folder).at("open", &folder)?;
        files::remove_tree(&fd, path.file_name().unwrap_or_default()).at("remove", path)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("root", &self.inner.root).finish_non_exhaustive()
    }
}

/// Locks a file, through interruptions.
pub(crate) fn lock_file(file: impl AsFd, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(&file, operation) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// A name that is unique among processes, threads and restarts.
pub(crate) fn unique_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut random = [0_u8; 8];
    // Failure leaves zeros; time, process and counter still tell names apart.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let process = rustix::process::getpid().as_raw_nonzero();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}-{process:x}-{count:x}", u64::from_le_bytes(random))
}

fn check_layout(root: &Path, content: &[u8]) -> Result<()> {
    let reason = match serde_json::from_slice::<serde_json::Value>(content) {
        Ok(layout) if layout["imageLayoutVersion"].as_str().is_some_and(|version| version.starts_with("1.")) => {
            return Ok(());
        }
        Ok(_) => "its oci-layout names another version",
        Err(_) => "its oci-layout is damaged",
    };
    Err(Error::NotAStore { path: root.to_owned(), reason })
}

/// Lays out a new store. Several processes may do so at once: every step is idempotent, the layout file comes last.
fn create(root: &Path) -> Result<()> {
    for folder in ["blobs/sha256", "layers/sha256", "layers/steps", "chains", "leases", "locks", "tmp"] {
        let path = root.join(folder);
        files::create_folders(&path).at("make folder", &path)?;
    }
    // Files in `tmp/` that belong to no lease are collected, so collection has to wait.
    let path = root.join("locks/gc");
    let shared = File::options().create(true).append(true).open(&path).at("open", &path)?;
    lock_file(&shared, FlockOperation::LockShared).at("lock", &path)?;
    write_new(root, "index.json", EMPTY_INDEX)?;
    write_new(root, "oci-layout", OCI_LAYOUT)
}

fn write_new(root: &Path, name: &str, content: &[u8]) -> Result<()> {
    let path = root.join(name);
    let temporary = root.join("tmp").join(format!("{name}-{}", unique_name()));
    let mut file = File::create(&temporary).at("create", &temporary)?;
    file.write_all(content).and_then(|()| file.sync_all()).at("write", &temporary)?;
    // A link fails where another process was first; its content is the same or newer.
    let linked = std::fs::hard_link(&temporary, &path);
    std::fs::remove_file(&temporary).at("remove", &temporary)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error).at("create", &path),
        _ => files::sync_parent(&path).at("sync", root),
    }
}

/// The name of this process's id mapping in the paths of unpacked layers: `host` where ids are the machine's own.
fn id_mapping_name(ownership: Ownership) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let maps = [read("/proc/self/uid_map"), read("/proc/self/gid_map")];
    let tokens: Vec<&str> = maps.iter().flat_map(|map| map.split_ascii_whitespace()).collect();
    if !ownership.is_recorded() && tokens == ["0", "0", "4294967295", "0", "0", "4294967295"] {
        return "host".to_owned();
    }
    let mark = format!("{}|{}|{}", tokens.join(" "), ownership.is_recorded(), rustix::process::geteuid().as_raw());
    Digest::sha256(mark.as_bytes()).encoded()[..12].to_owned()
}
