//! Blobs passing by: whether one is there, and its content read once, verified and stored nowhere.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use onetag_oci::{Descriptor, Digest, Digester};
use onetag_registry::BlobSink;

use super::layout::{self, LayoutError};
use super::location::Location;
use super::reader::Contents;
use super::{ContentError, Result};

/// So many pieces may wait for whoever consumes them; a piece is what one read of the connection gave.
const WAITING: usize = 32;

impl Contents<'_> {
    /// The size in bytes of a blob, without its content. `None` where it is there and nobody says how large it is.
    ///
    /// # Errors
    /// When it is absent or cannot be asked for.
    pub fn blob_size(&self, location: &Location, digest: &Digest) -> Result<Option<u64>> {
        if let Location::Registry(reference) = location {
            return Ok(self.engine().client()?.blob_size(reference, digest)?);
        }
        let absent = || ContentError::NotFound { what: digest.to_string() };
        if let Location::Archive(_) = location {
            return self.engine().archive(location)?.size(digest).map(Some).ok_or_else(absent);
        }
        let file = std::fs::metadata(self.local_path(location, digest)?).map_err(|_| absent())?;
        Ok(Some(file.len()))
    }

    /// Lets `consume` read a blob, and verifies all of it, whatever `consume` leaves unread. It is read once; only where
    /// a registry sent something wrong it is fetched once more, and `consume` begins again.
    ///
    /// # Errors
    /// When the blob is absent, cannot be read, or is not what its descriptor says.
    pub fn stream<T: Send>(
        &self,
        location: &Location,
        descriptor: &Descriptor,
        consume: &(dyn Fn(&mut dyn Read) -> T + Sync),
    ) -> Result<T> {
        if let Location::Registry(reference) = location {
            let client = self.engine().client()?;
            return std::thread::scope(|scope| {
                let mut sink = Pieces { scope, consume, running: None };
                client.fetch_blob(reference, descriptor, &mut sink)?;
                Ok(sink.finish())
            });
        }
        let (path, file) = self.open_local(location, &descriptor.digest)?;
        let digester = Digester::new(descriptor.digest.algorithm());
        let mut reader = Verifying { inner: file, digester, count: 0 };
        let value = consume(&mut reader);
        io::copy(&mut reader, &mut io::sink()).map_err(|source| unreadable(&path, source))?;
        let (digest, said, actual) = (descriptor.digest.clone(), descriptor.size, reader.count);
        if said != actual {
            return Err(ContentError::SizeMismatch { digest, said, actual });
        }
        let actual = reader.digester.finish();
        if actual != digest {
            return Err(ContentError::DigestMismatch { digest, actual });
        }
        Ok(value)
    }

    /// Opens a blob of a place on this host; with the path that messages name.
    fn open_local(&self, location: &Location, digest: &Digest) -> Result<(PathBuf, Box<dyn Read + Send>)> {
        let absent = || ContentError::NotFound { what: digest.to_string() };
        if let Location::Archive(archive) = location {
            let path = archive.place.path.clone();
            let source = self.engine().archive(location)?.source(digest).ok_or_else(absent)?;
            let reader = source.open(0).map_err(|source| unreadable(&path, source))?;
            return Ok((path, reader));
        }
        let path = self.local_path(location, digest)?;
        match File::open(&path) {
            Ok(file) => Ok((path, Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(absent()),
            Err(error) => Err(unreadable(&path, error)),
        }
    }

    /// Where a blob of a place on this host lies.
    fn local_path(&self, location: &Location, digest: &Digest) -> Result<PathBuf> {
        match location {
            Location::Store(_) => Ok(self.engine().store()?.blob_path(digest)),
            Location::Layout(name) => Ok(layout::blob_path(&name.path, digest)),
            Location::Registry(_) | Location::Archive(_) => Err(ContentError::NotFound { what: digest.to_string() }),
        }
    }
}

fn unreadable(path: &std::path::Path, source: io::Error) -> ContentError {
    LayoutError::Io { action: "read", path: path.to_owned(), source }.into()
}

/// Counts and hashes what is read through it.
struct Verifying<R> {
    inner: R,
    digester: Digester,
    count: u64,
}

impl<R: Read> Read for Verifying<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.digester.update(&buffer[..length]);
        self.count += length as u64;
        Ok(length)
    }
}

/// Hands what is fetched to a thread that consumes it.
struct Pieces<'scope, 'env, 'c, T> {
    scope: &'scope Scope<'scope, 'env>,
    consume: &'c (dyn Fn(&mut dyn Read) -> T + Sync),
    running: Option<(SyncSender<Vec<u8>>, ScopedJoinHandle<'scope, T>)>,
}

impl<'scope, 'c: 'scope, T: Send + 'scope> Pieces<'scope, '_, 'c, T> {
    fn start(&mut self) -> &SyncSender<Vec<u8>> {
        let (scope, consume) = (self.scope, self.consume);
        let (sender, _) = self.running.get_or_insert_with(|| {
            let (sender, receiver) = sync_channel(WAITING);
            let consumer = scope.spawn(move || consume(&mut Arriving { receiver, piece: io::Cursor::new(Vec::new()) }));
            (sender, consumer)
        });
        sender
    }

    /// The content is complete.
    fn finish(&mut self) -> T {
        self.start();
        let Some((sender, consumer)) = self.running.take() else { unreachable!("it was started above") };
        drop(sender);
        consumer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl<'scope, 'c: 'scope, T: Send + 'scope> BlobSink for Pieces<'scope, '_, 'c, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // One that has heard enough needs no more; the content is verified all the same.
        let _ = self.start().send(bytes.to_vec());
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            // What came of wrong content is nothing.
            drop(self.finish());
        }
        Ok(())
    }
}

/// The content as it arrives.
struct Arriving {
    receiver: Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.receiver.recv() {
                Ok(piece) => self.piece = io::Cursor::new(piece),
                Err(_) => return Ok(0),
            }
        }
    }
}
