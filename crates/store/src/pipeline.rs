//! Decompression and hashing on a thread of their own, so that making files does not wait for them.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use onetag_oci::{Algorithm, Digest, Digester};

use crate::layer::{Decompressor, LayerError};

/// Bytes of a piece handed from thread to thread.
const PIECE: usize = 256 << 10;
/// Pieces on their way at most.
const PIECES: usize = 8;

/// Which compressions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Formats {
    /// Those of images.
    Layer,
    /// Those of archives from anywhere.
    Archive,
}

/// Decompresses `content` and lets `consume` read the result. Gives what `consume` gave and the digest of the whole
/// uncompressed stream. `consume` MUST read to the end.
pub(crate) fn decompress<R: Read + Send, T>(
    content: R,
    algorithm: Algorithm,
    formats: Formats,
    ratio: u64,
    consume: impl FnOnce(&mut dyn Read) -> Result<T, LayerError>,
) -> Result<(T, Digest), LayerError> {
    let (sender, receiver) = sync_channel(PIECES);
    let (returned, empty) = sync_channel(PIECES + 2);
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || produce(content, algorithm, formats, ratio, &sender, &empty));
        let mut pieces = Pieces { receiver, returned, current: Vec::new(), position: 0 };
        let consumed = consume(&mut pieces);
        drop(pieces);
        let produced = match producer.join() {
            Ok(produced) => produced,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match (consumed, produced) {
            (Ok(value), Ok(Some(digest))) => Ok((value, digest)),
            // The stream's own failure explains a reader's one.
            (_, Err(error)) => Err(error),
            (Err(error), Ok(_)) => Err(error),
            (Ok(_), Ok(None)) => Err(LayerError::Truncated { what: "the stream" }),
        }
    })
}

/// Reads, hashes and sends. `None` where the other side stopped listening.
fn produce<R: Read>(
    content: R,
    algorithm: Algorithm,
    formats: Formats,
    ratio: u64,
    sender: &SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<Option<Digest>, LayerError> {
    let mut stream = match formats {
        Formats::Layer => Decompressor::new(content, ratio)?,
        Formats::Archive => Decompressor::of_archive(content, ratio)?,
    };
    let mut digester = Digester::new(algorithm);
    loop {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let length = fill(&mut stream, &mut piece).map_err(read_error)?;
        if length == 0 {
            stream.finish().map_err(LayerError::Read)?;
            return Ok(Some(digester.finish()));
        }
        piece.truncate(length);
        digester.update(&piece);
        if sender.send(piece).is_err() {
            return Ok(None);
        }
    }
}

/// A limit that was met inside the decompressor travels as an I/O error; this takes it out again.
fn read_error(error: io::Error) -> LayerError {
    match error.downcast::<LayerError>() {
        Ok(limit) => limit,
        Err(error) => LayerError::Read(error),
    }
}

fn fill(stream: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match stream.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The receiving end as a stream.
struct Pieces {
    receiver: Receiver<Vec<u8>>,
    returned: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() {
            let Ok(next) = self.receiver.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.current, next);
            self.position = 0;
            // A full channel only means that this buffer is not used again.
            let _ = self.returned.try_send(used);
        }
        let length = buffer.len().min(self.current.len() - self.position);
        buffer[..length].copy_from_slice(&self.current[self.position..self.position + length]);
        self.position += length;
        Ok(length)
    }
}
