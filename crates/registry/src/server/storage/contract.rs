//! What every storage promises, as one suite; and a storage in memory, which shows that nothing in the trait needs files.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use onetag_oci::Digest;

use super::{Content, ContentEntry, FilesystemStorage, Guard, Result, Staged, Stamp, Storage};

#[test]
fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("folder");
    let storage = FilesystemStorage::open(folder.path()).expect("opened");
    suite(&storage);
    drop(storage);
    let again = FilesystemStorage::open(folder.path()).expect("opened again");
    assert_eq!(again.record("kept").expect("read").as_deref(), Some(b"value".as_slice()));
    assert!(again.content_size(&Digest::sha256(b"content")).expect("asked").is_some());
    std::fs::write(folder.path().join("registry.json"), "{\"layout\":2}").expect("written");
    assert!(FilesystemStorage::open(folder.path()).is_err());
}

#[test]
fn memory_keeps_the_contract() {
    suite(&MemoryStorage::default());
}

fn suite(storage: &dyn Storage) {
    records(storage);
    content(storage);
    staging(storage);
    storage.write("kept", b"value").expect("written");
    drop(storage.lock(false).expect("shared"));
    drop(storage.lock(true).expect("exclusive"));
    let (first, second) = (storage.lock(false).expect("shared"), storage.lock(false).expect("shared"));
    drop((first, second));
}

fn records(storage: &dyn Storage) {
    assert_eq!(storage.record("a/b").expect("read"), None);
    assert_eq!(storage.stamp("a/b").expect("read"), None);
    assert_eq!(storage.age("a/b").expect("read"), None);
    assert!(!storage.touch("a/b").expect("touched"));
    assert!(!storage.remove("a/b").expect("removed"));
    assert_eq!(storage.list("a").expect("listed"), Vec::<String>::new());
    storage.write("a/b", b"one").expect("written");
    let first = storage.stamp("a/b").expect("read").expect("a stamp");
    assert_eq!(storage.stamp("a/b").expect("read"), Some(first));
    std::thread::sleep(Duration::from_millis(20));
    storage.write("a/b", b"two").expect("written");
    assert_ne!(storage.stamp("a/b").expect("read"), Some(first));
    assert_eq!(storage.record("a/b").expect("read").as_deref(), Some(b"two".as_slice()));
    assert!(storage.age("a/b").expect("read").is_some_and(|age| age < Duration::from_secs(60)));
    assert!(storage.touch("a/b").expect("touched"));
    storage.write("a/empty", b"").expect("written");
    assert_eq!(storage.record("a/empty").expect("read").as_deref(), Some(b"".as_slice()));
    for name in ["z", "B", "c/d", "10", "9"] {
        storage.write(&format!("l/{name}"), b"x").expect("written");
    }
    assert_eq!(storage.list("l").expect("listed"), ["10", "9", "B", "c", "z"]);
    assert_eq!(
        storage.record("l").expect("a prefix is no record").or_else(|| storage.record("a/b/c").expect("read")),
        None
    );
    assert!(storage.remove("a/b").expect("removed"));
    assert_eq!(storage.record("a/b").expect("read"), None);
    for unsafe_key in ["../x", "a//b", "", "/etc/passwd", "a/./b", "a/.."] {
        assert!(storage.write(unsafe_key, b"x").is_err(), "{unsafe_key:?}");
    }
}

