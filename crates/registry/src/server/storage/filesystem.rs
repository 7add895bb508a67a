//! A folder as storage.
//!
//! ```text
//! <root>/
//!   registry.json                 {"layout":1}; another number is another format
//!   content/<algorithm>/<2>/<hex> content, immutable
//!   records/<key>                 records, one file each
//!   arriving/<identity>           uploads under way
//!   tmp/                          records being written; emptied when a server starts
//!   lock                          flock: shared by writers of references, exclusive for the collection of garbage
//! ```
//!
//! Adding a folder or a record does not break the format; moving or renaming one does, and then the number in `registry.json` changes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use onetag_oci::Digest;

use super::{Content, ContentEntry, Context, Guard, Result, Staged, Stamp, Storage};

const LAYOUT: &[u8] = b"{\"layout\":1}\n";

/// Storage in a folder that this registry has for itself.
#[derive(Debug, Clone)]
pub struct FilesystemStorage {
    folders: Arc<Folders>,
}

#[derive(Debug)]
struct Folders {
    root: PathBuf,
    content: PathBuf,
    records: PathBuf,
    arriving: PathBuf,
    temporary: PathBuf,
    serial: AtomicU64,
}

impl FilesystemStorage {
    /// Opens the folder, creating what is missing.
    ///
    /// # Errors
    /// When folders cannot be made, or the folder holds another layout.
    pub fn open(root: &Path) -> Result<Self> {
        let folders = Folders {
            root: root.to_owned(),
            content: root.join("content"),
            records: root.join("records"),
            arriving: root.join("arriving"),
            temporary: root.join("tmp"),
            serial: AtomicU64::new(0),
        };
        for folder in [&folders.content, &folders.records, &folders.arriving, &folders.temporary] {
            fs::create_dir_all(folder).context("creating", folder.display())?;
        }
        let storage = FilesystemStorage { folders: Arc::new(folders) };
        storage.check_layout()?;
        Ok(storage)
    }

