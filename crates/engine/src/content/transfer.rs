//! Moves images between registries, layouts, archives and the store: blobs first, then manifests, then indexes; names
//! last. From a registry to another nothing touches a disk.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use onetag_oci::{Descriptor, DiffId, Digest, ManifestDocument, Reference, media_type};
use onetag_registry::{BlobSource, Pushed};
use onetag_solver::Cancellation;
use onetag_store::BlobWriter;

use super::files::{FileSink, FileSource};
use super::layout::{self, BlobFile};
use super::location::Location;
use super::packing::Packing;
use super::reader::{Contents, Found};
use super::referrers::{artifact_type, place_of};
use super::relay::Relay;
use super::{ContentError, Result};
use crate::layers::fetch_unpacking;
use crate::parallel;

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
    pub(super) contents: Contents<'a>,
    from: Location,
    pub(super) to: Location,
    cancel: &'a Cancellation,
    events: &'a (dyn Fn(TransferEvent) + Sync),
    /// The archive that is being written, if the destination is one.
    pub(super) packing: Arc<Mutex<Option<Packing>>>,
    /// Layers that are unpacked when they come, by the digests of their blobs.
    unpacked: HashMap<Digest, DiffId>,
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
        Self {
            contents,
            from: from.clone(),
            to: to.clone(),
            cancel,
            events,
            packing: Arc::default(),
            unpacked: HashMap::new(),
        }
    }

    /// The same into the store with these layers, named by the digests of their blobs, unpacked while they come.
    #[must_use]
    pub fn unpacking(mut self, layers: HashMap<Digest, DiffId>) -> Self {
        self.unpacked = layers;
        self
    }

    /// The same with another source and, within the same repository or archive, another name.
    #[must_use]
    pub fn between(&self, from: &Location, to: &Location) -> Self {
        let (contents, cancel, events, packing) = (self.contents, self.cancel, self.events, self.packing.clone());
        Self { contents, from: from.clone(), to: to.clone(), cancel, events, packing, unpacked: HashMap::new() }
    }

    /// Moves a document with everything below it for which `wanted` holds (asked for each child of an index), without
    /// naming it. An index that is moved in part stays byte for byte what it is. Gives the digests of all documents
    /// moved, children first.
    ///
    /// # Errors
    /// The first error; what moved until then stays, unnamed.
    pub fn tree(&self, found: &Found, wanted: &dyn Fn(&Descriptor) -> bool) -> Result<Vec<Digest>> {
        let mut plan = Plan::default();
        self.plan(found, wanted, 0, &mut plan)?;
        self.blobs(&plan.blobs)?;
        // manifests do not depend on each other; indexes come after what they name
        let (manifests, indexes): (Vec<&ManifestDocument>, Vec<&ManifestDocument>) =
            plan.documents.iter().partition(|document| document.as_manifest().is_some());
        parallel::each(&manifests, self.parallel(), |document| self.document(document))?;
        indexes.into_iter().try_for_each(|document| self.document(document))?;
        Ok(plan.documents.iter().map(|document| document.digest().clone()).collect())
    }

    /// Moves what is about `subjects` (signatures, attestations), and what is about that in turn. Gives their digests.
    ///
    /// # Errors
    /// The first error.
    pub fn referrers(&self, subjects: &[Digest]) -> Result<Vec<Digest>> {
        let mut seen: HashSet<Digest> = subjects.iter().cloned().collect();
        let mut todo: Vec<Digest> = subjects.to_vec();
        let mut moved = Vec::new();
        while let Some(subject) = todo.pop() {
            for descriptor in self.contents.referrers(&self.from, &subject)? {
                self.check_cancel()?;
                if !seen.insert(descriptor.digest.clone()) {
                    continue;
                }
                let mut found = self.contents.document(&self.from, &descriptor)?;
                self.tree(&found, &|_| true)?;
                found.descriptor.artifact_type = artifact_type(&found.document);
                let to = place_of(&self.to, found.document.digest());
                if to.registry().is_none() {
                    self.between(&self.from, &to).name(&found)?;
                }
                moved.push(descriptor.digest.clone());
                todo.push(descriptor.digest);
            }
        }
        Ok(moved)
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
                let children: Vec<&Descriptor> = index.manifests.iter().filter(|child| wanted(child)).collect();
                let read = Mutex::new(vec![None; children.len()]);
                let numbers: Vec<usize> = (0..children.len()).collect();
                parallel::each(&numbers, PARALLEL, |number| -> Result<()> {
                    self.check_cancel()?;
                    let child = self.contents.document(&self.from, children[*number])?;
                    read.lock().unwrap_or_else(PoisonError::into_inner)[*number] = Some(child);
                    Ok(())
                })?;
                for child in read.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten() {
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

    pub(super) fn check_cancel(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(ContentError::Interrupted) } else { Ok(()) }
    }

    /// Moves blobs, several at a time where the destination is no single file, and stops at the first error.
    ///
    /// # Errors
    /// The first error.
    pub(crate) fn blobs(&self, blobs: &[Descriptor]) -> Result<()> {
        parallel::each(blobs, self.parallel(), |blob| self.check_cancel().and_then(|()| self.blob(blob)))
    }

    /// A single file is written by one.
    fn parallel(&self) -> usize {
        if matches!(self.to, Location::Archive(_)) { 1 } else { PARALLEL }
    }

    fn blob(&self, blob: &Descriptor) -> Result<()> {
        let digest = blob.digest.clone();
        (self.events)(TransferEvent::Started { digest: digest.clone(), size: blob.size });
        let event = match &self.to {
            Location::Store(_) => self.blob_to_store(blob)?,
            Location::Registry(reference) => self.blob_to_registry(reference, blob)?,
            Location::Layout(name) => {
                let there = std::fs::metadata(layout::blob_path(&name.path, &digest));
                if there.is_ok_and(|file| file.len() == blob.size) {
                    TransferEvent::Existed { digest }
                } else {
                    self.blob_to_layout(&name.path, blob)?;
                    TransferEvent::Done { digest }
                }
            }
            Location::Archive(_) => {
                let mut packing = self.packing()?;
                match packing.as_mut() {
                    Some(packing) if !packing.has(&digest) => {
                        packing.blob(&digest, blob.size, &mut self.open(blob)?)?;
                        TransferEvent::Done { digest }
                    }
                    _ => TransferEvent::Existed { digest },
                }
            }
        };
        (self.events)(event);
        Ok(())
    }

    fn blob_to_registry(&self, to: &Reference, blob: &Descriptor) -> Result<TransferEvent> {
        let digest = blob.digest.clone();
        let mount_from: Vec<_> = match &self.from {
            Location::Registry(from) if from.domain() == to.domain() => vec![from.clone()],
            _ => Vec::new(),
        };
        if mount_from.iter().any(|from| from.repository() == to.repository()) {
            return Ok(TransferEvent::Existed { digest });
        }
        let source = self.source(blob)?;
        Ok(match self.contents.engine().client()?.push_blob(to, blob, &*source, &mount_from)? {
            Pushed::Existed => TransferEvent::Existed { digest },
            Pushed::Mounted => {
                let from = mount_from.first().map(|from| from.name_only().to_string()).unwrap_or_default();
                TransferEvent::Mounted { digest, from }
            }
            Pushed::Uploaded => TransferEvent::Done { digest },
        })
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        self.source(blob)?.open(0).map_err(|error| self.unreadable(&blob.digest, error))
    }

    fn unreadable(&self, digest: &Digest, source: io::Error) -> ContentError {
        onetag_registry::Error::Source { what: digest.to_string(), source }.into()
    }

    fn blob_to_store(&self, blob: &Descriptor) -> Result<TransferEvent> {
        let store = self.contents.engine().store()?;
        let digest = blob.digest.clone();
        let diff_id = self.unpacked.get(&digest);
        if store.blob_size(&digest) == Some(blob.size) {
            store.hold(&onetag_store::Resource::Blob(digest.clone()))?;
            if let Some(diff_id) = diff_id {
                store.ensure_layer(diff_id, &digest, &blob.media_type)?;
            }
            return Ok(TransferEvent::Existed { digest });
        }
        match diff_id {
            Some(diff_id) => fetch_unpacking(store, diff_id, blob, |writer| self.fetch_into(writer, blob))?,
            None => self.fetch_into(store.blob_writer_with(blob.digest.algorithm())?, blob)?,
        }
        Ok(TransferEvent::Done { digest })
    }

    fn blob_to_layout(&self, root: &Path, blob: &Descriptor) -> Result<()> {
        let Location::Registry(reference) = &self.from else {
            return Ok(layout::write(root, &blob.digest, &mut self.open(blob)?)?);
        };
        let file = BlobFile::create(root, &blob.digest)?;
        let mut sink = FileSink { file, blob, events: self.events, cancel: self.cancel };
        self.contents.engine().client()?.fetch_blob(reference, blob, &mut sink)?;
        Ok(sink.file.name()?)
    }

    fn fetch_into(&self, mut writer: BlobWriter, blob: &Descriptor) -> Result<()> {
        match &self.from {
            Location::Registry(reference) => match self.contents.known(reference, &blob.digest) {
                Some(bytes) => writer.write_all(&bytes).map_err(|error| self.unreadable(&blob.digest, error))?,
                None => {
                    let mut sink = FileSink { file: writer, blob, events: self.events, cancel: self.cancel };
                    self.contents.engine().client()?.fetch_blob(reference, blob, &mut sink)?;
                    writer = sink.file;
                }
            },
            Location::Store(_) | Location::Layout(_) | Location::Archive(_) => {
                let mut reader = self.open(blob)?;
                io::copy(&mut reader, &mut writer).map_err(|error| self.unreadable(&blob.digest, error))?;
            }
        }
        writer.finish(Some(&blob.digest), Some(blob.size))?;
        Ok(())
    }

    /// A blob to read more than once. Nothing of it is read here.
    fn source(&self, blob: &Descriptor) -> Result<Box<dyn BlobSource>> {
        let engine = self.contents.engine();
        let absent = || ContentError::NotFound { what: format!("{} of {}", blob.digest, self.from) };
        let path = match &self.from {
            Location::Layout(name) => layout::blob_path(&name.path, &blob.digest),
            Location::Store(_) => engine.store()?.blob_path(&blob.digest),
            Location::Archive(_) => return engine.archive(&self.from)?.source(&blob.digest).ok_or_else(absent),
            Location::Registry(from) => return Ok(Box::new(Relay::new(engine.client()?, from, blob, self.cancel))),
        };
        if !path.exists() {
            return Err(absent());
        }
        Ok(Box::new(FileSource { path, size: blob.size }))
    }
}

#[derive(Default)]
struct Plan {
    seen: HashSet<Digest>,
    blobs: Vec<Descriptor>,
    documents: Vec<ManifestDocument>,
}
