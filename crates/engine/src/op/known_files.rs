//! Digests of the host's files from builds before, as git's index keeps them: a file counts as unchanged while its
//! inode, size and times are.
//!
//! One record for each folder, of entries in the order in which a walk met them first:
//! ```text
//! hash of the path u64, device u64, inode u64, size u64, mtime i64 + u32, ctime i64 + u32, SHA-256 (32 bytes)
//! ```
//! all numbers little-endian. Of a path the hash will do: what tells files apart is their state, and of two that have
//! the same one the paths differ. A file that changed too recently to be told from one that changes again is not kept,
//! nor one that has extended attributes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use onetag_store::checksum::FileDigests;
use onetag_store::tree::{ContentSum, Metadata};
use onetag_store::{Database, RecordStorage};

/// Another number is another format.
const NAMESPACE: &str = "context-files-4";
const HASH_BYTES: usize = 8;
const STAMP_BYTES: usize = 48;
const SUM_BYTES: usize = 32;
const ENTRY_BYTES: usize = HASH_BYTES + STAMP_BYTES + SUM_BYTES;

/// Where more names than this compete for a place, some are not known.
const MOST_PLACES: usize = 64;

type Stamp = [u8; STAMP_BYTES];

/// What is known of all folders of a build.
pub(crate) struct KnownFiles {
    database: Arc<Database>,
    folders: Mutex<HashMap<PathBuf, Arc<KnownFolder>>>,
}

/// What is known of one folder's files.
pub(crate) struct KnownFolder {
    record: Vec<u8>,
    /// The numbers of entries plus one, each at the place that its hash gives or at the next free one; 0 is free. Its
    /// length is a power of two.
    index: Vec<u32>,
    /// Whether the file of each entry was asked for, by the entry's number.
    used: Vec<AtomicBool>,
    fresh: Mutex<HashMap<PathBuf, (Stamp, ContentSum)>>,
    is_changed: AtomicBool,
}

/// An entry of a record.
struct Entry<'a> {
    hash: u64,
    stamp: &'a [u8],
    sum: &'a [u8],
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
    fn new(mut record: Vec<u8>) -> Self {
        if !record.len().is_multiple_of(ENTRY_BYTES) || u32::try_from(record.len()).is_err() {
            record.clear();
        }
        let count = record.len() / ENTRY_BYTES;
        let mut index = vec![0_u32; (count * 2).next_power_of_two()];
        for (number, entry) in (1..).zip(entries(&record)) {
            let free = probe(&index, entry.hash).find(|&place| index[place] == 0);
            if let Some(place) = free {
                index[place] = number;
            }
        }
        let used = std::iter::repeat_with(AtomicBool::default).take(count).collect();
        Self { record, index, used, fresh: Mutex::default(), is_changed: AtomicBool::new(false) }
    }

    /// The digest of the file that has this path and this state; its entry counts as used.
    fn find(&self, path: &Path, stamp: &Stamp) -> Option<ContentSum> {
        let hash = hash(path);
        for place in probe(&self.index, hash) {
            let number = usize::try_from(self.index[place].checked_sub(1)?).ok()?;
            let entry = entry(self.record.get(number * ENTRY_BYTES..)?)?;
            if entry.hash == hash {
                if let Some(used) = self.used.get(number) {
                    used.store(true, Ordering::Relaxed);
                }
                if entry.stamp == stamp {
                    return entry.sum.try_into().ok();
                }
            }
        }
        None
    }

    /// The record with what was learnt.
    fn encode(&self) -> Vec<u8> {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::with_capacity(self.record.len() + fresh.len() * ENTRY_BYTES);
        // A build that looked at most of what is known is believed to have seen all that is there.
        let is_used = |number: usize| self.used.get(number).is_some_and(|used| used.load(Ordering::Relaxed));
        let keeps_all = (0..self.used.len()).filter(|&number| is_used(number)).count() * 2 < self.used.len();
        let replaced: HashSet<u64> = fresh.keys().map(|path| hash(path)).collect();
        for (number, (known, content)) in entries(&self.record).zip(self.record.chunks_exact(ENTRY_BYTES)).enumerate() {
            if (keeps_all || is_used(number)) && !replaced.contains(&known.hash) {
                bytes.extend(content);
            }
        }
        let fresh: BTreeMap<_, _> = fresh.iter().collect();
        for (path, (stamp, sum)) in fresh {
            bytes.extend(hash(path).to_le_bytes());
            bytes.extend(stamp);
            bytes.extend(sum);
        }
        bytes
    }
}

impl FileDigests for KnownFolder {
    fn get(&self, path: &Path, state: &Metadata) -> Option<ContentSum> {
        let stamp = stamp(state);
        if let Some(sum) = self.find(path, &stamp) {
            return Some(sum);
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

/// A hash of a path, eight bytes at a time. Who wanted paths of one hash could make them, and would win nothing: their
/// states tell them apart, and of many most are not known.
fn hash(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_bytes();
    bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}

/// The places of an index where a hash may be, each once, and few: paths made to have one hash cost no more than others.
fn probe(index: &[u32], hash: u64) -> impl Iterator<Item = usize> + use<> {
    let length = index.len();
    // The upper half of the hash is the better mixed one.
    let first = usize::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or(0);
    (0..length.min(MOST_PLACES)).map(move |step| (first + step) & (length - 1))
}

fn entries(record: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    record.chunks_exact(ENTRY_BYTES).filter_map(entry)
}

/// The entry at the beginning of these bytes.
fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let (hash, rest) = bytes.split_first_chunk::<HASH_BYTES>()?;
    let (stamp, rest) = rest.split_at_checked(STAMP_BYTES)?;
    let (sum, _) = rest.split_at_checked(SUM_BYTES)?;
    Some(Entry { hash: u64::from_le_bytes(*hash), stamp, sum })
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
            assert!(KnownFolder::new(bytes[..length].to_vec()).record.is_empty(), "{length}");
        }
    }

    #[test]
    fn names_of_one_hash_are_told_apart_by_their_state() {
        let mut bytes = filled(0..1).encode();
        let mut other = filled(1..2).encode();
        other[..HASH_BYTES].copy_from_slice(&bytes[..HASH_BYTES]);
        bytes.extend(other);
        let folder = KnownFolder::new(bytes);
        assert_eq!(folder.get(&name(0), &state(0)), Some([0; 32]));
        assert_eq!(folder.get(&name(0), &state(1)), Some([1; 32]));
        assert_eq!(folder.get(&name(0), &state(2)), None);
    }

    #[test]
    fn many_names_of_one_hash_are_not_all_known() {
        let mut bytes = filled(0..200).encode();
        let hash: [u8; HASH_BYTES] = *bytes.first_chunk().unwrap();
        bytes.chunks_exact_mut(ENTRY_BYTES).for_each(|entry| entry[..HASH_BYTES].copy_from_slice(&hash));
        let order: Vec<PathBuf> = (0..200).map(name).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        let folder = KnownFolder::new(bytes);
        let known = (0..200).filter(|&number| folder.get(&order[0], &state(number)).is_some()).count();
        assert_eq!(known, MOST_PLACES);
    }
}
