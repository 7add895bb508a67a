//! Manifests that are about another: signatures, attestations, bills of materials.

use std::collections::HashSet;

use onetag_oci::{DEFAULT_DOCUMENT_LIMIT, Descriptor, Digest, ManifestDocument, Reference};

use super::layout;
use super::location::{ArchiveName, Location};
use super::reader::Contents;
use super::{LayoutName, Result};

/// Endings of tags under which cosign keeps what is about an image: `sha256-<hex>.sig`.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

impl Contents<'_> {
    /// Manifests whose subject is `subject`: by a registry's list, else among what the layout, archive or store names.
    ///
    /// # Errors
    /// When they cannot be listed. None are no error.
    pub fn referrers(&self, location: &Location, subject: &Digest) -> Result<Vec<Descriptor>> {
        match location {
            Location::Registry(reference) => Ok(self.engine().client()?.referrers(reference, subject, None)?),
            Location::Layout(name) => self.among(location, subject, layout::index(&name.path)?.manifests),
            Location::Archive(_) => {
                self.among(location, subject, self.engine().archive(location)?.index.manifests.clone())
            }
            Location::Store(reference) => {
                let is_near = |name: &String| {
                    Reference::parse(name).is_ok_and(|name| name.repository() == reference.repository())
                };
                let known = self.engine().store()?.references()?;
                let near = known.into_iter().filter(|(name, _)| is_near(name)).map(|(_, descriptor)| descriptor);
                self.among(location, subject, near.collect())
            }
        }
    }

    fn among(&self, location: &Location, subject: &Digest, entries: Vec<Descriptor>) -> Result<Vec<Descriptor>> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for mut entry in entries {
            if !seen.insert(entry.digest.clone()) || entry.size > DEFAULT_DOCUMENT_LIMIT as u64 {
                continue;
            }
            let document = match self.document(location, &entry) {
                Ok(found) => found.document,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            if subject_of(&document).is_some_and(|about| about.digest == *subject) {
                entry.artifact_type = artifact_type(&document);
                entry.annotations.remove(onetag_store::REF_NAME);
                entry.annotations.remove(onetag_store::IMAGE_NAME);
                found.push(entry);
            }
        }
        Ok(found)
    }

    /// Tags of a registry by which cosign finds signatures of a digest, as far as they exist.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub fn cosign_tags(&self, location: &Location, subject: &Digest) -> Result<Vec<String>> {
        let Location::Registry(reference) = location else { return Ok(Vec::new()) };
        let mut tags = Vec::new();
        for ending in COSIGN {
            let tag = format!("{}-{}.{ending}", subject.algorithm().name(), subject.encoded());
            let Ok(name) = reference.name_only().with_tag(&tag) else { continue };
            match self.resolve(&Location::Registry(name)) {
                Ok(_) => tags.push(tag),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tags)
    }
}

/// What a document is about.
fn subject_of(document: &ManifestDocument) -> Option<&Descriptor> {
    match document {
        ManifestDocument::Index(index) => index.subject.as_ref(),
        ManifestDocument::Manifest(manifest) => manifest.subject.as_ref(),
    }
}

/// The kind of thing a document is, as lists of referrers tell it.
pub(super) fn artifact_type(document: &ManifestDocument) -> Option<String> {
    match document {
        ManifestDocument::Index(index) => index.artifact_type.clone(),
        ManifestDocument::Manifest(manifest) => {
            let own = manifest.artifact_type.clone().filter(|own| !own.is_empty());
            Some(own.unwrap_or_else(|| manifest.config.media_type.clone()))
        }
    }
}

/// The name under which a place keeps what is about an image, so that its readers find it.
pub(super) fn place_of(location: &Location, digest: &Digest) -> Location {
    let unnamed = |place: &LayoutName| LayoutName { name: None, digest: None, ..place.clone() };
    match location {
        Location::Registry(reference) => Location::Registry(reference.name_only().with_digest(digest.clone())),
        Location::Store(reference) => Location::Store(reference.name_only().with_digest(digest.clone())),
        Location::Layout(place) => Location::Layout(unnamed(place)),
        Location::Archive(archive) => {
            Location::Archive(ArchiveName { place: unnamed(&archive.place), ..archive.clone() })
        }
    }
}
