//! Pushes local images: blobs, manifests, index, tag.

use onetag_oci::{Descriptor, Platform, Reference};
use onetag_solver::Cancellation;
use thiserror::Error;

use crate::Engine;
use crate::content::{ContentError, Contents, Found, Location, Transfer, TransferEvent};
use crate::images::{ImageError, LocalImage, choose, entries, find};
use crate::platforms::listed;

/// What was pushed.
#[derive(Clone, Debug)]
pub struct PushedImage {
    /// The name that means it now.
    pub reference: Reference,
    /// What it means: index, or manifest when one platform was pushed.
    pub descriptor: Descriptor,
}

/// Why a push failed.
#[derive(Debug, Error)]
pub enum PushError {
    /// Parts of the image are not here.
    #[error("{name} is here in part: missing {}", listed(missing))]
    Partial {
        /// The image.
        name: String,
        /// The platforms whose content is not here.
        missing: Vec<Platform>,
        /// The platforms that are here.
        here: Vec<Platform>,
    },
    /// There is no such image or platform.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The content could not be read or written.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl From<onetag_store::Error> for PushError {
    fn from(error: onetag_store::Error) -> Self {
        Self::Content(error.into())
    }
}

/// Pushes the image that the store has under `reference`, whole, or one platform of it as an image of its own.
///
/// # Errors
/// [`PushError::Partial`] before anything moves; otherwise the first error. The tag is moved last.
pub fn push(
    engine: &Engine,
    reference: &Reference,
    platform: Option<&Platform>,
    cancel: &Cancellation,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<PushedImage, PushError> {
    let reference = reference.clone().with_default_tag();
    let store = engine.store()?;
    let image = find(store, &reference.to_string())?;
    let contents = Contents::new(engine);
    let (from, to) = (Location::Store(reference.clone()), Location::Registry(reference.clone()));
    let found = match platform {
        Some(platform) => contents.document(&from, &choose(store, &image, Some(platform))?.entry.descriptor)?,
        None => whole(engine, &image, &contents, &from)?,
    };
    let transfer = Transfer::new(contents, &from, &to, cancel, events);
    transfer.tree(&found, &|_| true)?;
    transfer.name(&found)?;
    let descriptor = Descriptor::new(
        found.document.media_type(),
        found.document.digest().clone(),
        found.document.bytes().len() as u64,
    );
    Ok(PushedImage { reference, descriptor })
}

fn whole(engine: &Engine, image: &LocalImage, contents: &Contents<'_>, from: &Location) -> Result<Found, PushError> {
    let entries = entries(engine.store()?, &image.descriptor)?;
    let is_here = |entry: &&crate::images::Entry| {
        entry.missing_layers == 0 && entry.manifest.is_some() && (entry.is_complete() || entry.is_attestation)
    };
    let platforms = |entries: Vec<&crate::images::Entry>| -> Vec<Platform> {
        entries
            .iter()
            .map(|entry| entry.platform.clone().unwrap_or_else(|| Platform::new("unknown", "unknown")))
            .collect()
    };
    let (here, missing): (Vec<_>, Vec<_>) = entries.iter().partition(is_here);
    if !missing.is_empty() {
        let here = here.into_iter().filter(|entry| !entry.is_attestation).collect();
        let name = image.asked.clone();
        return Err(PushError::Partial { name, missing: platforms(missing), here: platforms(here) });
    }
    Ok(contents.document(from, &image.descriptor)?)
}
