//! Digests of the host's files from builds before, as git's index keeps them: a file counts as unchanged while its
//! inode, size and times are.
//!
//! One record for each folder, its entries in the order of paths, so that a walk finds them one after the other:
//! ```text
//! path length u32, path, device u64, inode u64, size u64, mtime i64 + u32, ctime i64 + u32, SHA-256 (32 bytes)
//! ```
//! all numbers little-endian. A file that changed too recently to be told from one that changes again is not kept, nor
//! one that has extended attributes.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use onetag_store::checksum::FileDigests;
use onetag_store::tree::{ContentSum, Metadata};
use onetag_store::{Database, RecordStorage};

/// Another number is another format.
const NAMESPACE: &str = "context-files-3";
const STAMP_BYTES: usize = 48;
const SUM_BYTES: usize = 32;

type Stamp = [u8; STAMP_BYTES];

/// What is known of all folders of a build.
pub(crate) struct KnownFiles {
    database: Arc<Database>,
    folders: Mutex<HashMap<PathBuf, Arc<KnownFolder>>>,
}

/// What is known of one folder's files.
pub(crate) struct KnownFolder {
    record: Vec<u8>,
    /// Number and place of each entry in the record, by the hash of its path. Where two paths have one hash, one is not
    /// known.
    index: HashMap<u64, (usize, usize)>,
    /// Whether the file of each entry was asked for, by the entry's number.
    used: Vec<AtomicBool>,
    fresh: Mutex<HashMap<PathBuf, (Stamp, ContentSum)>>,
    is_changed: AtomicBool,
}

/// An entry of a record.
struct Entry<'a> {
    path: &'a [u8],
    stamp: &'a [u8],
    sum: &'a [u8],
    /// Where the next one begins.
    end: usize,
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
            Arc::new(KnownFolder::new(record.unwrap_or_default()))
        };
        Arc::clone(folders.entry(root.clone()).or_insert_with(load))
    }

    /// Keeps what was learnt for the next build.
    pub(crate) fn keep(&self) {
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        for (root, folder) in folders.iter() {
            if folder.is_changed.swap(false, Ordering::Relaxed) {
                // Not kept means digested again, nothing worse.
                let _ = self.database.put(NAMESPACE, root.as_os_str().as_bytes(), &folder.encode(), &[]);
            }
        }
    }
}

impl KnownFolder {
    /// What a record says; nothing where it is damaged.
    fn new(record: Vec<u8>) -> Self {
        let mut index = HashMap::with_capacity(record.len() / 128);
        let mut position = 0;
        while position < record.len() {
            let Some(entry) = entry(&record, position) else {
                index.clear();
                break;
            };
            index.insert(hash(entry.path), (index.len(), position));
            position = entry.end;
        }
        let used = std::iter::repeat_with(AtomicBool::default).take(index.len()).collect();
        Self { record, index, used, fresh: Mutex::default(), is_changed: AtomicBool::new(false) }
    }

    /// The entry of a path; it counts as used.
    fn find(&self, path: &[u8]) -> Option<Entry<'_>> {
        let (number, position) = *self.index.get(&hash(path))?;
        let entry = entry(&self.record, position).filter(|entry| entry.path == path)?;
        if let Some(used) = self.used.get(number) {
            used.store(true, Ordering::Relaxed);
        }
        Some(entry)
    }

    /// The record with what was learnt.
    fn encode(&self) -> Vec<u8> {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::with_capacity(self.record.len() + fresh.len() * 128);
        // A build that looked at most of what is known is believed to have seen all that is there.
        let is_used = |number: usize| self.used.get(number).is_some_and(|used| used.load(Ordering::Relaxed));
        let keeps_all = (0..self.used.len()).filter(|&number| is_used(number)).count() * 2 < self.used.len();
        let mut kept: BTreeMap<&[u8], (&[u8], &[u8])> = BTreeMap::new();
        for &(number, position) in self.index.values() {
            let Some(entry) = entry(&self.record, position) else { continue };
            if keeps_all || is_used(number) {
                kept.insert(entry.path, (entry.stamp, entry.sum));
            }
        }
        kept.extend(fresh.iter().map(|(path, (stamp, sum))| (path.as_os_str().as_bytes(), (&stamp[..], &sum[..]))));
        for (path, (stamp, sum)) in kept {
            bytes.extend(u32::try_from(path.len()).unwrap_or(0).to_le_bytes());
            bytes.extend(path);
            bytes.extend(stamp);
            bytes.extend(sum);
        }
        bytes
    }
}

