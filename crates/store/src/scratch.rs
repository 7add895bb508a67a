//! Folders that are needed for a while.

use std::path::{Path, PathBuf};

use crate::error::At;
use crate::{Result, Store};

/// A folder in the store's `tmp/`, removed with what is in it when this is dropped, and by collection when the process
/// ended before.
#[derive(Debug)]
pub struct Scratch {
    store: Store,
    path: PathBuf,
}

impl Store {
    /// Makes an empty folder that only this process uses.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn scratch(&self) -> Result<Scratch> {
        let path = self.temporary("scratch")?;
        crate::files::create_folders(&path).at("make", &path)?;
        Ok(Scratch { store: self.clone(), path })
    }
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to collection.
        let _ = self.store.remove_temporary(&self.path);
    }
}
