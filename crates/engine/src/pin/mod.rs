//! Digests behind tags: in Dockerfiles, compose files and Kubernetes objects, or in a lock file beside them.
//!
//! What is written is the digest of the index, so that one line serves all platforms. Texts are edited by bytes and
//! never written out anew; nothing is written when one name cannot be resolved.

mod change;
mod decide;
mod edit;
mod lock;
mod lookup;
mod occurrence;
mod source;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use onetag_dockerfile::images::ImageOptions;
use onetag_oci::{Digest, Platform, Reference};

use crate::Engine;

pub use change::{Change, ImageChange, ImageFacts};
pub use decide::{PinFailure, Status};
pub use edit::{Edit, apply, diff};
pub use lock::{LOCK_NAME, Lock, LockContentError, LockError, LockedImage};
pub use lookup::Target;
pub use occurrence::{Occurrence, Reason};
pub use source::{Source, SourceError, SourceKind};
pub use yaml::YamlError;

use decide::{Decider, by_digest};
use lookup::Lookup;
use source::{Replacement, replace};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinMode {
    /// Names without a digest get one; the others stay.
    Pin,
    /// All get the digest that their tag stands for now.
    Update,
    /// Nothing changes; faults are told.
    Check,
}

/// What `pin` is asked to do.
#[derive(Clone, Debug)]
pub struct PinRequest {
    /// The files.
    pub sources: Vec<Source>,
    /// What is to be done with them.
    pub mode: PinMode,
    /// Pinning: the one platform whose manifest is pinned in place of the index. Checking: the platforms of the build.
    pub platforms: Vec<Platform>,
    /// Build arguments and named contexts.
    pub options: ImageOptions,
    /// Images that are left alone: repositories or references.
    pub except: Vec<Reference>,
    /// The lock file that holds the digests; None writes them into the files.
    pub lock: Option<PathBuf>,
}

/// What came of it. Nothing is written yet.
#[derive(Debug)]
pub struct PinOutcome {
    /// The files, in their order.
    pub files: Vec<PinnedFile>,
    /// The lock file.
    pub lock: Option<PinnedLock>,
}

/// A file with what it becomes.
#[derive(Debug)]
pub struct PinnedFile {
    /// The file as it was read.
    pub source: Source,
    /// Its new content; the old one where nothing changes.
    pub content: Vec<u8>,
    /// The images that it names, with what became of them.
    pub images: Vec<PinnedImage>,
}

/// An image with what became of it.
#[derive(Clone, Debug)]
pub struct PinnedImage {
    /// Where it is named.
    pub occurrence: Occurrence,
    /// What became of it.
    pub status: Status,
}

/// A lock file with what it becomes.
#[derive(Debug)]
pub struct PinnedLock {
    /// The file.
    pub path: PathBuf,
    /// What it held; None where there is none yet.
    pub old: Option<Vec<u8>>,
    /// What it becomes.
    pub content: Vec<u8>,
    /// Names that no file has any more.
    pub unused: Vec<String>,
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// A file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The lock file.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The registries' client or the store.
    #[error(transparent)]
    Content(#[from] crate::content::ContentError),
}

impl Engine {
    /// Looks up what the files name and decides what each becomes. Changes nothing; see [`PinOutcome::write`].
    ///
    /// # Errors
    /// A file or the lock file cannot be read. Names that cannot be resolved are in the outcome.
    pub fn pin(&self, request: &PinRequest) -> Result<PinOutcome, PinError> {
        let mut found = Vec::with_capacity(request.sources.len());
        for source in &request.sources {
            found.push(source.occurrences(&request.options)?);
        }
        let (old, locked) = match &request.lock {
            Some(path) if request.mode == PinMode::Check || path.exists() => {
                let lock = Lock::read(path)?;
                (std::fs::read(path).ok(), Some(lock))
            }
            Some(_) => (None, Some(Lock::default())),
            None => (None, None),
        };
        let pins = Pins { request, locked: locked.as_ref() };
        let mut lookup = Lookup::new(self);
        let all = || found.iter().flatten();
        lookup.ask(all().filter_map(|occurrence| pins.tag_to_ask(occurrence)).collect());
        let digests: BTreeSet<Reference> =
            all().filter_map(|occurrence| pins.digest_to_ask(occurrence, &lookup)).collect();
        lookup.ask(digests);
        let decider = Decider { request, lookup: &lookup };
        let mut files = Vec::with_capacity(found.len());
        for (source, occurrences) in request.sources.iter().zip(&found) {
            // Changes are looked into by asking for more, hence at the same time.
            let statuses = lookup::in_parallel(occurrences, |occurrence| pins.status(&decider, occurrence));
            let images = occurrences.iter().cloned().zip(statuses);
            let images = images.map(|(occurrence, status)| PinnedImage { occurrence, status }).collect();
            files.push(PinnedFile::new(source.clone(), images, request.lock.is_none()));
        }
        let lock =
            request.lock.clone().zip(locked.as_ref()).map(|(path, locked)| pinned_lock(path, old, locked, &files));
        Ok(PinOutcome { files, lock })
    }
}

/// What is pinned at present, and what has to be asked.
struct Pins<'a> {
    request: &'a PinRequest,
    locked: Option<&'a Lock>,
}

