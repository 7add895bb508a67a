//! Where a registry keeps what it was given: small records under keys, and content under its digest.
//!
//! The trait is cut so that an object store can stand behind it: nothing is renamed, appended to or opened by path. Every method
//! blocks; what it has returned from is durable.

#[cfg(test)]
mod contract;
mod filesystem;

use std::fmt;
use std::fs::File;
use std::io;
use std::time::Duration;

use onetag_oci::Digest;

pub use filesystem::FilesystemStorage;

/// Storage failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {subject}")]
pub struct StorageError {
    /// What was being done.
    pub operation: &'static str,
    /// Key, digest or path it was done to.
    pub subject: String,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl StorageError {
    /// Whether no room is left (or none is allowed to this user).
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Result of storage operations.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Adds operation and subject to an input/output error.
pub(crate) trait Context<T> {
    fn context(self, operation: &'static str, subject: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &'static str, subject: impl fmt::Display) -> Result<T> {
        self.map_err(|source| StorageError { operation, subject: subject.to_string(), source })
    }
}

/// Something that differs whenever a record was written anew; equal stamps mean an unchanged value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub [u64; 3]);

/// Stored content, open for reading.
pub trait Content: Send + Sync {
    /// Its size in bytes.
    fn size_bytes(&self) -> u64;
    /// Reads at a position; fewer bytes than asked only at the end.
    ///
    /// # Errors
    /// When reading fails.
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize>;
    /// The content as a file of this machine, where it is one: it can then be sent without being read.
    fn file(&self) -> Option<&File> {
        None
    }
}

/// Content that is arriving and has no digest yet.
pub trait Staged: Content {
    /// Adds bytes behind those that are there.
    ///
    /// # Errors
    /// When writing fails; the bytes are then not counted.
    fn add(&mut self, bytes: &[u8]) -> Result<()>;
    /// Makes it durable and visible under a digest, which the caller has verified. Content that is already there stays as it is.
    ///
    /// # Errors
    /// When that fails; nothing is visible then.
    fn publish(self: Box<Self>, digest: &Digest) -> Result<()>;
    /// Forgets it.
    ///
    /// # Errors
    /// When that fails.
    fn discard(self: Box<Self>) -> Result<()>;
}

/// One piece of stored content, as the collection of garbage sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentEntry {
    /// Its digest.
    pub digest: Digest,
    /// Bytes it occupies.
    pub size_bytes: u64,
    /// Time since it was stored.
    pub age: Duration,
}

/// A lock that is held until this is dropped.
pub trait Guard: Send + Sync {}

/// Records, content and arriving content.
///
/// Keys are sequences of names separated by `/`; a name is never empty, `.` or `..`. A key is either a record or a prefix of others.
pub trait Storage: Send + Sync + 'static {
    /// A record's value.
    ///
    /// # Errors
    /// When reading fails; absence is no error.
    fn record(&self, key: &str) -> Result<Option<Vec<u8>>>;
    /// A record's stamp, far cheaper than its value.
    ///
    /// # Errors
    /// When reading fails; absence is no error.
    fn stamp(&self, key: &str) -> Result<Option<Stamp>>;
    /// Time since the record was written or touched.
    ///
    /// # Errors
    /// When reading fails; absence is no error.
    fn age(&self, key: &str) -> Result<Option<Duration>>;
    /// Writes a record, atomically: readers see the old value or the new one.
    ///
    /// # Errors
    /// When writing fails; the old value then stays.
    fn write(&self, key: &str, value: &[u8]) -> Result<()>;
    /// Makes a record as young as if it had just been written; `false` when it does not exist.
    ///
    /// # Errors
    /// When that fails.
    fn touch(&self, key: &str) -> Result<bool>;
    /// Removes a record; `false` when there was none.
    ///
    /// # Errors
    /// When that fails.
    fn remove(&self, key: &str) -> Result<bool>;
    /// Names directly below a key, sorted as bytes.
    ///
    /// # Errors
    /// When listing fails; an unknown key lists nothing.
    fn list(&self, key: &str) -> Result<Vec<String>>;

    /// Content by digest.
    ///
    /// # Errors
    /// When opening fails; absence is no error.
    fn content(&self, digest: &Digest) -> Result<Option<Box<dyn Content>>>;
    /// Size of content by digest.
    ///
    /// # Errors
    /// When that fails; absence is no error.
    fn content_size(&self, digest: &Digest) -> Result<Option<u64>>;
    /// Removes content, giving back the bytes freed.
    ///
    /// # Errors
    /// When that fails; absence is no error and frees nothing.
    fn remove_content(&self, digest: &Digest) -> Result<u64>;
    /// Everything stored.
    ///
    /// # Errors
    /// When listing fails.
    fn contents(&self) -> Result<Vec<ContentEntry>>;

    /// Begins arriving content under an identity of the caller's choice.
    ///
    /// # Errors
    /// When that fails.
    fn stage(&self, identity: &str) -> Result<Box<dyn Staged>>;
    /// Arriving content that an earlier process left; `None` when there is none of that identity.
    ///
    /// # Errors
    /// When opening fails.
    fn staged(&self, identity: &str) -> Result<Option<Box<dyn Staged>>>;
    /// Removes arriving content that has not grown for that long; gives back how many there were.
    ///
    /// # Errors
    /// When that fails.
    fn expire_staged(&self, older_than: Duration) -> Result<usize>;

    /// Waits for and takes the lock between those that add references (shared) and those that remove content (exclusive).
    ///
    /// # Errors
    /// When that fails.
    fn lock(&self, exclusive: bool) -> Result<Box<dyn Guard>>;
}
