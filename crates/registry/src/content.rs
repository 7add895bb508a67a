//! How blobs enter and leave the client: [`BlobSource`], [`GrowingSource`], [`BlobSink`].

use std::io::{self, Read};

use onetag_oci::Digest;

/// A blob to push, of known digest and size, which can be read more than once.
pub trait BlobSource: Send + Sync {
    /// Opens the content at a position, which is at most its size.
    ///
    /// # Errors
    /// When it cannot be read.
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>>;
    /// Its size in bytes.
    fn size(&self) -> u64;
}

impl BlobSource for Vec<u8> {
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let start = usize::try_from(offset_bytes).unwrap_or(usize::MAX).min(self.len());
        Ok(Box::new(io::Cursor::new(self[start..].to_vec())))
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

/// A blob to push that is still being written, so that neither size nor digest is known yet.
pub trait GrowingSource: Send + Sync {
    /// Opens the content at a position that has been written already. Reading at the end waits for more, and gives 0 bytes only once
    /// the content is complete.
    ///
    /// # Errors
    /// When it cannot be read, or never will be complete.
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>>;
    /// Waits until the content is complete and gives its digest and size.
    ///
    /// # Errors
    /// When it never will be.
    fn finish(&self) -> io::Result<(Digest, u64)>;
}

/// Where a fetched blob goes.
///
/// The client verifies digest and size while it writes, but knows the outcome only at the end: what was written MUST NOT be used
/// before the fetch has succeeded.
pub trait BlobSink {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// When they cannot be taken; the fetch then fails.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Forgets everything taken so far, because it turned out to be wrong; the blob is fetched from its beginning again.
    ///
    /// # Errors
    /// When that is not possible; the fetch then fails.
    fn restart(&mut self) -> io::Result<()>;
    /// The digest of everything taken since the beginning or the last restart, of a sink that computes it itself: the client then
    /// does not hash a second time. By the algorithm of the blob's descriptor.
    fn digest(&self) -> Option<Digest> {
        None
    }
}

impl BlobSink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }
}
