//! Blobs in files, as sources of an upload and as sinks of a download.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use onetag_oci::{Descriptor, Digest};
use onetag_registry::{BlobSink, BlobSource};
use onetag_solver::Cancellation;
use onetag_store::BlobWriter;

use super::layout::BlobFile;
use super::transfer::TransferEvent;

/// A blob in a file.
#[derive(Debug)]
pub(super) struct FileSource {
    pub(super) path: PathBuf,
    pub(super) size: u64,
}

impl BlobSource for FileSource {
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset_bytes))?;
        Ok(Box::new(file))
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// A file on its way to a place that takes blobs.
pub(super) trait Growing: Write {
    /// Forgets what was written.
    fn restart(&mut self) -> io::Result<()>;
    /// Bytes written so far.
    fn written(&self) -> u64;
    /// The digest of what was written, where it is computed.
    fn digest(&self) -> Option<Digest>;
}

impl Growing for BlobWriter {
    fn restart(&mut self) -> io::Result<()> {
        BlobWriter::restart(self).map_err(io::Error::other)
    }

    fn written(&self) -> u64 {
        BlobWriter::written(self)
    }

    fn digest(&self) -> Option<Digest> {
        Some(BlobWriter::digest(self))
    }
}

impl Growing for BlobFile {
    fn restart(&mut self) -> io::Result<()> {
        BlobFile::restart(self)
    }

    fn written(&self) -> u64 {
        BlobFile::written(self)
    }

    fn digest(&self) -> Option<Digest> {
        None
    }
}

/// A file that is filled from a registry.
pub(super) struct FileSink<'a, W> {
    pub(super) file: W,
    pub(super) blob: &'a Descriptor,
    pub(super) events: &'a (dyn Fn(TransferEvent) + Sync),
    pub(super) cancel: &'a Cancellation,
}

impl<W: Growing> BlobSink for FileSink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        self.file.write_all(bytes)?;
        let (digest, total) = (self.blob.digest.clone(), self.blob.size);
        (self.events)(TransferEvent::Progress { digest, current: self.file.written(), total });
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.restart()
    }

    fn digest(&self) -> Option<Digest> {
        self.file.digest()
    }
}