impl Pins<'_> {
    /// Why an image is left alone, or its name.
    fn subject<'o>(&self, occurrence: &'o Occurrence) -> Result<&'o Reference, Reason> {
        let reference = occurrence.reference.as_ref().map_err(Clone::clone)?;
        let is_excepted = |except: &Reference| {
            except.repository() == reference.repository()
                && (except.tag().is_none() || except.tag() == reference.tag())
                && (except.digest().is_none() || except.digest() == reference.digest())
        };
        if self.request.except.iter().any(is_excepted) {
            return Err(Reason::Excepted);
        }
        if self.locked.is_none()
            && let Err(reason) = &occurrence.site
        {
            return Err(reason.clone());
        }
        let follows_no_tag = reference.digest().is_some() && reference.tag().is_none();
        if follows_no_tag && self.request.mode != PinMode::Check {
            return Err(Reason::NoTag);
        }
        Ok(reference)
    }

    /// The digest that an image is pinned to: in the file, else in the lock.
    fn pinned(&self, reference: &Reference) -> Option<Digest> {
        let locked = || self.locked.and_then(|lock| lock.get(reference)).map(|image| image.digest.clone());
        reference.digest().cloned().or_else(locked)
    }

    fn tag_to_ask(&self, occurrence: &Occurrence) -> Option<Reference> {
        let reference = self.subject(occurrence).ok()?;
        let is_asked = match self.request.mode {
            PinMode::Pin => self.pinned(reference).is_none(),
            PinMode::Update => true,
            PinMode::Check => {
                self.pinned(reference).is_some() && !(reference.tag().is_none() && reference.digest().is_some())
            }
        };
        is_asked.then(|| reference.without_digest().with_default_tag())
    }

    /// A pinned digest that the tag's answer says nothing of.
    fn digest_to_ask(&self, occurrence: &Occurrence, lookup: &Lookup<'_>) -> Option<Reference> {
        let reference = self.subject(occurrence).ok()?;
        let pinned = self.pinned(reference).filter(|_| self.request.mode != PinMode::Pin)?;
        let tagged = reference.without_digest().with_default_tag();
        if let Some(Ok(known)) = lookup.get(&tagged) {
            let is_child = known.children().iter().any(|child| child.digest == pinned);
            if *known.document.digest() == pinned || (is_child && self.request.mode == PinMode::Check) {
                return None;
            }
        }
        Some(by_digest(reference, &pinned))
    }

    fn status(&self, decider: &Decider<'_>, occurrence: &Occurrence) -> Status {
        let reference = match self.subject(occurrence) {
            Err(reason) if reason.is_error() => return Status::Failed(PinFailure::Name(reason)),
            Err(reason) => return Status::Skipped(reason),
            Ok(reference) => reference,
        };
        // A digest in the file is not the lock's to change.
        if self.locked.is_some() && reference.digest().is_some() && self.request.mode != PinMode::Check {
            return reference.digest().cloned().map_or(Status::Missing, Status::Kept);
        }
        let pinned = self.pinned(reference);
        let named = if reference.tag().is_none() && reference.digest().is_some() {
            reference.clone()
        } else {
            reference.without_digest().with_default_tag()
        };
        decider.decide(occurrence, &named, pinned.as_ref())
    }
}

