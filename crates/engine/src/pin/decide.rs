//! What becomes of one image that is named.

use std::sync::Arc;

use onetag_dockerfile::images::UsedPlatform;
use onetag_oci::{Digest, Platform, PlatformMatcher, Reference, only};

use super::change::{Change, change};
use super::lookup::{Known, Lookup, Target};
use super::occurrence::{Occurrence, Reason};
use super::{PinMode, PinRequest};
use crate::content::ContentError;

/// What became of an image, or what a check says of it.
#[derive(Clone, Debug)]
pub enum Status {
    /// It had no digest and has one now.
    Pinned(Target),
    /// It has a digest, which stays.
    Kept(Digest),
    /// It has the digest that its tag stands for.
    Current(Target),
    /// It had another digest.
    Updated {
        /// That one.
        from: Digest,
        /// What it has now.
        to: Target,
        /// What is different.
        change: Box<Change>,
    },
    /// It is left as it is.
    Skipped(Reason),
    /// It cannot be resolved.
    Failed(PinFailure),
    /// A check: it has no digest.
    Missing,
    /// A check: the tag stands for something else by now.
    Stale {
        /// What is pinned.
        pinned: Digest,
        /// What the tag stands for.
        current: Digest,
        /// Whether what is pinned is gone from the registry.
        is_gone: bool,
        /// Whether it is the manifest of a single platform, of which.
        single: Option<Platform>,
    },
    /// A check: the manifest of a single platform is pinned, in a build for several.
    Single {
        /// What is pinned.
        pinned: Digest,
        /// Its platform, where it can be told.
        platform: Option<Platform>,
        /// The index that the tag stands for.
        index: Option<Digest>,
    },
    /// A check: the build is for platforms that it does not have.
    Lacks {
        /// What is pinned.
        pinned: Digest,
        /// The platforms.
        platforms: Vec<Platform>,
    },
}

/// Why an image cannot be resolved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PinFailure {
    /// The file names no image there.
    #[error(transparent)]
    Name(Reason),
    /// The registry did not give it.
    #[error(transparent)]
    Content(Arc<ContentError>),
    /// It is not there for a platform.
    #[error("no match for platform in manifest: {reference} has no {wanted}, it has {}", list(available))]
    NoMatch {
        /// The image.
        reference: String,
        /// The platform.
        wanted: Box<Platform>,
        /// The platforms that there are.
        available: Vec<Platform>,
    },
    /// One place would have to hold two digests.
    #[error("it is used for several platforms, and one digest cannot be that of each")]
    Conflict,
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(Platform::format_all).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl Status {
    /// Whether a check finds fault with it, or it cannot be resolved.
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Status::Failed(_) | Status::Missing | Status::Stale { .. } | Status::Single { .. } | Status::Lacks { .. }
        )
    }

    /// The digest that has to be written.
    pub(super) fn new_target(&self) -> Option<&Target> {
        match self {
            Status::Pinned(target) | Status::Updated { to: target, .. } => Some(target),
            _ => None,
        }
    }
}

/// Decides, given what the registries said.
pub(super) struct Decider<'a> {
    pub(super) request: &'a PinRequest,
    pub(super) lookup: &'a Lookup<'a>,
}

