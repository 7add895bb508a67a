//! The writing half of a move: documents, names, and what a destination can hold.

use std::sync::{MutexGuard, PoisonError};

use onetag_oci::{Descriptor, ManifestDocument, Reference};

use super::layout;
use super::location::{ArchiveKind, ArchiveName, Location};
use super::packing::Packing;
use super::reader::Found;
use super::transfer::Transfer;
use super::{ArchiveError, ContentError, Result};

impl Transfer<'_> {
    /// Offers an index to the destination without its children, to learn whether it takes such; the index stays there,
    /// without a name. Layouts, archives and the store take it always.
    ///
    /// # Errors
    /// When the destination refuses it.
    pub fn offer(&self, found: &Found) -> Result<()> {
        match &self.to {
            Location::Registry(_) => self.document(&found.document),
            _ => Ok(()),
        }
    }

    /// Whether the destination can hold such a document at all; to be asked before anything moves.
    ///
    /// # Errors
    /// When it cannot, with the reason.
    pub fn check(&self, found: &Found) -> Result<()> {
        let not = |problem| ContentError::NotWritable { location: self.to.to_string(), problem };
        match &self.to {
            Location::Archive(ArchiveName { kind: ArchiveKind::Docker, place })
                if found.document.as_index().is_some() =>
            {
                Err(ArchiveError::NoIndex { path: place.path.clone() }.into())
            }
            Location::Archive(ArchiveName { place, .. }) if place.path.is_dir() => Err(not("it is a folder")),
            to => match to.digest() {
                Some(digest) if digest != found.document.digest() => {
                    Err(not("the digest in its name is not that of the image"))
                }
                _ => Ok(()),
            },
        }
    }

    /// Ends what is written as one file. MUST be called after the last name is given; elsewhere it does nothing.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn finish(&self) -> Result<()> {
        let packing = self.packing.lock().unwrap_or_else(PoisonError::into_inner).take();
        packing.map_or(Ok(()), |packing| Ok(packing.finish()?))
    }

    /// The archive being written, begun where it has not been.
    pub(super) fn packing(&self) -> Result<MutexGuard<'_, Option<Packing>>> {
        let mut packing = self.packing.lock().unwrap_or_else(PoisonError::into_inner);
        if packing.is_none()
            && let Location::Archive(ArchiveName { kind, place }) = &self.to
        {
            *packing = Some(Packing::begin(*kind, &place.path)?);
        }
        Ok(packing)
    }

    /// Writes a small blob that is at hand.
    ///
    /// # Errors
    /// When the destination does not take it.
    pub(crate) fn put_blob(&self, blob: &Descriptor, bytes: &[u8]) -> Result<()> {
        self.check_cancel()?;
        let engine = self.contents.engine();
        match &self.to {
            Location::Store(_) => drop(engine.store()?.put_document(bytes)?),
            Location::Registry(reference) => {
                engine.client()?.push_blob(reference, blob, &bytes.to_vec(), &[])?;
            }
            Location::Layout(name) => layout::write(&name.path, &blob.digest, &mut &*bytes)?,
            Location::Archive(_) => {
                if let Some(packing) = self.packing()?.as_mut() {
                    packing.blob(&blob.digest, blob.size, &mut &*bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Writes a document without a name; what it names MUST be there.
    ///
    /// # Errors
    /// When the destination does not take it.
    pub(crate) fn document(&self, document: &ManifestDocument) -> Result<()> {
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
            Location::Archive(_) => {
                if let Some(packing) = self.packing()?.as_mut() {
                    packing.blob(document.digest(), document.bytes().len() as u64, &mut document.bytes())?;
                }
            }
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
        descriptor.artifact_type = found.descriptor.artifact_type.clone();
        match &self.to {
            Location::Store(reference) => {
                self.contents.engine().store()?.set_reference(&reference.to_string(), descriptor)?
            }
            Location::Registry(reference) => self.tag(reference, &found.document)?,
            Location::Layout(name) => layout::set(&name.path, name.name.as_deref(), &descriptor)?,
            Location::Archive(archive) => {
                if let Some(packing) = self.packing()?.as_mut() {
                    packing.name(archive.place.name.as_deref(), &descriptor, &found.document)?;
                }
            }
        }
        Ok(())
    }

    /// Gives a tag of a registry to a document. A registry that keeps its tags as they are refuses; where the tag means
    /// the document already, that is as good.
    fn tag(&self, reference: &Reference, document: &ManifestDocument) -> Result<()> {
        let client = self.contents.engine().client()?;
        let refused = match client.push_manifest(reference, document.bytes(), document.media_type()) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let is_final = match &refused {
            onetag_registry::Error::Status { status, .. } => status.is_client_error(),
            error => matches!(error, onetag_registry::Error::Denied { .. }),
        };
        if reference.tag().is_none() || !is_final {
            return Err(refused.into());
        }
        match client.resolve(&reference.without_digest()) {
            Ok(there) if there.digest == *document.digest() => Ok(()),
            Ok(there) => Err(ContentError::TagRefused {
                name: reference.to_string(),
                means: there.digest,
                wanted: document.digest().clone(),
                source: refused,
            }),
            Err(_) => Err(refused.into()),
        }
    }
}
