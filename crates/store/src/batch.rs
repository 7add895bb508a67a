//! Blobs that become durable together.
//!
//! To make a file outlast a crash costs a commit of the file system's journal, and to make its name outlast it another.
//! An image of fifty steps would pay both fifty times, one after the other; on a busy disk that takes longer than the
//! steps. While a [`Batch`] is open, a finished blob keeps its name in `tmp/`: it is there for this process and for no
//! other, and nothing outlasts a crash that would need it. [`Store::settle`] then syncs all files at once, names them,
//! and syncs their folder. A reference is never written before that.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use onetag_oci::Digest;

use crate::error::{At, Result};
use crate::files;
use crate::store::Store;

/// So many files are synced at a time, so that one commit of the journal serves many.
const AT_ONCE: usize = 16;

/// Blobs that are finished and not yet durable.
#[derive(Default)]
pub(crate) struct Unsettled {
    /// How many batches are open.
    open: usize,
    blobs: HashMap<Digest, Finished>,
}

/// A finished blob without its name.
#[derive(Clone)]
struct Finished {
    path: PathBuf,
    size: u64,
}

/// As long as one is open, blobs that this store finishes wait for [`Store::settle`]. Closing the last one settles.
pub struct Batch {
    store: Store,
    is_closed: bool,
}

impl Batch {
    /// Makes everything durable and says whether that worked.
    pub fn close(mut self) -> Result<()> {
        self.is_closed = true;
        self.store.unsettled().open -= 1;
        self.store.settle()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.is_closed {
            self.store.unsettled().open -= 1;
            // Something else failed already, and that is told. What could be kept for the next build is.
            let _ = self.store.settle();
        }
    }
}

impl Store {
    /// Opens a batch.
    pub fn batch(&self) -> Batch {
        self.unsettled().open += 1;
        Batch { store: self.clone(), is_closed: false }
    }

    /// Makes all finished blobs durable and names them.
    ///
    /// # Errors
    /// An error of the file system. What is not named then is made again when it is asked for.
    pub fn settle(&self) -> Result<()> {
        let blobs: Vec<(Digest, Finished)> =
            self.unsettled().blobs.iter().map(|(digest, blob)| (digest.clone(), blob.clone())).collect();
        if blobs.is_empty() {
            return Ok(());
        }
        sync_all(&blobs)?;
        let mut folders = BTreeSet::new();
        for (digest, blob) in &blobs {
            let path = self.blob_path(digest);
            match name_blob(&blob.path, &path) {
                // Another thread settled it meanwhile.
                Err(_) if path.exists() => {}
                named => named?,
            }
            folders.extend(path.parent().map(Path::to_owned));
        }
        for folder in folders {
            File::open(&folder).and_then(|folder| folder.sync_all()).at("sync", &folder)?;
        }
        let mut unsettled = self.unsettled();
        for (digest, _) in &blobs {
            unsettled.blobs.remove(digest);
        }
        Ok(())
    }

    /// Keeps a finished file for the settling, where a batch is open; gives whether one is. A file that is there
    /// already goes.
    pub(crate) fn leave_unsettled(&self, digest: &Digest, path: &Path, size: u64) -> Result<bool> {
        let mut unsettled = self.unsettled();
        if unsettled.open == 0 {
            return Ok(false);
        }
        match unsettled.blobs.get(digest) {
            Some(_) => std::fs::remove_file(path).at("remove", path)?,
            None => drop(unsettled.blobs.insert(digest.clone(), Finished { path: path.to_owned(), size })),
        }
        Ok(true)
    }

    /// The size of a finished blob that has no name yet.
    pub(crate) fn unsettled_size(&self, digest: &Digest) -> Option<u64> {
        self.unsettled().blobs.get(digest).map(|blob| blob.size)
    }

    /// Whether finished blobs wait for their names.
    pub(crate) fn has_unsettled(&self) -> bool {
        !self.unsettled().blobs.is_empty()
    }

    /// Opens a finished blob that has no name yet; none where it got one.
    pub(crate) fn open_unsettled(&self, digest: &Digest) -> Option<File> {
        let path = self.unsettled().blobs.get(digest).map(|blob| blob.path.clone())?;
        File::open(path).ok()
    }

    fn unsettled(&self) -> MutexGuard<'_, Unsettled> {
        self.unsettled_blobs().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Syncs files, many at a time.
fn sync_all(blobs: &[(Digest, Finished)]) -> Result<()> {
    let sync = |blob: &Finished| match File::open(&blob.path) {
        Ok(file) => file.sync_all().at("sync", &blob.path),
        // Named by another thread, which synced it before.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).at("open", &blob.path),
    };
    let share = blobs.len().div_ceil(AT_ONCE).max(1);
    std::thread::scope(|scope| {
        let work = |part: &[(Digest, Finished)]| part.iter().try_for_each(|(_, blob)| sync(blob));
        let threads: Vec<_> = blobs.chunks(share).map(|part| scope.spawn(move || work(part))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Gives a synced file its name.
pub(crate) fn name_blob(temporary: &Path, path: &Path) -> Result<()> {
    match std::fs::rename(temporary, path) {
        // The folder of a rarely used algorithm is made when it is first needed.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            files::create_folders(folder).at("make folder", folder)?;
            std::fs::rename(temporary, path).at("name", path)
        }
        named => named.at("name", path),
    }
}