impl Decider<'_> {
    /// What becomes of an image whose name is `reference` and that is pinned to `pinned`.
    pub(super) fn decide(&self, occurrence: &Occurrence, reference: &Reference, pinned: Option<&Digest>) -> Status {
        match self.request.mode {
            PinMode::Pin => match pinned {
                Some(digest) => Status::Kept(digest.clone()),
                None => {
                    self.fresh(occurrence, reference).map_or_else(Status::Failed, |(_, target)| Status::Pinned(target))
                }
            },
            PinMode::Update => self.update(occurrence, reference, pinned),
            PinMode::Check => match pinned {
                None => Status::Missing,
                Some(pinned) => self.judge(occurrence, reference, pinned),
            },
        }
    }

    fn known(&self, reference: &Reference) -> Result<Arc<Known>, PinFailure> {
        match self.lookup.get(reference) {
            Some(Ok(known)) => Ok(Arc::clone(known)),
            Some(Err(error)) => Err(PinFailure::Content(Arc::clone(error))),
            None => {
                let what = reference.to_string();
                Err(PinFailure::Content(Arc::new(ContentError::NotFound { what })))
            }
        }
    }

    /// What the tag stands for: the index, or with `--platform` the child of the platform.
    fn fresh(&self, occurrence: &Occurrence, reference: &Reference) -> Result<(Arc<Known>, Target), PinFailure> {
        let tagged = reference.without_digest();
        let known = self.known(&tagged)?;
        let wanted = match (&occurrence.platform, self.request.platforms.first()) {
            (_, None) | (UsedPlatform::Build, _) => return Ok((Arc::clone(&known), known.target())),
            (UsedPlatform::Fixed(platform), Some(_)) => platform.as_ref(),
            (UsedPlatform::Target, Some(platform)) => platform,
        };
        match known.child(wanted) {
            Some(target) => Ok((known, target)),
            None => Err(PinFailure::NoMatch {
                reference: tagged.to_string(),
                wanted: Box::new(wanted.clone()),
                available: known.platforms.clone(),
            }),
        }
    }

    fn update(&self, occurrence: &Occurrence, reference: &Reference, pinned: Option<&Digest>) -> Status {
        let (known, target) = match self.fresh(occurrence, reference) {
            Ok(found) => found,
            Err(failure) => return Status::Failed(failure),
        };
        match pinned {
            None => Status::Pinned(target),
            Some(pinned) if *pinned == target.digest => Status::Current(target),
            Some(pinned) => {
                let old = self.known(&by_digest(reference, pinned)).ok();
                let change = change(self.lookup, reference, old.as_deref(), &known, &target);
                Status::Updated { from: pinned.clone(), to: target, change: Box::new(change) }
            }
        }
    }

    /// What a check says of a digest.
    fn judge(&self, occurrence: &Occurrence, reference: &Reference, pinned: &Digest) -> Status {
        let wanted = match &occurrence.platform {
            UsedPlatform::Fixed(platform) => std::slice::from_ref(platform.as_ref()),
            UsedPlatform::Target => self.request.platforms.as_slice(),
            // The builder may be any.
            UsedPlatform::Build => &[],
        };
        let is_for = |platform: &Platform| matches!(wanted, [only_one] if only(only_one).matches(platform));
        let pinned_owned = pinned.clone();
        if reference.tag().is_none() {
            return self.judge_untagged(reference, pinned, wanted);
        }
        let current = match self.known(&reference.without_digest()) {
            Ok(current) => current,
            Err(failure) => return Status::Failed(failure),
        };
        let target = current.target();
        if target.digest == *pinned {
            return fits(target, wanted);
        }
        if let Some(child) = current.children().into_iter().find(|child| child.digest == *pinned) {
            let platform = child.platform.as_ref().map(Platform::normalize);
            return match platform {
                Some(platform) if is_for(&platform) => match current.child(&platform) {
                    Some(child) => Status::Current(child),
                    None => {
                        Status::Single { pinned: pinned_owned, platform: Some(platform), index: Some(target.digest) }
                    }
                },
                platform => Status::Single { pinned: pinned_owned, platform, index: Some(target.digest) },
            };
        }
        let old = match self.known(&by_digest(reference, pinned)) {
            Ok(old) => Some(old),
            Err(PinFailure::Content(error)) if error.is_not_found() => None,
            Err(failure) => return Status::Failed(failure),
        };
        let single = old.as_ref().filter(|old| old.document.as_manifest().is_some() && target.is_index());
        let platform = single.and_then(|old| old.platforms.first().cloned());
        let deliberate =
            platform.as_ref().filter(|platform| is_for(platform)).and_then(|platform| current.child(platform));
        match deliberate {
            Some(child) => Status::Stale { pinned: pinned_owned, current: child.digest, is_gone: false, single: None },
            None => {
                Status::Stale { pinned: pinned_owned, current: target.digest, is_gone: old.is_none(), single: platform }
            }
        }
    }

    /// A digest without a tag cannot be stale; it can be gone, or of a single platform.
    fn judge_untagged(&self, reference: &Reference, pinned: &Digest, wanted: &[Platform]) -> Status {
        match self.known(&by_digest(reference, pinned)) {
            Err(failure) => Status::Failed(failure),
            Ok(known) => fits(known.target(), wanted),
        }
    }
}

/// Whether a digest that is current serves the build.
fn fits(target: Target, wanted: &[Platform]) -> Status {
    let platforms = target.lacks(wanted);
    if !target.is_index() && wanted.len() > 1 {
        let platform = target.platforms.first().cloned();
        return Status::Single { pinned: target.digest, platform, index: None };
    }
    if platforms.is_empty() { Status::Current(target) } else { Status::Lacks { pinned: target.digest, platforms } }
}

/// The reference that means the digest, whatever the tag.
pub(super) fn by_digest(reference: &Reference, digest: &Digest) -> Reference {
    reference.without_tag().with_digest(digest.clone())
}
