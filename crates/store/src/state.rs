//! Whether names or blobs came or went since something was worked out from them.
//!
//! A folder's times change with every name that is made or removed in it, and `index.json` is replaced as a whole, so
//! that looking at a few files tells whether any of thousands of blobs came or went. File systems count time in steps,
//! and what happens within one step cannot be told apart: what changed just now vouches for nothing.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{At, Result};
use crate::store::Store;

/// Times of files older than this do not come again for another change, in seconds.
const SETTLED_AFTER: i64 = 2;

/// What names and blobs there were at some instant, as far as the times of their folders tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreState {
    mark: String,
    newest: i64,
    is_open: bool,
    index_bytes: u64,
}

impl StoreState {
    /// A text that is the same as long as the state is.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Whether a later change would show in another mark: the last change is some time ago.
    pub fn is_settled(&self) -> bool {
        !self.is_open && crate::database::now().saturating_sub(self.newest) > SETTLED_AFTER
    }

    /// The size of the list of names in bytes.
    pub fn index_bytes(&self) -> u64 {
        self.index_bytes
    }
}

impl Store {
    /// The present state. That the content of a file was damaged is not seen here; [`Store::check`] looks for that.
    ///
    /// # Errors
    /// When the folders of the store cannot be read.
    pub fn state(&self) -> Result<StoreState> {
        let is_open = self.has_unsettled();
        let mut state = StoreState { mark: String::new(), newest: 0, is_open, index_bytes: 0 };
        state.index_bytes = state.add(&self.index_path())?.unwrap_or(0);
        let blobs = self.root().join("blobs");
        state.add(&blobs)?;
        let mut folders: Vec<_> =
            std::fs::read_dir(&blobs).at("list", &blobs)?.collect::<std::io::Result<_>>().at("list", &blobs)?;
        folders.sort_by_key(std::fs::DirEntry::file_name);
        for folder in folders {
            state.add(&folder.path())?;
        }
        Ok(state)
    }
}

impl StoreState {
    /// Takes a file in and gives its size; none where it is absent.
    fn add(&mut self, path: &Path) -> Result<Option<u64>> {
        let found = match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            found => Some(found.at("examine", path)?),
        };
        let name = path.file_name().unwrap_or_default().display();
        // Writing to a text does not fail.
        let _ = match &found {
            None => writeln!(self.mark, "{name} -"),
            Some(found) => writeln!(
                self.mark,
                "{name} {} {} {} {}.{:09} {}.{:09}",
                found.dev(),
                found.ino(),
                found.size(),
                found.mtime(),
                found.mtime_nsec(),
                found.ctime(),
                found.ctime_nsec()
            ),
        };
        if let Some(found) = &found {
            self.newest = self.newest.max(found.mtime()).max(found.ctime());
        }
        Ok(found.map(|found| found.size()))
    }
}
