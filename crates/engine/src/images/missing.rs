//! What is not here of an image that is held in part, and getting it from where it came.

use std::fmt;

use onetag_oci::{Descriptor, Digest, Platform, Reference};
use onetag_solver::Cancellation;
use onetag_store::Store;

use super::Result;
use super::find::LocalImage;
use super::presence::{ATTESTED, Entry, entries};
use crate::Engine;
use crate::content::{ContentError, Contents, Found, Location, Transfer, TransferEvent};

/// A part of an image that is not here, or not all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Missing {
    /// Its manifest, as the index has it.
    pub descriptor: Descriptor,
    /// Its platform; of an attestation, the platform that it is about.
    pub platform: Option<Platform>,
    /// Whether it is an attestation.
    pub is_attestation: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_attestation {
            formatter.write_str("what is attested of ")?;
        }
        match &self.platform {
            Some(platform) => platform.fmt(formatter),
            None => self.descriptor.digest.fmt(formatter),
        }
    }
}

/// Everything of an image that is not here, in the order of its index.
///
/// # Errors
/// When a document that is here cannot be read.
pub fn missing(store: &Store, image: &LocalImage) -> Result<Vec<Missing>> {
    let entries = entries(store, &image.descriptor)?;
    let absent = entries.iter().filter(|entry| !is_here(entry));
    Ok(absent.map(|entry| part(entry, &entries)).collect())
}

/// Whether an entry can be moved as it is.
pub(super) fn is_here(entry: &Entry) -> bool {
    entry.manifest.is_some() && entry.missing_layers == 0 && (entry.is_attestation || entry.config.is_some())
}

/// The platform of an entry, of an attestation the one that it is about.
pub(super) fn platform_of(entry: &Entry, entries: &[Entry]) -> Option<Platform> {
    let subject = entry.descriptor.annotations.get(ATTESTED).filter(|_| entry.is_attestation);
    let subject: Option<Digest> = subject.and_then(|subject| subject.parse().ok());
    let about = entries.iter().find(|other| Some(&other.descriptor.digest) == subject.as_ref());
    let of = if entry.is_attestation { about } else { Some(entry) };
    of.and_then(|of| of.platform.as_ref()).map(Platform::normalize)
}

fn part(entry: &Entry, entries: &[Entry]) -> Missing {
    let platform = platform_of(entry, entries);
    Missing { descriptor: entry.descriptor.clone(), platform, is_attestation: entry.is_attestation }
}

/// Gets parts from the registries of the image's names into the store. Gives those that none of them has.
///
/// # Errors
/// What breaks while a part that a registry has is fetched.
pub fn fetch(
    engine: &Engine,
    image: &LocalImage,
    parts: &[Missing],
    cancel: &Cancellation,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Vec<Missing>> {
    let contents = Contents::new(engine);
    let mut left = Vec::new();
    for part in parts {
        let Some((source, found)) = source(&contents, image, part, |_| true) else {
            left.push(part.clone());
            continue;
        };
        let (from, to) = (Location::Registry(source.clone()), Location::Store(source));
        Transfer::new(contents, &from, &to, cancel, events).tree(&found, &|_| true)?;
    }
    Ok(left)
}

/// The first registry, of those that the image's names tell and `is_allowed`, that has a part.
pub(crate) fn source(
    contents: &Contents<'_>,
    image: &LocalImage,
    part: &Missing,
    is_allowed: impl Fn(&Reference) -> bool,
) -> Option<(Reference, Found)> {
    let names = image.references().filter(is_allowed);
    names.map(|name| name.name_only()).find_map(|repository| {
        // a registry that is not there, or does not have it, is not the one
        let found: std::result::Result<Found, ContentError> =
            contents.document(&Location::Registry(repository.clone()), &part.descriptor);
        Some((repository, found.ok()?))
    })
}
