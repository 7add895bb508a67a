//! Moves images between registries, layouts and the store: blobs first, then manifests, then indexes; names last.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use onetag_oci::{Descriptor, Digest, ManifestDocument, media_type};
use onetag_registry::{BlobSink, BlobSource, Pushed};
use onetag_solver::Cancellation;
use onetag_store::{BlobWriter, Store};

use super::layout;
use super::location::Location;
use super::reader::{Contents, Found};
use super::{ContentError, Result};

/// Indexes in indexes are followed this deep.
const MAXIMUM_DEPTH: usize = 8;
/// So many blobs move at a time.
const PARALLEL: usize = 4;

/// What happens to a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferEvent {
    /// It is about to move.
    Started {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// So many of its bytes have moved.
    Progress {
        /// The blob.
        digest: Digest,
        /// Bytes so far.
        current: u64,
        /// Its size in bytes.
        total: u64,
    },
    /// It was there already.
    Existed {
        /// The blob.
        digest: Digest,
    },
    /// The registry took it from another repository of its own.
    Mounted {
        /// The blob.
        digest: Digest,
        /// That repository.
        from: String,
    },
    /// It has moved.
    Done {
        /// The blob.
        digest: Digest,
    },
}

/// A move from one place to another.
pub struct Transfer<'a> {
    contents: Contents<'a>,
    from: Location,
    to: Location,
    cancel: &'a Cancellation,
    events: &'a (dyn Fn(TransferEvent) + Sync),
}

impl<'a> Transfer<'a> {
    /// From one place to another; `events` hears of every blob, and `cancel` stops it soon.
    pub fn new(
        contents: Contents<'a>,
        from: &Location,
        to: &Location,
        cancel: &'a Cancellation,
        events: &'a (dyn Fn(TransferEvent) + Sync),
    ) -> Self {
        Self { contents, from: from.clone(), to: to.clone(), cancel, events }
    }

    /// Moves a document with everything below it for which `wanted` holds (asked for each child of an index), without
    /// naming it. An index that is moved in part stays byte for byte what it is.
    ///
    /// # Errors
    /// The first error; what moved until then stays, unnamed.
    pub fn tree(&self, found: &Found, wanted: &dyn Fn(&Descriptor) -> bool) -> Result<()> {
        let mut plan = Plan::default();
        self.plan(found, wanted, 0, &mut plan)?;
        self.blobs(&plan.blobs)?;
        plan.documents.iter().try_for_each(|document| self.document(document))
    }

    /// Lists blobs and documents, children before parents.
    fn plan(&self, found: &Found, wanted: &dyn Fn(&Descriptor) -> bool, depth: usize, plan: &mut Plan) -> Result<()> {
        if !plan.seen.insert(found.descriptor.digest.clone()) {
            return Ok(());
        }
        if depth > MAXIMUM_DEPTH {
            return Err(ContentError::TooDeep { digest: found.descriptor.digest.clone(), limit: MAXIMUM_DEPTH });
        }
        match &found.document {
            ManifestDocument::Index(index) => {
                for child in index.manifests.iter().filter(|child| wanted(child)) {
                    self.check_cancel()?;
                    let child = self.contents.document(&self.from, child)?;
                    self.plan(&child, wanted, depth + 1, plan)?;
                }
            }
            ManifestDocument::Manifest(manifest) => {
                let blobs = manifest.layers.iter().chain([&manifest.config]);
                for blob in blobs.filter(|blob| !media_type::is_nondistributable(&blob.media_type)) {
                    if plan.seen.insert(blob.digest.clone()) {
                        plan.blobs.push(blob.clone());
                    }
                }
            }
        }
        plan.documents.push(found.document.clone());
        Ok(())
    }