    fn check_layout(&self) -> Result<()> {
        let path = self.folders.root.join("registry.json");
        match fs::read(&path) {
            Ok(found) if found == LAYOUT => Ok(()),
            Ok(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "written by a version of onetag with another layout"))
                    .context("opening", path.display())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.write_file(&path, LAYOUT),
            Err(error) => Err(error).context("opening", path.display()),
        }
    }

    fn record_path(&self, key: &str) -> Result<PathBuf> {
        let safe = key.split('/').all(|name| !name.is_empty() && name != "." && name != ".." && !name.contains('\0'));
        if !safe {
            return Err(io::Error::from(io::ErrorKind::InvalidInput)).context("using key", key);
        }
        Ok(self.folders.records.join(key))
    }

    fn content_path(&self, digest: &Digest) -> PathBuf {
        let encoded = digest.encoded();
        let mut path = self.folders.content.join(digest.algorithm().name());
        path.push(encoded.get(..2).unwrap_or(encoded));
        path.push(encoded);
        path
    }

    fn write_file(&self, path: &Path, value: &[u8]) -> Result<()> {
        let parent = path.parent().unwrap_or(&self.folders.root);
        create_folders(parent)?;
        if value.is_empty() {
            // An empty record has no half-written state: its name alone is its value.
            File::create(path).context("creating", path.display())?;
            return sync_folder(parent);
        }
        let serial = self.folders.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folders.temporary.join(format!("{}-{serial}", std::process::id()));
        let written = (|| {
            let mut file = File::create(&temporary)?;
            file.write_all(value)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.context("writing", path.display())?;
        sync_folder(parent)
    }
}

impl Storage for FilesystemStorage {
    fn record(&self, key: &str) -> Result<Option<Vec<u8>>> {
        absent(fs::read(self.record_path(key)?)).context("reading record", key)
    }

    fn stamp(&self, key: &str) -> Result<Option<Stamp>> {
        let metadata = absent(fs::metadata(self.record_path(key)?)).context("reading record", key)?;
        Ok(metadata
            .filter(fs::Metadata::is_file)
            .map(|m| Stamp([m.ino(), m.mtime().cast_unsigned(), m.mtime_nsec().cast_unsigned()])))
    }

    fn age(&self, key: &str) -> Result<Option<Duration>> {
        let metadata = absent(fs::metadata(self.record_path(key)?)).context("reading record", key)?;
        Ok(metadata.as_ref().filter(|metadata| metadata.is_file()).map(age_of))
    }

    fn write(&self, key: &str, value: &[u8]) -> Result<()> {
        self.write_file(&self.record_path(key)?, value)
    }

    fn touch(&self, key: &str) -> Result<bool> {
        let path = self.record_path(key)?;
        let touched = OpenOptions::new().write(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
        Ok(absent(touched).context("touching record", key)?.is_some())
    }

    fn remove(&self, key: &str) -> Result<bool> {
        let path = self.record_path(key)?;
        let removed = absent(fs::remove_file(&path)).context("removing record", key)?.is_some();
        if removed && let Some(parent) = path.parent() {
            sync_folder(parent)?;
        }
        Ok(removed)
    }

    fn list(&self, key: &str) -> Result<Vec<String>> {
        let Some(entries) = absent(fs::read_dir(self.record_path(key)?)).context("listing records", key)? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.context("listing records", key)?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn content(&self, digest: &Digest) -> Result<Option<Box<dyn Content>>> {
        let opened = File::open(self.content_path(digest)).and_then(|file| {
            let size_bytes = file.metadata()?.len();
            Ok(StoredFile { file, size_bytes })
        });
        let opened = absent(opened).context("opening content", digest)?;
        Ok(opened.map(|file| Box::new(file) as Box<dyn Content>))
    }

    fn content_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let metadata = absent(fs::metadata(self.content_path(digest))).context("looking up content", digest)?;
        Ok(metadata.map(|metadata| metadata.len()))
    }

    fn remove_content(&self, digest: &Digest) -> Result<u64> {
        let path = self.content_path(digest);
        let Some(metadata) = absent(fs::metadata(&path)).context("looking up content", digest)? else {
            return Ok(0);
        };
        let removed = absent(fs::remove_file(&path)).context("removing content", digest)?;
        Ok(removed.map_or(0, |()| occupied(&metadata)))
    }

    fn contents(&self) -> Result<Vec<ContentEntry>> {
        let mut found = Vec::new();
        for algorithm in folder_entries(&self.folders.content)? {
            for prefix in folder_entries(&algorithm)? {
                for file in folder_entries(&prefix)? {
                    found.extend(content_entry(&algorithm, &file)?);
                }
            }
        }
        Ok(found)
    }

    fn stage(&self, identity: &str) -> Result<Box<dyn Staged>> {
        let path = self.folders.arriving.join(identity);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o644).open(&path);
        let file = file.context("beginning upload", identity)?;
        Ok(Box::new(ArrivingFile { storage: self.clone(), path, file, size_bytes: 0 }))
    }

    fn staged(&self, identity: &str) -> Result<Option<Box<dyn Staged>>> {
        let path = self.folders.arriving.join(identity);
        let opened = OpenOptions::new().read(true).write(true).open(&path).and_then(|file| {
            let size_bytes = file.metadata()?.len();
            Ok((file, size_bytes))
        });
        let opened = absent(opened).context("resuming upload", identity)?;
        Ok(opened.map(|(file, size_bytes)| {
            Box::new(ArrivingFile { storage: self.clone(), path, file, size_bytes }) as Box<dyn Staged>
        }))
    }

    fn expire_staged(&self, older_than: Duration) -> Result<usize> {
        let mut expired = 0;
        for folder in [&self.folders.arriving, &self.folders.temporary] {
            for path in folder_entries(folder)? {
                let Ok(metadata) = fs::metadata(&path) else { continue };
                if age_of(&metadata) >= older_than && fs::remove_file(&path).is_ok() {
                    expired += 1;
                }
            }
        }
        Ok(expired)
    }

    fn lock(&self, exclusive: bool) -> Result<Box<dyn Guard>> {
        let path = self.folders.root.join("lock");
        let locked = OpenOptions::new().create(true).append(true).open(&path).and_then(|file| {
            if exclusive { file.lock() } else { file.lock_shared() }?;
            Ok(LockedFile { _file: file })
        });
        Ok(Box::new(locked.context("locking", path.display())?))
    }
}

struct LockedFile {
    _file: File,
}

impl Guard for LockedFile {}

struct StoredFile {
    file: File,
    size_bytes: u64,
}

impl Content for StoredFile {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        read_full(&self.file, buffer, offset_bytes)
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

struct ArrivingFile {
    storage: FilesystemStorage,
    path: PathBuf,
    file: File,
    size_bytes: u64,
}

impl Content for ArrivingFile {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        read_full(&self.file, buffer, offset_bytes)
    }
}

impl Staged for ArrivingFile {
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(bytes, self.size_bytes);
        if written.is_err() {
            // What was written of it would otherwise count after a restart.
            let _ = self.file.set_len(self.size_bytes);
        }
        written.context("writing", self.path.display())?;
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    fn publish(self: Box<Self>, digest: &Digest) -> Result<()> {
        let target = self.storage.content_path(digest);
        let parent = target.parent().unwrap_or(&self.storage.folders.content).to_owned();
        if target.is_file() {
            self.discard()?;
            // Whoever stored it may not have got as far as this.
            return sync_folder(&parent);
        }
        self.file.sync_all().context("syncing", self.path.display())?;
        create_folders(&parent)?;
        fs::rename(&self.path, &target).context("storing", digest)?;
        sync_folder(&parent)
    }

    fn discard(self: Box<Self>) -> Result<()> {
        absent(fs::remove_file(&self.path)).context("discarding", self.path.display()).map(|_| ())
    }
}

fn read_full(file: &File, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset_bytes + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Absence as `None`; a file where a folder was expected, or the other way round, is absence too.
fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Ok(None),
            _ => Err(error),
        },
    }
}

/// Creates folders and makes each new one durable in its parent.
fn create_folders(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new("/"));
    create_folders(parent)?;
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).context("creating", folder.display()),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).context("syncing", folder.display())
}

fn folder_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let Some(entries) = absent(fs::read_dir(folder)).context("listing", folder.display())? else {
        return Ok(Vec::new());
    };
    entries.map(|entry| entry.map(|entry| entry.path()).context("listing", folder.display())).collect()
}

fn content_entry(algorithm: &Path, file: &Path) -> Result<Option<ContentEntry>> {
    let (Some(algorithm), Some(encoded)) = (algorithm.file_name(), file.file_name()) else { return Ok(None) };
    let text = format!("{}:{}", algorithm.to_string_lossy(), encoded.to_string_lossy());
    let Ok(digest) = Digest::from_str(&text) else { return Ok(None) };
    let metadata = absent(fs::metadata(file)).context("looking up content", &digest)?;
    Ok(metadata.map(|metadata| ContentEntry { digest, size_bytes: occupied(&metadata), age: age_of(&metadata) }))
}

/// Bytes a file takes on disk, which is what removing it gives back.
fn occupied(metadata: &fs::Metadata) -> u64 {
    metadata.blocks() * 512
}

fn age_of(metadata: &fs::Metadata) -> Duration {
    metadata.modified().ok().and_then(|modified| modified.elapsed().ok()).unwrap_or_default()
}
