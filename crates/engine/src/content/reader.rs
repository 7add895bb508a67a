//! Reads manifests, indexes, configs and small blobs from wherever they are.

use std::io::Write;

use onetag_oci::{
    DEFAULT_DOCUMENT_LIMIT, Descriptor, Digest, Document, ImageConfig, Manifest, ManifestDocument, Reference,
    media_type,
};
use onetag_store::{BlobWriter, Store};

use super::known::KnownDocuments;
use super::layout;
use super::location::{ArchiveName, Location};
use super::{ContentError, Result};
use crate::Engine;
use crate::layers::StoreSink;

/// A manifest or index with what describes it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// The document, exact bytes beside the parsed form.
    pub document: ManifestDocument,
}

/// Read access to images wherever they are.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    engine: &'a Engine,
    known: Option<&'a KnownDocuments>,
}

impl<'a> Contents<'a> {
    /// Through this engine's client and store.
    pub fn new(engine: &'a Engine) -> Self {
        Self { engine, known: None }
    }

    /// The same that asks registries for no document that is among `known`, and adds to it what they give.
    #[must_use]
    pub fn remembering(self, known: &'a KnownDocuments) -> Self {
        Self { known: Some(known), ..self }
    }

    /// The engine.
    pub fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// What a name means, without its content where that can be told.
    ///
    /// # Errors
    /// [`ContentError::NotFound`] and whatever else keeps it from being read.
    pub fn resolve(&self, location: &Location) -> Result<Descriptor> {
        match location {
            Location::Registry(reference) => Ok(self.engine.client()?.resolve(reference)?),
            _ => self.find(location).map(|found| found.descriptor),
        }
    }

    /// The manifest or index that a name means.
    ///
    /// # Errors
    /// As [`Contents::resolve`].
    pub fn find(&self, location: &Location) -> Result<Found> {
        let absent = || ContentError::NotFound { what: location.to_string() };
        match location {
            Location::Registry(reference) => {
                let document = self.engine.client()?.manifest(reference)?;
                Ok(Found { descriptor: document.descriptor(), document })
            }
            Location::Store(reference) => {
                let store = self.engine.store()?;
                let descriptor = stored(store, reference)?.ok_or_else(absent)?;
                self.document(location, &descriptor)
            }
            Location::Layout(name) => {
                let descriptor = match &name.digest {
                    Some(digest) => {
                        let size =
                            std::fs::metadata(layout::blob_path(&name.path, digest)).map_or(0, |file| file.len());
                        Descriptor::new(String::new(), digest.clone(), size)
                    }
                    None => layout::find(&name.path, name.name.as_deref())?.ok_or_else(absent)?,
                };
                self.document(location, &descriptor)
            }
            Location::Archive(ArchiveName { place, .. }) => {
                let view = self.engine.archive(location)?;
                let descriptor = match &place.digest {
                    Some(digest) => Descriptor::new(String::new(), digest.clone(), view.size(digest).unwrap_or(0)),
                    None => layout::find_in(&view.index, &place.path, place.name.as_deref())?.ok_or_else(absent)?,
                };
                self.document(location, &descriptor)
            }
        }
    }

    /// The manifest or index of a descriptor found at `location`.
    ///
    /// # Errors
    /// As [`Contents::resolve`].
    pub fn document(&self, location: &Location, descriptor: &Descriptor) -> Result<Found> {
        let document = match location {
            Location::Registry(reference) => match self.known(reference, &descriptor.digest) {
                Some(bytes) => parse(bytes, descriptor)?,
                None => {
                    let exact = reference.without_tag().with_digest(descriptor.digest.clone());
                    let document = self.engine.client()?.manifest(&exact)?;
                    self.remember(reference, &descriptor.digest, document.bytes());
                    document
                }
            },
            _ => parse(self.blob(location, descriptor, DEFAULT_DOCUMENT_LIMIT as u64)?, descriptor)?,
        };
        hold_to(descriptor, &document)?;
        let mut descriptor = descriptor.clone();
        descriptor.size = document.bytes().len() as u64;
        if descriptor.media_type.is_empty() || !matches!(location, Location::Registry(_)) {
            descriptor.media_type = document.media_type().to_owned();
        }
        Ok(Found { descriptor, document })
    }

