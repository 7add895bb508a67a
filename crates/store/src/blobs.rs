//! Content by digest: writing it while it is hashed, and reading it, also while it is still being written.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use onetag_oci::{Algorithm, Digest, Digester};

use crate::batch::name_blob;
use crate::error::{At, Error, Result};
use crate::files;
use crate::leases::Resource;
use crate::store::Store;

impl Store {
    /// Whether a blob is there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_size(digest).is_some()
    }

    /// A blob's size in bytes, or `None` where it is absent.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        // In this order: what has no name yet may get it at any time.
        let named = || {
            std::fs::metadata(self.blob_path(digest)).ok().filter(std::fs::Metadata::is_file).map(|found| found.len())
        };
        self.unsettled_size(digest).or_else(named)
    }

    /// Opens a blob. Its content was verified when it was written; what happened to the disk since then is not.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        if let Some(file) = self.open_unsettled(digest) {
            return Ok(file);
        }
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::BlobNotFound { digest: digest.clone() }),
            Err(error) => Err(error).at("open", &path),
        }
    }

    /// Reads a whole blob of at most `limit` bytes and verifies its digest.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let file = self.open_blob(digest)?;
        let path = self.blob_path(digest);
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content).at("read", &path)?;
        let size = content.len() as u64;
        if size > limit {
            return Err(Error::TooLarge { digest: digest.clone(), size, limit });
        }
        let actual = Digest::of(digest.algorithm(), &content);
        if actual != *digest {
            return Err(Error::DigestMismatch { expected: digest.clone(), actual });
        }
        Ok(content)
    }

    /// Begins a blob of unknown digest (it becomes a SHA-256).
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        self.blob_writer_with(Algorithm::Sha256)
    }

    /// Begins a blob that is named by another algorithm.
    pub fn blob_writer_with(&self, algorithm: Algorithm) -> Result<BlobWriter> {
        let path = self.temporary("blob")?;
        let file = File::options().read(true).write(true).create_new(true).open(&path).at("create", &path)?;
        let file = Arc::new(file);
        let growth = Arc::new(Growth { state: Mutex::new(State::default()), changed: Condvar::new() });
        let digester = Digester::new(algorithm);
        let is_flushing = Arc::default();
        let store = self.clone();
        Ok(BlobWriter { store, file, path, digester, written: 0, flushed: 0, is_flushing, growth, finished: false })
    }

    /// Stores a small document and gives its digest.
    pub fn put_document(&self, content: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256(content);
        self.hold(&Resource::Blob(digest.clone()))?;
        if self.blob_size(&digest) == Some(content.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(content).at("write", &writer.path)?;
        writer.finish(Some(&digest), Some(content.len() as u64)).map(|(digest, _)| digest)
    }

    /// The digests of all blobs with their sizes in bytes.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let root = self.root().join("blobs");
        let mut found = Vec::new();
        for algorithm in std::fs::read_dir(&root).at("list", &root)? {
            let algorithm = algorithm.at("list", &root)?;
            let folder = algorithm.path();
            for entry in std::fs::read_dir(&folder).at("list", &folder)? {
                let entry = entry.at("list", &folder)?;
                let text = format!("{}:{}", algorithm.file_name().display(), entry.file_name().display());
                // Names that are no digests were not put there by the store, and are nobody's blobs.
                if let (Ok(digest), Ok(metadata)) = (text.parse::<Digest>(), entry.metadata()) {
                    found.push((digest, metadata.len()));
                }
            }
        }
        Ok(found)
    }
}

/// So many bytes are written before the disk is made to take them.
const FLUSH_BYTES: u64 = 64 << 20;

/// A blob while it is written: a file in `tmp/` that gets its name when [`BlobWriter::finish`] has verified and
/// synced it. Dropped before, it leaves nothing behind.
pub struct BlobWriter {
    store: Store,
    file: Arc<File>,
    path: PathBuf,
    digester: Digester,
    written: u64,
    /// How much had been written when the disk was last made to take it, and whether it is still at that.
    flushed: u64,
    is_flushing: Arc<AtomicBool>,
    growth: Arc<Growth>,
    finished: bool,
}

impl BlobWriter {
    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The digest of what was written so far.
    pub fn digest(&self) -> Digest {
        self.digester.clone().finish()
    }

    /// A handle from which others read the blob while it grows.
    pub fn growing(&self) -> GrowingBlob {
        GrowingBlob { file: Arc::clone(&self.file), growth: Arc::clone(&self.growth) }
    }

    /// Forgets everything written, for a transfer that begins again. Readers of the growing blob have read what is not
    /// true; [`GrowingBlob::was_restarted`] tells them.
    pub fn restart(&mut self) -> Result<()> {
        self.growth.lock().restarted |= self.written > 0;
        rustix::fs::ftruncate(&self.file, 0).at("truncate", &self.path)?;
        self.digester = Digester::new(self.digester.clone().finish().algorithm());
        (self.written, self.flushed) = (0, 0);
        Ok(())
    }