    fn check_cancel(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(ContentError::Interrupted) } else { Ok(()) }
    }

    /// Moves blobs, several at a time, and stops at the first error.
    fn blobs(&self, blobs: &[Descriptor]) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.check_cancel().and_then(|()| self.blob(blob)) {
                    next.store(blobs.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        match blobs.len() {
            0 | 1 => work(),
            count => std::thread::scope(|scope| {
                (0..count.min(PARALLEL)).for_each(|_| {
                    scope.spawn(work);
                });
            }),
        }
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn blob(&self, blob: &Descriptor) -> Result<()> {
        let digest = blob.digest.clone();
        (self.events)(TransferEvent::Started { digest: digest.clone(), size: blob.size });
        let event = match &self.to {
            Location::Store(_) => self.blob_to_store(blob)?,
            Location::Registry(reference) => {
                let mount_from: Vec<_> = match &self.from {
                    Location::Registry(from) if from.domain() == reference.domain() => vec![from.clone()],
                    _ => Vec::new(),
                };
                if mount_from.iter().any(|from| from.repository() == reference.repository()) {
                    TransferEvent::Existed { digest }
                } else {
                    let source = self.source(blob)?;
                    match self.contents.engine().client()?.push_blob(reference, blob, &*source, &mount_from)? {
                        Pushed::Existed => TransferEvent::Existed { digest },
                        Pushed::Mounted => {
                            let from = mount_from.first().map(ToString::to_string).unwrap_or_default();
                            TransferEvent::Mounted { digest, from }
                        }
                        Pushed::Uploaded => TransferEvent::Done { digest },
                    }
                }
            }
            Location::Layout(name) => {
                if layout::blob_path(&name.path, &digest).exists() {
                    TransferEvent::Existed { digest }
                } else {
                    let source = self.source(blob)?;
                    let mut reader = source.open(0).map_err(|error| self.unreadable(&digest, error))?;
                    layout::write(&name.path, &digest, &mut reader)?;
                    TransferEvent::Done { digest }
                }
            }
        };
        (self.events)(event);
        Ok(())
    }

    fn unreadable(&self, digest: &Digest, source: io::Error) -> ContentError {
        onetag_registry::Error::Source { what: digest.to_string(), source }.into()
    }

    fn blob_to_store(&self, blob: &Descriptor) -> Result<TransferEvent> {
        let store = self.contents.engine().store()?;
        let digest = blob.digest.clone();
        if store.blob_size(&digest) == Some(blob.size) {
            store.hold(&onetag_store::Resource::Blob(digest.clone()))?;
            return Ok(TransferEvent::Existed { digest });
        }
        self.fetch_into(store, blob)?;
        Ok(TransferEvent::Done { digest })
    }

    fn fetch_into(&self, store: &Store, blob: &Descriptor) -> Result<()> {
        let mut writer = store.blob_writer_with(blob.digest.algorithm())?;
        match &self.from {
            Location::Registry(reference) => {
                let mut sink = StoreSink { writer, blob, events: self.events, cancel: self.cancel };
                self.contents.engine().client()?.fetch_blob(reference, blob, &mut sink)?;
                writer = sink.writer;
            }
            Location::Store(_) | Location::Layout(_) => {
                let source = self.source(blob)?;
                let mut reader = source.open(0).map_err(|error| self.unreadable(&blob.digest, error))?;
                io::copy(&mut reader, &mut writer).map_err(|error| self.unreadable(&blob.digest, error))?;
            }
        }
        writer.finish(Some(&blob.digest), Some(blob.size))?;
        Ok(())
    }

    /// A blob to read more than once. From a registry it passes through the store, unnamed.
    fn source(&self, blob: &Descriptor) -> Result<Box<dyn BlobSource>> {
        let path = match &self.from {
            Location::Layout(name) => layout::blob_path(&name.path, &blob.digest),
            Location::Store(_) => self.contents.engine().store()?.blob_path(&blob.digest),
            Location::Registry(_) => {
                let store = self.contents.engine().store()?;
                if !store.has_blob(&blob.digest) {
                    self.fetch_into(store, blob)?;
                }
                store.blob_path(&blob.digest)
            }
        };
        if !path.exists() {
            return Err(ContentError::NotFound { what: blob.digest.to_string() });
        }
        Ok(Box::new(FileSource { path, size: blob.size }))
    }

    fn document(&self, document: &ManifestDocument) -> Result<()> {
        self.check_cancel()?;
        match &self.to {
            Location::Store(_) => {
                self.contents.engine().store()?.put_document(document.bytes())?;
            }
            Location::Registry(reference) => {
                let reference = reference.without_tag().with_digest(document.digest().clone());
                let client = self.contents.engine().client()?;
                client.push_manifest(&reference, document.bytes(), document.media_type())?;
            }
            Location::Layout(name) => layout::write(&name.path, document.digest(), &mut document.bytes())?,
        }
        Ok(())
    }

    /// Writes one document without a name, where the place can hold such. A registry takes it with its name only.
    ///
    /// # Errors
    /// When the place does not take it.
    pub fn put(&self, found: &Found) -> Result<()> {
        match &self.to {
            Location::Registry(_) => Ok(()),
            _ => self.document(&found.document),
        }
    }

    /// Gives the destination's name to a document that is there.
    ///
    /// # Errors
    /// When the place does not take it.
    pub fn name(&self, found: &Found) -> Result<()> {
        self.check_cancel()?;
        let mut descriptor = Descriptor::new(
            found.document.media_type(),
            found.document.digest().clone(),
            found.document.bytes().len() as u64,
        );
        descriptor.annotations = found.descriptor.annotations.clone();
        match &self.to {
            Location::Store(reference) => {
                self.contents.engine().store()?.set_reference(&reference.to_string(), descriptor)?
            }
            Location::Registry(reference) => {
                let client = self.contents.engine().client()?;
                client.push_manifest(reference, found.document.bytes(), found.document.media_type())?;
            }
            Location::Layout(name) => layout::set(&name.path, name.name.as_deref(), &descriptor)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Plan {
    seen: HashSet<Digest>,
    blobs: Vec<Descriptor>,
    documents: Vec<ManifestDocument>,
}

/// A blob in a file.
#[derive(Debug)]
pub(crate) struct FileSource {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
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
struct StoreSink<'a> {
    writer: BlobWriter,
    blob: &'a Descriptor,
    events: &'a (dyn Fn(TransferEvent) + Sync),
    cancel: &'a Cancellation,
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