impl FileDigests for KnownFolder {
    fn get(&self, path: &Path, state: &Metadata) -> Option<ContentSum> {
        let stamp = stamp(state);
        if let Some(entry) = self.find(path.as_os_str().as_bytes()).filter(|entry| entry.stamp == stamp) {
            return entry.sum.try_into().ok();
        }
        if !self.is_changed.load(Ordering::Acquire) {
            return None;
        }
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.get(path).filter(|(known, _)| *known == stamp).map(|(_, sum)| *sum)
    }

    fn put(&self, path: &Path, state: &Metadata, sum: &ContentSum) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.insert(path.to_owned(), (stamp(state), *sum));
        self.is_changed.store(true, Ordering::Release);
    }
}

fn hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(path);
    hasher.finish()
}

fn entry(record: &[u8], position: usize) -> Option<Entry<'_>> {
    let (length, rest) = record.get(position..)?.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (path, rest) = rest.split_at_checked(length)?;
    let (stamp, rest) = rest.split_at_checked(STAMP_BYTES)?;
    let (sum, rest) = rest.split_at_checked(SUM_BYTES)?;
    Some(Entry { path, stamp, sum, end: record.len() - rest.len() })
}

fn stamp(metadata: &Metadata) -> Stamp {
    let mut stamp = [0; STAMP_BYTES];
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state(number: u32) -> Metadata {
        Metadata {
            file_type: rustix::fs::FileType::RegularFile,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: u64::from(number),
            mtime: (7, number),
            rdev: 0,
            inode: (1, u64::from(number)),
            links: 1,
            ctime: (9, number),
        }
    }

    fn name(number: u32) -> PathBuf {
        PathBuf::from(format!("a/{number}"))
    }

    fn filled(numbers: std::ops::Range<u32>) -> KnownFolder {
        let folder = KnownFolder::new(Vec::new());
        numbers.for_each(|number| folder.put(&name(number), &state(number), &[number as u8; 32]));
        folder
    }

    #[test]
    fn records_come_back_as_they_were() {
        let again = KnownFolder::new(filled(0..200).encode());
        for number in 0..200 {
            assert_eq!(again.get(&name(number), &state(number)), Some([number as u8; 32]));
            assert_eq!(again.get(&name(number), &state(number + 1)), None, "another state");
        }
        assert_eq!(again.get(&name(200), &state(200)), None);
    }

    #[test]
    fn what_is_learnt_is_known_at_once_and_replaces_what_was() {
        let folder = KnownFolder::new(filled(0..4).encode());
        folder.put(&name(0), &state(9), &[9; 32]);
        assert_eq!(folder.get(&name(0), &state(9)), Some([9; 32]));
        let again = KnownFolder::new(folder.encode());
        assert_eq!(again.get(&name(0), &state(9)), Some([9; 32]));
        assert_eq!(again.get(&name(0), &state(0)), None);
        assert_eq!(again.get(&name(1), &state(1)), Some([1; 32]), "what was not looked at stays");
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let folder = KnownFolder::new(filled(0..9).encode());
        for number in 0..8 {
            assert!(folder.get(&name(number), &state(number)).is_some());
        }
        folder.put(&name(100), &state(100), &[1; 32]);
        let again = KnownFolder::new(folder.encode());
        assert_eq!(again.get(&name(8), &state(8)), None);
        assert!((0..8).all(|number| again.get(&name(number), &state(number)).is_some()), "what was seen stays");
    }

    #[test]
    fn a_cut_record_is_none() {
        let bytes = filled(0..2).encode();
        let whole = bytes.len() / 2;
        for length in (1..bytes.len()).filter(|length| *length != whole) {
            assert!(KnownFolder::new(bytes[..length].to_vec()).index.is_empty(), "{length}");
        }
    }
}