    /// Has the disk take what was written, beside whatever happens meanwhile: less is left to be waited for in the end.
    fn flush_beside(&mut self) {
        if self.written - self.flushed < FLUSH_BYTES || self.is_flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.flushed = self.written;
        let (file, is_flushing) = (Arc::clone(&self.file), Arc::clone(&self.is_flushing));
        let flush = move || {
            // What fails here fails again in the end, where it is told.
            let _ = file.sync_data();
            is_flushing.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("flush".to_owned()).spawn(flush).is_err() {
            self.is_flushing.store(false, Ordering::Release);
        }
    }

    /// Verifies, syncs and names the blob; while a [`Batch`](crate::Batch) is open, the latter two come with its end.
    /// Gives its digest and size.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], [`Error::SizeMismatch`]: nothing is stored then.
    pub fn finish(mut self, expected: Option<&Digest>, size: Option<u64>) -> Result<(Digest, u64)> {
        let result = self.commit(expected, size);
        let outcome = match &result {
            Ok((digest, size)) => Outcome::Finished(digest.clone(), *size),
            Err(_) => Outcome::Failed,
        };
        self.finished = result.is_ok();
        self.growth.end(outcome);
        result
    }

    fn commit(&mut self, expected: Option<&Digest>, size: Option<u64>) -> Result<(Digest, u64)> {
        let digest = self.digester.clone().finish();
        if let Some(expected) = size.filter(|&size| size != self.written) {
            return Err(Error::SizeMismatch { digest, expected, actual: self.written });
        }
        if let Some(expected) = expected.filter(|&expected| *expected != digest) {
            return Err(Error::DigestMismatch { expected: expected.clone(), actual: digest });
        }
        self.store.hold(&Resource::Blob(digest.clone()))?;
        let path = self.store.blob_path(&digest);
        if self.store.blob_size(&digest) == Some(self.written) {
            std::fs::remove_file(&self.path).at("remove", &self.path)?;
            return Ok((digest, self.written));
        }
        if self.store.leave_unsettled(&digest, &self.path, self.written)? {
            return Ok((digest, self.written));
        }
        self.file.sync_all().at("sync", &self.path)?;
        name_blob(&self.path, &path)?;
        files::sync_parent(&path).at("sync", &path)?;
        Ok((digest, self.written))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(data, self.written)?;
        self.digester.update(data);
        self.written += data.len() as u64;
        self.growth.lock().available = self.written;
        self.growth.changed.notify_all();
        self.flush_beside();
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.growth.end(Outcome::Failed);
            // Best effort: what stays behind in tmp/ is removed by the next collection.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[derive(Default)]
struct State {
    available: u64,
    restarted: bool,
    outcome: Option<Outcome>,
}

#[derive(Clone)]
enum Outcome {
    Finished(Digest, u64),
    Failed,
}

struct Growth {
    state: Mutex<State>,
    changed: Condvar,
}

impl Growth {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, outcome: Outcome) {
        let mut state = self.lock();
        state.outcome.get_or_insert(outcome);
        drop(state);
        self.changed.notify_all();
    }
}

/// A blob that may still be growing.
#[derive(Clone)]
pub struct GrowingBlob {
    file: Arc<File>,
    growth: Arc<Growth>,
}

impl GrowingBlob {
    /// A reader from `offset` that waits for more until the blob is finished, and fails when its writer gave up.
    pub fn reader(&self, offset: u64) -> GrowingReader {
        GrowingReader { blob: self.clone(), position: offset }
    }

    /// Whether something that was written turned out to be wrong and was written anew.
    pub fn was_restarted(&self) -> bool {
        self.growth.lock().restarted
    }

    /// Waits until the blob has `bytes` bytes. Gives whether it has: not when it was finished or given up before.
    pub fn wait_for(&self, bytes: u64) -> bool {
        let mut state = self.growth.lock();
        loop {
            if state.available >= bytes {
                return true;
            }
            if state.outcome.is_some() {
                return false;
            }
            state = self.growth.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the blob is finished and gives its digest and size, or `None` when its writer gave up.
    pub fn wait(&self) -> Option<(Digest, u64)> {
        let mut state = self.growth.lock();
        loop {
            match &state.outcome {
                Some(Outcome::Finished(digest, size)) => return Some((digest.clone(), *size)),
                Some(Outcome::Failed) => return None,
                None => state = self.growth.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Reads a [`GrowingBlob`].
pub struct GrowingReader {
    blob: GrowingBlob,
    position: u64,
}

impl Read for GrowingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.blob.growth.lock();
        let available = loop {
            if state.available > self.position {
                break state.available - self.position;
            }
            match state.outcome {
                Some(Outcome::Finished(..)) => return Ok(0),
                Some(Outcome::Failed) => return Err(io::Error::other("the blob that was being written was given up")),
                None => state = self.blob.growth.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        let length = usize::try_from(available).map_or(buffer.len(), |available| available.min(buffer.len()));
        let length = self.blob.file.read_at(&mut buffer[..length], self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}
