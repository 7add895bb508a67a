//! Blobs in files, as sources of an upload and as sinks of a download.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use onetag_oci::Descriptor;
use onetag_registry::{BlobSink, BlobSource};
use onetag_solver::Cancellation;
use onetag_store::BlobWriter;

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

/// Writes a fetched blob into the store, which verifies it.
pub(super) struct StoreSink<'a> {
    pub(super) writer: BlobWriter,
    pub(super) blob: &'a Descriptor,
    pub(super) events: &'a (dyn Fn(TransferEvent) + Sync),
    pub(super) cancel: &'a Cancellation,
}

impl BlobSink for StoreSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        self.writer.write_all(bytes)?;
        let (digest, total) = (self.blob.digest.clone(), self.blob.size);
        (self.events)(TransferEvent::Progress { digest, current: self.writer.written(), total });
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.writer.restart().map_err(io::Error::other)
    }

    fn verifies(&self) -> bool {
        true
    }
}