fn content(storage: &dyn Storage) {
    let digest = Digest::sha256(b"content");
    assert!(storage.content(&digest).expect("asked").is_none());
    assert_eq!(storage.remove_content(&digest).expect("removed"), 0);
    for identity in ["one", "two"] {
        let mut staged = storage.stage(identity).expect("staged");
        staged.add(b"con").expect("added");
        staged.add(b"tent").expect("added");
        assert_eq!(staged.size_bytes(), 7);
        staged.publish(&digest).expect("published, the second time too");
    }
    assert_eq!(storage.contents().expect("listed").len(), 1);
    assert_eq!(storage.content_size(&digest).expect("asked"), Some(7));
    let content = storage.content(&digest).expect("asked").expect("there");
    let mut buffer = [0; 4];
    assert_eq!((content.read_at(&mut buffer, 5).expect("read"), &buffer[..2]), (2, b"nt".as_slice()));
    assert_eq!(content.read_at(&mut buffer, 7).expect("read"), 0);
    let other = Digest::sha256(b"other");
    let mut staged = storage.stage("three").expect("staged");
    staged.add(b"other").expect("added");
    staged.publish(&other).expect("published");
    assert!(storage.remove_content(&other).expect("removed") > 0);
    assert!(storage.content(&other).expect("asked").is_none());
}

fn staging(storage: &dyn Storage) {
    let mut staged = storage.stage("resumed").expect("staged");
    staged.add(b"half").expect("added");
    assert!(storage.stage("resumed").is_err(), "one identity, one upload");
    drop(staged);
    let mut staged = storage.staged("resumed").expect("asked").expect("there");
    assert_eq!(staged.size_bytes(), 4);
    staged.add(b" done").expect("added");
    let mut buffer = [0; 16];
    assert_eq!(staged.read_at(&mut buffer, 0).expect("read"), 9);
    assert_eq!(&buffer[..9], b"half done");
    staged.discard().expect("discarded");
    assert!(storage.staged("resumed").expect("asked").is_none());
    drop(storage.stage("old").expect("staged"));
    assert_eq!(storage.expire_staged(Duration::from_secs(60)).expect("expired"), 0);
    assert_eq!(storage.expire_staged(Duration::ZERO).expect("expired"), 1);
    assert!(storage.staged("old").expect("asked").is_none());
}

/// Storage in memory.
#[derive(Clone, Default)]
struct MemoryStorage {
    state: Arc<Mutex<State>>,
    lock: Arc<RwLock<()>>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<String, (Vec<u8>, u64, Instant)>,
    content: BTreeMap<Digest, (Arc<Vec<u8>>, Instant)>,
    staged: BTreeMap<String, Vec<u8>>,
    serial: u64,
}

impl MemoryStorage {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().expect("state"))
    }
}

struct InMemory(Arc<Vec<u8>>);

fn read_slice(bytes: &[u8], buffer: &mut [u8], offset: u64) -> usize {
    let rest = bytes.get(usize::try_from(offset).expect("offset")..).unwrap_or_default();
    let count = rest.len().min(buffer.len());
    buffer[..count].copy_from_slice(&rest[..count]);
    count
}

impl Content for InMemory {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        Ok(read_slice(&self.0, buffer, offset_bytes))
    }
}

struct Arriving {
    storage: MemoryStorage,
    identity: String,
}

impl Content for Arriving {
    fn size_bytes(&self) -> u64 {
        self.storage.with(|state| state.staged[&self.identity].len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        Ok(self.storage.with(|state| read_slice(&state.staged[&self.identity], buffer, offset_bytes)))
    }
}

impl Staged for Arriving {
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.storage.with(|state| state.staged.entry(self.identity.clone()).or_default().extend_from_slice(bytes));
        Ok(())
    }

    fn publish(self: Box<Self>, digest: &Digest) -> Result<()> {
        self.storage.with(|state| {
            let bytes = state.staged.remove(&self.identity).unwrap_or_default();
            state.content.entry(digest.clone()).or_insert_with(|| (Arc::new(bytes), Instant::now()));
        });
        Ok(())
    }

    fn discard(self: Box<Self>) -> Result<()> {
        self.storage.with(|state| state.staged.remove(&self.identity));
        Ok(())
    }
}

enum Held<'a> {
    Shared(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, ()>),
    Exclusive(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'a, ()>),
}

/// Proves that the lock was free; a guard that borrows could not leave the storage.
struct WasFree;

impl Guard for WasFree {}

