//! Blobs of a registry as sources of an upload: they pass through memory, never through a disk.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use onetag_oci::{Descriptor, Reference};
use onetag_registry::{BlobSink, BlobSource, Client};
use onetag_solver::Cancellation;

/// So many pieces may wait for the uploader; a piece is what one read of the connection gave.
const WAITING: usize = 32;

/// A blob of a registry.
pub(super) struct Relay {
    client: Client,
    from: Reference,
    blob: Descriptor,
    cancel: Cancellation,
}

impl Relay {
    /// Nothing is fetched before the blob is read.
    pub(super) fn new(client: &Client, from: &Reference, blob: &Descriptor, cancel: &Cancellation) -> Self {
        Self { client: client.clone(), from: from.clone(), blob: blob.clone(), cancel: cancel.clone() }
    }
}

impl BlobSource for Relay {
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        if offset_bytes >= self.blob.size {
            return Ok(Box::new(io::empty()));
        }
        let (sender, receiver) = sync_channel(WAITING);
        let (client, from, blob, cancel) =
            (self.client.clone(), self.from.clone(), self.blob.clone(), self.cancel.clone());
        let fetch = move || {
            let mut sink =
                Pieces { sender, held: Vec::new(), offset_bytes, skip_bytes: offset_bytes, sent_bytes: 0, cancel };
            let fetched = client.fetch_blob(&from, &blob, &mut sink);
            // the last piece leaves only when all of the content has proved right, so that no upload of wrong content ends
            let last = fetched.map(|()| std::mem::take(&mut sink.held)).map_err(io::Error::other);
            // a reader that went away wants nothing any more
            let _ = sink.sender.send(last.map(Piece::Last));
        };
        std::thread::Builder::new().name("relay".to_owned()).spawn(fetch)?;
        Ok(Box::new(Reader { receiver, piece: io::Cursor::new(Vec::new()), is_over: false }))
    }

    fn size(&self) -> u64 {
        self.blob.size
    }
}

enum Piece {
    More(Vec<u8>),
    Last(Vec<u8>),
}

/// Hands what is fetched to the reader, always one piece late.
struct Pieces {
    sender: SyncSender<io::Result<Piece>>,
    held: Vec<u8>,
    offset_bytes: u64,
    skip_bytes: u64,
    sent_bytes: u64,
    cancel: Cancellation,
}

impl BlobSink for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        let skipped = usize::try_from(self.skip_bytes).unwrap_or(usize::MAX).min(bytes.len());
        self.skip_bytes -= skipped as u64;
        if skipped == bytes.len() {
            return Ok(());
        }
        let held = std::mem::replace(&mut self.held, bytes[skipped..].to_vec());
        self.sent_bytes += held.len() as u64;
        if held.is_empty() {
            return Ok(());
        }
        self.sender.send(Ok(Piece::More(held))).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn restart(&mut self) -> io::Result<()> {
        if self.sent_bytes == 0 {
            self.held.clear();
            self.skip_bytes = self.offset_bytes;
            return Ok(());
        }
        // what has left cannot be taken back
        Err(io::Error::other(format!(
            "the registry sent content that is not what its digest says; {} bytes of it had been passed on, unfinished",
            self.sent_bytes
        )))
    }
}

struct Reader {
    receiver: Receiver<io::Result<Piece>>,
    piece: io::Cursor<Vec<u8>>,
    is_over: bool,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() || self.is_over {
                return Ok(count);
            }
            match self.receiver.recv() {
                Ok(Ok(Piece::More(bytes))) => self.piece = io::Cursor::new(bytes),
                Ok(Ok(Piece::Last(bytes))) => {
                    self.piece = io::Cursor::new(bytes);
                    self.is_over = true;
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
