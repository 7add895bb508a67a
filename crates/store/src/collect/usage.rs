//! What takes room in the store, and how much.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use onetag_oci::{DiffId, Digest};

use crate::error::{At, Result};
use crate::leases::Resource;
use crate::steps::StepId;
use crate::store::Store;

/// The kind of something in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageKind {
    /// A blob.
    Blob,
    /// An unpacked layer of an image.
    Layer,
    /// The result of a build step.
    Step,
    /// What a stack needs beyond its layers.
    Chain,
    /// A folder of a cache mount, or what a build downloaded (`downloads/…`, `git/…`).
    CacheMount,
    /// What an ended process left behind.
    Abandoned,
}

/// Something in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Its kind.
    pub kind: UsageKind,
    /// Its name: a digest, a diff ID, a step's or mount's name.
    pub name: String,
    /// Bytes that it takes on disk alone: what it shares with others is counted at the last of them.
    pub bytes: u64,
    /// Whether an image or a cache record needs it.
    pub needed: bool,
    /// The last use by a build, in seconds since 1970, where known.
    pub last_used: Option<u64>,
    /// What it is held by.
    pub resource: Option<Resource>,
    /// Where it lies.
    pub path: PathBuf,
}

impl Usage {
    pub(super) fn new(kind: UsageKind, name: String, path: PathBuf, resource: Option<Resource>) -> Usage {
        Usage { kind, name, bytes: 0, needed: false, last_used: None, resource, path }
    }
}

impl Store {
    /// Everything collectable, unsized.
    pub(crate) fn items(&self) -> Result<Vec<Usage>> {
        let mut items = Vec::new();
        for (digest, _) in self.blobs()? {
            let path = self.blob_path(&digest);
            items.push(Usage::new(UsageKind::Blob, digest.to_string(), path, Some(Resource::Blob(digest))));
        }
        let layers = self.root().join("layers");
        for (algorithm, folder) in list(&layers)? {
            for (name, path) in list(&folder)? {
                if algorithm == "steps" {
                    let resource = StepId::parse(&name).map(Resource::Step);
                    items.push(Usage::new(UsageKind::Step, name, path, resource));
                    continue;
                }
                let digest = format!("{algorithm}:{name}").parse::<Digest>().ok();
                for (ids, path) in list(&path)? {
                    let resource = digest.clone().map(|digest| Resource::Layer(DiffId(digest)));
                    let name = format!("{algorithm}:{name} ({ids})");
                    items.push(Usage::new(UsageKind::Layer, name, path, resource));
                }
            }
        }
        for (name, path) in list(&self.root().join("chains"))? {
            let resource = Some(Resource::Chain(name.clone()));
            items.push(Usage::new(UsageKind::Chain, name, path, resource));
        }
        Ok(items)
    }
}

fn list(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        // A layer's folder goes with its last tree.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.at("list", folder)?,
    };
    for entry in entries {
        let entry = entry.at("list", folder)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}

/// Counts bytes on disk, each inode once, and only when its last name was counted.
#[derive(Default)]
pub(super) struct DiskCounter {
    bytes: u64,
    /// Names seen of inodes that have several.
    seen: HashMap<(u64, u64), u64>,
}

impl DiskCounter {
    /// Counts a file or a whole tree. Gives what it added.
    pub fn add(&mut self, path: &Path) -> Result<u64> {
        let before = self.bytes;
        let mut todo = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            let metadata = match std::fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                // Somebody else removed it: no bytes of it are here any more.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at("examine", &path),
            };
            if metadata.is_dir() {
                // A folder that cannot be listed is counted without its content.
                if let Ok(entries) = std::fs::read_dir(&path) {
                    todo.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
                }
            } else if metadata.nlink() > 1 {
                let seen = self.seen.entry((metadata.dev(), metadata.ino())).or_insert(0);
                *seen += 1;
                if *seen < metadata.nlink() {
                    continue;
                }
            }
            self.bytes += metadata.blocks() * 512;
        }
        Ok(self.bytes - before)
    }

    /// Bytes counted so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
