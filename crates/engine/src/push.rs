//! Pushes local images: blobs, manifests, index, tag.

use onetag_oci::{Descriptor, Platform, Reference};
use onetag_solver::Cancellation;
use onetag_store::Resource;
use thiserror::Error;

use crate::Engine;
use crate::content::{ContentError, Contents, Found, Location, Transfer, TransferEvent};
use crate::images::{Chosen, ImageError, LocalImage, Missing, choose, entries, find, missing, source};
use crate::index::{CreateEvent, CreateRequest, IndexError, SourceName, create, plan};

/// What is pushed.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The name of the image, here and there.
    pub reference: Reference,
    /// One platform as an image of its own in place of the whole, or several as a smaller index.
    pub platforms: Vec<Platform>,
    /// Whether what is not here may be fetched from other registries that have it.
    pub fetches_missing: bool,
}

/// What was pushed.
#[derive(Clone, Debug)]
pub struct PushedImage {
    /// The name that means it now.
    pub reference: Reference,
    /// What it means: index, or manifest when one platform was pushed. A smaller index has another digest.
    pub descriptor: Descriptor,
    /// Parts that are not here, and the repository that they were taken from; `None` where the target had them.
    pub elsewhere: Vec<(Missing, Option<Reference>)>,
}

/// Why a push failed.
#[derive(Debug, Error)]
pub enum PushError {
    /// Parts of the image are not here.
    #[error("{name} is here in part, and the registry does not have the rest: missing {}", joined(missing))]
    Partial {
        /// The image.
        name: String,
        /// What neither the store nor the registry has.
        missing: Vec<Missing>,
        /// The platforms that are here.
        here: Vec<Platform>,
        /// Names of the image in other repositories, which may have the rest.
        others: Vec<Reference>,
    },
    /// There is no such image or platform.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The content could not be read or written.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The smaller index could not be made.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl From<onetag_store::Error> for PushError {
    fn from(error: onetag_store::Error) -> Self {
        Self::Content(error.into())
    }
}

/// Parts as a sentence has them.
fn joined(parts: &[Missing]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Pushes the image that the store has under a name: whole, one platform of it as an image of its own, or several as a
/// smaller index. What is not here of the whole has to be in the target's repository, elsewhere in its registry, or where it may be fetched from.
///
/// # Errors
/// [`PushError::Partial`] before anything moves; otherwise the first error. The tag is moved last.
pub fn push(
    engine: &Engine,
    request: &PushRequest,
    cancel: &Cancellation,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<PushedImage, PushError> {
    let reference = request.reference.clone().with_default_tag();
    let store = engine.store()?;
    let image = find(store, &reference.to_string())?;
    // what is pushed is not collected meanwhile
    store.hold(&Resource::Blob(image.descriptor.digest.clone()))?;
    let contents = Contents::new(engine);
    let (from, to) = (Location::Store(reference.clone()), Location::Registry(reference.clone()));
    let chosen = request
        .platforms
        .iter()
        .map(|platform| choose(store, &image, Some(platform)))
        .collect::<Result<Vec<_>, _>>()?;
    let (found, absent) = match chosen.as_slice() {
        [only] => (contents.document(&from, &only.entry.descriptor)?, Vec::new()),
        [_, ..] => return smaller(engine, reference, &from, &to, &chosen, cancel, events),
        [] => {
            let absent = elsewhere(&contents, &image, &reference, request.fetches_missing)?;
            (contents.document(&from, &image.descriptor)?, absent)
        }
    };
    let transfer = Transfer::new(contents, &from, &to, cancel, events);
    let mut elsewhere = Vec::new();
    for (part, source) in absent {
        if let Some((source, found)) = &source {
            transfer.between(&Location::Registry(source.clone()), &to).tree(found, &|_| true)?;
        }
        elsewhere.push((part, source.map(|(source, _)| source)));
    }
    transfer.tree(&found, &|child| elsewhere.iter().all(|(part, _)| part.descriptor.digest != child.digest))?;
    transfer.name(&found)?;
    let descriptor = Descriptor::new(
        found.document.media_type(),
        found.document.digest().clone(),
        found.document.bytes().len() as u64,
    );
    Ok(PushedImage { reference, descriptor, elsewhere })
}

/// Pushes a smaller index of platforms that are here.
fn smaller(
    engine: &Engine,
    reference: Reference,
    from: &Location,
    to: &Location,
    chosen: &[Chosen],
    cancel: &Cancellation,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<PushedImage, PushError> {
    let request = CreateRequest {
        sources: vec![SourceName::at(from.clone())],
        tags: vec![to.clone()],
        prefer_index: true,
        platforms: chosen.iter().map(|chosen| chosen.platform.clone()).collect(),
        ..CreateRequest::default()
    };
    let created = plan(engine, &request)?;
    let forward = |event| {
        if let CreateEvent::Transfer(event) = event {
            events(event);
        }
    };
    create(engine, &created, &request.tags, cancel, &forward)?;
    Ok(PushedImage { reference, descriptor: created.combined.descriptor, elsewhere: Vec::new() })
}

/// A part that is not here, and where it is to be taken from, unless the target has it.
type Elsewhere = (Missing, Option<(Reference, Found)>);

/// Where everything is that is not here: in the target's repository already, else in another one.
fn elsewhere(
    contents: &Contents<'_>,
    image: &LocalImage,
    target: &Reference,
    fetches: bool,
) -> Result<Vec<Elsewhere>, PushError> {
    let engine = contents.engine();
    let absent = missing(engine.store()?, image)?;
    let mut found = Vec::new();
    let mut nowhere = Vec::new();
    for part in absent {
        let there = target.without_tag().with_digest(part.descriptor.digest.clone());
        match engine.client().map_err(ContentError::from)?.resolve(&there) {
            Ok(_) => {
                found.push((part, None));
                continue;
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(ContentError::from(error).into()),
        }
        // what another repository of the same registry has need not pass through here
        let is_allowed = |name: &Reference| {
            name.repository() != target.repository() && (fetches || name.domain() == target.domain())
        };
        match source(contents, image, &part, is_allowed) {
            Some(source) => found.push((part, Some(source))),
            None => nowhere.push(part),
        }
    }
    if nowhere.is_empty() {
        return Ok(found);
    }
    let entries = entries(engine.store()?, &image.descriptor)?;
    let here = entries.iter().filter(|entry| !entry.is_attestation && entry.is_complete());
    let here = here.filter_map(|entry| entry.platform.as_ref().map(Platform::normalize)).collect();
    let others = image.references().filter(|name| name.repository() != target.repository()).collect();
    Err(PushError::Partial { name: image.asked.clone(), missing: nowhere, here, others })
}
