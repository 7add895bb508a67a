//! Digests of the host's files from builds before, as git's index keeps them: a file counts as unchanged while its
//! inode, size and times are.
//!
//! One record for each folder, entries sorted by path:
//! ```text
//! path length u32, path, device u64, inode u64, size u64, mtime i64 + u32, ctime i64 + u32, SHA-256 (32 bytes)
//! ```
//! all numbers little-endian. A file that changed too recently to be told from one that changes again is not kept.

use std::collections::HashMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onetag_oci::Digest;
use onetag_store::checksum::FileDigests;
use onetag_store::tree::Metadata;
use onetag_store::{Database, RecordStorage};

/// Another number is another format.
const NAMESPACE: &str = "context-files-1";
/// Coarser than any file system's clock that is in use.
const RECENT: Duration = Duration::from_millis(50);
const DIGEST_BYTES: usize = 32;

type Stamp = [u8; 48];

/// What is known of all folders of a build.
pub(crate) struct KnownFiles {
    database: Arc<Database>,
    folders: Mutex<HashMap<PathBuf, Arc<KnownFolder>>>,
}

/// What is known of one folder's files.
pub(crate) struct KnownFolder {
    files: Mutex<HashMap<PathBuf, (Stamp, Digest)>>,
    is_changed: AtomicBool,
    began: SystemTime,
}

impl KnownFiles {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database, folders: Mutex::default() }
    }

    /// What is known of a folder.
    pub(crate) fn folder(&self, root: &Path) -> Arc<KnownFolder> {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let load = || {
            let record = self.database.get(NAMESPACE, root.as_os_str().as_bytes()).ok().flatten();
            let files = record.and_then(|record| decode(&record)).unwrap_or_default();
            Arc::new(KnownFolder {
                files: Mutex::new(files),
                is_changed: AtomicBool::new(false),
                began: SystemTime::now(),
            })
        };
        Arc::clone(folders.entry(root.clone()).or_insert_with(load))
    }

    /// Keeps what was learnt for the next build.
    pub(crate) fn keep(&self) {
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        for (root, folder) in folders.iter() {
            if folder.is_changed.swap(false, Ordering::Relaxed) {
                let files = folder.files.lock().unwrap_or_else(PoisonError::into_inner);
                // Not kept means digested again, nothing worse.
                let _ = self.database.put(NAMESPACE, root.as_os_str().as_bytes(), &encode(&files), &[]);
            }
        }
    }
}

impl FileDigests for KnownFolder {
    fn get(&self, path: &Path, metadata: &Metadata) -> Option<Digest> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(path).filter(|(known, _)| *known == stamp(metadata)).map(|(_, digest)| digest.clone())
    }

    fn put(&self, path: &Path, metadata: &Metadata, digest: &Digest) {
        let seconds = u64::try_from(metadata.ctime.0).unwrap_or(0);
        let changed = UNIX_EPOCH + Duration::new(seconds, metadata.ctime.1);
        if changed + RECENT >= self.began {
            return;
        }
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(path.to_owned(), (stamp(metadata), digest.clone()));
        self.is_changed.store(true, Ordering::Relaxed);
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    let mut stamp = [0; 48];
    let parts: [&[u8]; 7] = [
        &metadata.inode.0.to_le_bytes(),
        &metadata.inode.1.to_le_bytes(),
        &metadata.size.to_le_bytes(),
        &metadata.mtime.0.to_le_bytes(),
        &metadata.mtime.1.to_le_bytes(),
        &metadata.ctime.0.to_le_bytes(),
        &metadata.ctime.1.to_le_bytes(),
    ];
    let mut position = 0;
    for part in parts {
        stamp[position..position + part.len()].copy_from_slice(part);
        position += part.len();
    }
    stamp
}

fn encode(files: &HashMap<PathBuf, (Stamp, Digest)>) -> Vec<u8> {
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort_by_key(|(path, _)| *path);
    let mut bytes = Vec::with_capacity(sorted.len() * 128);
    for (path, (stamp, digest)) in sorted {
        let Some(digest) = unhex(digest.encoded()) else { continue };
        let path = path.as_os_str().as_bytes();
        bytes.extend(u32::try_from(path.len()).unwrap_or(0).to_le_bytes());
        bytes.extend(path);
        bytes.extend(stamp);
        bytes.extend(digest);
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<HashMap<PathBuf, (Stamp, Digest)>> {
    let mut files = HashMap::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (path, rest) = rest.split_at_checked(length)?;
        let (stamp, rest) = rest.split_first_chunk::<48>()?;
        let (digest, rest) = rest.split_first_chunk::<DIGEST_BYTES>()?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        files.insert(path, (*stamp, format!("sha256:{digest}").parse().ok()?));
        bytes = rest;
    }
    Some(files)
}

fn unhex(text: &str) -> Option<[u8; DIGEST_BYTES]> {
    let mut bytes = [0; DIGEST_BYTES];
    if text.len() != DIGEST_BYTES * 2 || !text.is_ascii() {
        return None;
    }
    for (position, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[position * 2..position * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u8) -> (PathBuf, (Stamp, Digest)) {
        (PathBuf::from(format!("a/{number}")), ([number; 48], Digest::sha256(&[number])))
    }

    #[test]
    fn records_come_back_as_they_were() {
        let files: HashMap<PathBuf, (Stamp, Digest)> = (0..200).map(entry).collect();
        let bytes = encode(&files);
        assert_eq!(decode(&bytes), Some(files));
        assert_eq!(bytes, encode(&decode(&bytes).unwrap()));
    }

    #[test]
    fn a_cut_record_is_none() {
        let files: HashMap<PathBuf, (Stamp, Digest)> = (0..2).map(entry).collect();
        let bytes = encode(&files);
        let whole = bytes.len() / 2;
        for length in (1..bytes.len()).filter(|length| *length != whole) {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
    }
}