impl PinnedFile {
    /// Makes the edits; images whose places get different digests fail.
    fn new(source: Source, mut images: Vec<PinnedImage>, writes: bool) -> Self {
        let mut edits: BTreeMap<(usize, usize), String> = BTreeMap::new();
        for image in images.iter_mut().filter(|_| writes) {
            let (Some(target), Ok(site)) = (image.status.new_target(), &image.occurrence.site) else { continue };
            let text = edit_text(&image.occurrence, &target.digest);
            let known = edits.entry((site.start, site.end)).or_insert_with(|| text.clone());
            if *known != text {
                image.status = Status::Failed(PinFailure::Conflict);
            }
        }
        let edits = edits.into_iter().map(|(bytes, text)| Edit { bytes, text }).collect();
        match apply(&source.content, edits) {
            Some(content) => PinnedFile { content, images, source },
            // Sites of one file do not overlap; should they, nothing of it is written.
            None => {
                images.iter_mut().for_each(|image| image.status = Status::Failed(PinFailure::Conflict));
                PinnedFile { content: source.content.clone(), images, source }
            }
        }
    }

    /// Whether it becomes another.
    pub fn is_changed(&self) -> bool {
        self.content != self.source.content
    }
}

/// What is written behind a name. A tag that was only meant is written out, for the next update to follow.
fn edit_text(occurrence: &Occurrence, digest: &Digest) -> String {
    let is_bare = occurrence.reference.as_ref().is_ok_and(|name| name.tag().is_none() && name.digest().is_none());
    if is_bare { format!(":latest@{digest}") } else { format!("@{digest}") }
}

fn pinned_lock(path: PathBuf, old: Option<Vec<u8>>, locked: &Lock, files: &[PinnedFile]) -> PinnedLock {
    let mut lock = Lock::default();
    for image in files.iter().flat_map(|file| &file.images) {
        let Ok(reference) = &image.occurrence.reference else { continue };
        match (&image.status, locked.get(reference)) {
            (Status::Pinned(target) | Status::Current(target) | Status::Updated { to: target, .. }, _)
                if reference.digest().is_none() =>
            {
                let platforms = target.platforms.iter().map(Platform::format_all).collect();
                let (digest, media_type) = (target.digest.clone(), target.media_type.clone());
                lock.set(reference, LockedImage { digest, media_type, size: target.size, platforms });
            }
            (Status::Kept(_), Some(image)) if reference.digest().is_none() => lock.set(reference, image.clone()),
            _ => {}
        }
    }
    let used: BTreeSet<String> = files
        .iter()
        .flat_map(|file| &file.images)
        .filter_map(|image| image.occurrence.reference.as_ref().ok())
        .filter(|reference| reference.digest().is_none())
        .map(|reference| reference.clone().with_default_tag().to_string())
        .collect();
    let unused = locked.names().filter(|name| !used.contains(*name)).map(str::to_owned).collect();
    PinnedLock { path, old, content: lock.to_bytes(), unused }
}

impl PinOutcome {
    /// All images with the files that name them.
    pub fn images(&self) -> impl Iterator<Item = (&PinnedFile, &PinnedImage)> {
        self.files.iter().flat_map(|file| file.images.iter().map(move |image| (file, image)))
    }

    /// Whether anything is at fault. Then nothing may be written.
    pub fn has_faults(&self) -> bool {
        self.images().any(|(_, image)| image.status.is_fault())
    }

    /// Writes what changes, all files or none; returns which. Content without a file is the caller's to write.
    ///
    /// # Errors
    /// A file cannot be written, or was changed since it was read.
    pub fn write(&self) -> Result<Vec<PathBuf>, SourceError> {
        let files = self.files.iter().filter(|file| file.is_changed());
        let files = files.filter_map(|file| {
            let path = file.source.path.as_deref()?;
            Some(Replacement { path, old: Some(&file.source.content), new: &file.content })
        });
        let lock = self.lock.iter().filter(|lock| lock.old.as_ref() != Some(&lock.content));
        let lock = lock.map(|lock| Replacement { path: &lock.path, old: lock.old.as_deref(), new: &lock.content });
        let replacements: Vec<Replacement<'_>> = files.chain(lock).collect();
        replace(&replacements)?;
        Ok(replacements.iter().map(|replacement| replacement.path.to_owned()).collect())
    }
}
