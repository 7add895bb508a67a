//! What must not be collected: everything that a living process holds.
//!
//! A lease is a file in `leases/` that its owner keeps locked, with one resource a line. A lease whose lock can be
//! taken belongs to a process that ended, however it ended; collection removes it. Collection itself holds the
//! lock `gc` alone while it decides; to hold something is to write the line while sharing that lock, so that what
//! is found after [`Lease::hold`] stays.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use onetag_oci::{DiffId, Digest};
use rustix::fs::FlockOperation;

use crate::error::{At, Result};
use crate::steps::StepId;
use crate::store::{Store, lock_file, unique_name};

/// Something of the store that can be held and collected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// A blob. Holding a manifest or an index holds what it names.
    Blob(Digest),
    /// A layer unpacked from an image.
    Layer(DiffId),
    /// The result of a build step.
    Step(StepId),
    /// What a stack needs beyond its layers, by its name in `chains/`.
    Chain(String),
}

impl std::fmt::Display for Resource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Resource::Blob(digest) => write!(formatter, "blob {digest}"),
            Resource::Layer(diff_id) => write!(formatter, "layer {diff_id}"),
            Resource::Step(step) => write!(formatter, "step {step}"),
            Resource::Chain(name) => write!(formatter, "chain {name}"),
        }
    }
}

impl std::str::FromStr for Resource {
    type Err = ();

    fn from_str(text: &str) -> Result<Resource, ()> {
        let (kind, name) = text.split_once(' ').ok_or(())?;
        match kind {
            "blob" => name.parse().map(Resource::Blob).map_err(drop),
            "layer" => name.parse().map(|digest| Resource::Layer(DiffId(digest))).map_err(drop),
            "step" => StepId::parse(name).map(Resource::Step).ok_or(()),
            "chain" => Ok(Resource::Chain(name.to_owned())),
            _ => Err(()),
        }
    }
}

/// Holds resources until it is dropped or its process ends.
pub struct Lease {
    store: Store,
    /// Present until the lease is dropped.
    file: Option<File>,
    path: PathBuf,
    held: Mutex<HashSet<Resource>>,
}

impl Store {
    /// A new lease that holds nothing yet.
    pub fn lease(&self) -> Result<Lease> {
        let (file, path) = create(self)?;
        Ok(Lease { store: self.clone(), file: Some(file), path, held: Mutex::default() })
    }

    /// Holds a resource as long as this store is open in this process. Everything that the store writes or hands
    /// out is held so by itself.
    pub fn hold(&self, resource: &Resource) -> Result<()> {
        let mut session = self.session().lock().unwrap_or_else(PoisonError::into_inner);
        let lease = open_session(self, &mut session)?;
        if lease.held.contains(resource) {
            return Ok(());
        }
        write_line(self, &lease.file, &lease.path, resource)?;
        lease.held.insert(resource.clone());
        Ok(())
    }
}

/// The store's own lease, made on first use.
fn open_session<'a>(store: &Store, session: &'a mut Option<SessionLease>) -> Result<&'a mut SessionLease> {
    match session {
        Some(lease) => Ok(lease),
        empty => {
            let (file, path) = create(store)?;
            Ok(empty.insert(SessionLease { file, path, held: HashSet::new() }))
        }
    }
}

impl Store {
    /// The name of the store's own lease. Files in `tmp/` begin with it and live as long as it does.
    pub(crate) fn session_name(&self) -> Result<String> {
        let mut session = self.session().lock().unwrap_or_else(PoisonError::into_inner);
        let lease = open_session(self, &mut session)?;
        Ok(lease.path.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }
}

impl Lease {
    /// Holds a resource. What is there after this call stays there.
    pub fn hold(&self, resource: &Resource) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file
            && !held.contains(resource)
        {
            write_line(&self.store, file, &self.path, resource)?;
            held.insert(resource.clone());
        }
        Ok(())
    }

    /// The lease's file. A process that inherits this descriptor keeps the lease alive after this one has ended.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The lease's path, for a process that takes it over.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.file.take());
        // A process that inherited the descriptor still holds the lock; then the file stays.
        if let Ok(file) = File::open(&self.path)
            && lock_file(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The lease that a store has by itself.
pub(crate) struct SessionLease {
    file: File,
    path: PathBuf,
    held: HashSet<Resource>,
}

impl Drop for SessionLease {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn create(store: &Store) -> Result<(File, PathBuf)> {
    let path = store.root().join("leases").join(unique_name());
    // Collection, which would take an unlocked lease for a dead one, waits until this one is locked.
    let _shared = store.lock("gc", FlockOperation::LockShared)?;
    let file = File::options().create_new(true).append(true).open(&path).at("create", &path)?;
    lock_file(&file, FlockOperation::LockExclusive).at("lock", &path)?;
    Ok((file, path))
}

fn write_line(store: &Store, mut file: &File, path: &Path, resource: &Resource) -> Result<()> {
    let _shared = store.lock("gc", FlockOperation::LockShared)?;
    file.write_all(format!("{resource}\n").as_bytes()).at("write", path)
}

/// What the living leases hold, and their names.
#[derive(Default)]
pub(crate) struct Living {
    pub held: HashSet<Resource>,
    pub names: HashSet<String>,
}

/// Reads all leases and removes those of ended processes. The caller MUST hold the lock `gc` alone.
pub(crate) fn living(store: &Store) -> Result<Living> {
    let folder = store.root().join("leases");
    let mut living = Living::default();
    for entry in std::fs::read_dir(&folder).at("list", &folder)? {
        let path = entry.at("list", &folder)?.path();
        let Ok(mut file) = File::open(&path) else { continue };
        if lock_file(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).at("remove", &path),
                _ => continue,
            }
        }
        // Its owner may end and remove it at any moment, so it is read through what is open.
        let mut text = String::new();
        file.read_to_string(&mut text).at("read", &path)?;
        living.held.extend(text.lines().filter_map(|line| line.parse().ok()));
        living.names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    Ok(living)
}