impl Storage for MemoryStorage {
    fn record(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.with(|state| state.records.get(key).map(|(value, _, _)| value.clone())))
    }

    fn stamp(&self, key: &str) -> Result<Option<Stamp>> {
        Ok(self.with(|state| state.records.get(key).map(|(_, serial, _)| Stamp([*serial, 0, 0]))))
    }

    fn age(&self, key: &str) -> Result<Option<Duration>> {
        Ok(self.with(|state| state.records.get(key).map(|(_, _, written)| written.elapsed())))
    }

    fn write(&self, key: &str, value: &[u8]) -> Result<()> {
        if key.split('/').any(|name| matches!(name, "" | "." | "..")) {
            let source = io::ErrorKind::InvalidInput.into();
            return Err(super::StorageError { operation: "using key", subject: key.to_owned(), source });
        }
        self.with(|state| {
            state.serial += 1;
            state.records.insert(key.to_owned(), (value.to_vec(), state.serial, Instant::now()));
        });
        Ok(())
    }

    fn touch(&self, key: &str) -> Result<bool> {
        Ok(self.with(|state| state.records.get_mut(key).map(|(_, _, written)| *written = Instant::now()).is_some()))
    }

    fn remove(&self, key: &str) -> Result<bool> {
        Ok(self.with(|state| state.records.remove(key).is_some()))
    }

    fn list(&self, key: &str) -> Result<Vec<String>> {
        let prefix = format!("{key}/");
        let mut names: Vec<String> = self.with(|state| {
            let below = state.records.keys().filter_map(|key| key.strip_prefix(&prefix));
            below.map(|rest| rest.split('/').next().unwrap_or(rest).to_owned()).collect()
        });
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn content(&self, digest: &Digest) -> Result<Option<Box<dyn Content>>> {
        let found = self.with(|state| state.content.get(digest).map(|(bytes, _)| bytes.clone()));
        Ok(found.map(|bytes| Box::new(InMemory(bytes)) as Box<dyn Content>))
    }

    fn content_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.with(|state| state.content.get(digest).map(|(bytes, _)| bytes.len() as u64)))
    }

    fn remove_content(&self, digest: &Digest) -> Result<u64> {
        Ok(self.with(|state| state.content.remove(digest).map_or(0, |(bytes, _)| bytes.len() as u64)))
    }

    fn contents(&self) -> Result<Vec<ContentEntry>> {
        let entry = |(digest, (bytes, stored)): (&Digest, &(Arc<Vec<u8>>, Instant))| ContentEntry {
            digest: digest.clone(),
            size_bytes: bytes.len() as u64,
            age: stored.elapsed(),
        };
        Ok(self.with(|state| state.content.iter().map(entry).collect()))
    }

    fn stage(&self, identity: &str) -> Result<Box<dyn Staged>> {
        let taken = self.with(|state| state.staged.contains_key(identity));
        if taken {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(super::StorageError { operation: "beginning upload", subject: identity.to_owned(), source });
        }
        self.with(|state| state.staged.insert(identity.to_owned(), Vec::new()));
        Ok(Box::new(Arriving { storage: self.clone(), identity: identity.to_owned() }))
    }

    fn staged(&self, identity: &str) -> Result<Option<Box<dyn Staged>>> {
        let there = self.with(|state| state.staged.contains_key(identity));
        let arriving = || Arriving { storage: self.clone(), identity: identity.to_owned() };
        Ok(there.then(|| Box::new(arriving()) as Box<dyn Staged>))
    }

    fn expire_staged(&self, older_than: Duration) -> Result<usize> {
        Ok(self.with(|state| if older_than.is_zero() { std::mem::take(&mut state.staged).len() } else { 0 }))
    }

    fn lock(&self, exclusive: bool) -> Result<Box<dyn Guard>> {
        let held = match exclusive {
            true => Held::Exclusive(self.lock.write().expect("lock")),
            false => Held::Shared(self.lock.read().expect("lock")),
        };
        drop(held);
        Ok(Box::new(WasFree))
    }
}