    /// A blob of at most `limit` bytes, verified.
    ///
    /// # Errors
    /// When it is absent, larger, or not what its digest says.
    pub fn blob(&self, location: &Location, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if descriptor.size > limit {
            return Err(ContentError::TooLarge { digest: descriptor.digest.clone(), size: descriptor.size, limit });
        }
        match location {
            Location::Registry(reference) => {
                let mut content = Vec::new();
                self.engine.client()?.fetch_blob(reference, descriptor, &mut content)?;
                Ok(content)
            }
            Location::Store(_) => Ok(self.engine.store()?.read_blob(&descriptor.digest, limit)?),
            Location::Layout(name) => Ok(layout::read(&name.path, &descriptor.digest)?),
            Location::Archive(_) => {
                let read = self.engine.archive(location)?.read(&descriptor.digest, limit)?;
                read.ok_or_else(|| ContentError::NotFound { what: descriptor.digest.to_string() })
            }
        }
    }

    /// Writes what a repository has under a digest, a blob or a document, as it comes. Whoever finishes the writer
    /// verifies it.
    ///
    /// # Errors
    /// When the repository does not have it, or it cannot be written.
    pub fn write(&self, repository: &Reference, descriptor: &Descriptor, writer: &mut BlobWriter) -> Result<()> {
        writer.restart()?;
        let Err(error) = self.engine.client()?.fetch_blob(repository, descriptor, &mut StoreSink(writer)) else {
            return Ok(());
        };
        // a manifest is no blob to registries
        let Ok(found) = self.document(&Location::Registry(repository.clone()), descriptor) else {
            return Err(error.into());
        };
        writer.restart()?;
        let what = || descriptor.digest.to_string();
        let sink_error = |source| onetag_registry::Error::Sink { what: what(), source };
        Ok(writer.write_all(found.document.bytes()).map_err(sink_error)?)
    }

    /// An image's configuration.
    ///
    /// # Errors
    /// When it is absent or no image configuration.
    pub fn config(&self, location: &Location, manifest: &Manifest) -> Result<Document<ImageConfig>> {
        let digest = &manifest.config.digest;
        let bytes = match location.registry().and_then(|reference| self.known(reference, digest)) {
            Some(bytes) => bytes,
            None => {
                let bytes = self.blob(location, &manifest.config, DEFAULT_DOCUMENT_LIMIT as u64)?;
                location.registry().into_iter().for_each(|reference| self.remember(reference, digest, &bytes));
                bytes
            }
        };
        Document::parse(bytes)
            .map_err(|source| ContentError::Document { what: manifest.config.digest.to_string(), source })
    }

    /// What a repository gave before.
    pub(super) fn known(&self, reference: &Reference, digest: &Digest) -> Option<Vec<u8>> {
        self.known?.get(&reference.repository(), digest)
    }

    fn remember(&self, reference: &Reference, digest: &Digest, bytes: &[u8]) {
        if let Some(known) = self.known {
            known.put(&reference.repository(), digest, bytes);
        }
    }
}

fn parse(bytes: Vec<u8>, descriptor: &Descriptor) -> Result<ManifestDocument> {
    let hint = Some(descriptor.media_type.as_str()).filter(|media_type| !media_type.is_empty());
    ManifestDocument::parse(bytes, hint)
        .map_err(|source| ContentError::Document { what: descriptor.digest.to_string(), source })
}

/// Holds a document to what a descriptor says of it, as far as the descriptor says anything.
fn hold_to(descriptor: &Descriptor, document: &ManifestDocument) -> Result<()> {
    let (digest, said, actual) = (descriptor.digest.clone(), descriptor.size, document.bytes().len() as u64);
    if said != 0 && said != actual {
        return Err(ContentError::SizeMismatch { digest, said, actual });
    }
    let said = &descriptor.media_type;
    let is_other = match document {
        ManifestDocument::Index(_) => media_type::is_manifest(said),
        ManifestDocument::Manifest(_) => media_type::is_index(said),
    };
    if is_other {
        let (said, actual) = (said.clone(), document.media_type().to_owned());
        return Err(ContentError::MediaTypeMismatch { digest, said, actual });
    }
    Ok(())
}

/// What a reference means in the store: a name, or content that is there under its digest.
pub fn stored(store: &Store, reference: &Reference) -> Result<Option<Descriptor>> {
    if let Some(descriptor) = store.reference(&reference.to_string())? {
        return Ok(Some(descriptor));
    }
    let Some(digest) = reference.digest() else { return Ok(None) };
    if let Some(descriptor) = store.reference(&reference.without_tag().to_string())? {
        return Ok(Some(descriptor));
    }
    Ok(by_digest(store, digest))
}

/// A stored document by its digest, its media type left open.
fn by_digest(store: &Store, digest: &Digest) -> Option<Descriptor> {
    let size = store.blob_size(digest)?;
    Some(Descriptor::new(String::new(), digest.clone(), size))
}
