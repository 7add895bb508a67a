//! What references stand for in their registries: each is asked for once, several at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use onetag_oci::{
    Descriptor, Digest, ManifestDocument, Platform, PlatformMatcher, Reference, media_type, only, select,
};

use crate::Engine;
use crate::content::{ContentError, Contents, Location};

/// How many questions are asked at a time.
const CONCURRENCY: usize = 8;

/// What a reference stands for.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) document: ManifestDocument,
    /// The platforms that it is for; of a manifest, the config's.
    pub(super) platforms: Vec<Platform>,
}

/// A digest with what it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The digest.
    pub digest: Digest,
    /// The media type.
    pub media_type: String,
    /// The size of the index or the manifest in bytes.
    pub size: u64,
    /// The platforms.
    pub platforms: Vec<Platform>,
}

impl Target {
    /// Whether it is an index.
    pub fn is_index(&self) -> bool {
        media_type::is_index(&self.media_type)
    }

    /// Those of `wanted` that it is not for.
    pub fn lacks(&self, wanted: &[Platform]) -> Vec<Platform> {
        wanted.iter().filter(|wanted| !self.platforms.iter().any(|own| only(wanted).matches(own))).cloned().collect()
    }
}

impl Known {
    /// The images of an index; empty for a manifest.
    pub(super) fn children(&self) -> Vec<&Descriptor> {
        let Some(index) = self.document.as_index() else { return Vec::new() };
        index.manifests.iter().filter(|child| !child.is_attestation()).collect()
    }

    /// The whole.
    pub(super) fn target(&self) -> Target {
        let descriptor = self.document.descriptor();
        Target {
            digest: descriptor.digest,
            media_type: descriptor.media_type,
            size: descriptor.size,
            platforms: self.platforms.clone(),
        }
    }

    /// The image for a platform: the child of an index, or the manifest if that is for it.
    pub(super) fn child(&self, platform: &Platform) -> Option<Target> {
        if self.document.as_manifest().is_some() {
            return Some(self.target()).filter(|target| target.lacks(std::slice::from_ref(platform)).is_empty());
        }
        let children = self.children();
        let best = select(&only(platform), &children, |child| child.platform.as_ref())?;
        let child = children[best];
        let own = child.platform.clone().unwrap_or_else(|| platform.clone());
        Some(Target {
            digest: child.digest.clone(),
            media_type: child.media_type.clone(),
            size: child.size,
            platforms: vec![own.normalize()],
        })
    }
}

/// Answers, kept.
pub(super) struct Lookup<'e> {
    contents: Contents<'e>,
    answers: BTreeMap<Reference, Result<Arc<Known>, Arc<ContentError>>>,
}

impl<'e> Lookup<'e> {
    pub(super) fn new(engine: &'e Engine) -> Self {
        Lookup { contents: Contents::new(engine), answers: BTreeMap::new() }
    }

    /// Asks for all that were not asked for yet.
    pub(super) fn ask(&mut self, references: BTreeSet<Reference>) {
        let open: Vec<Reference> =
            references.into_iter().filter(|reference| !self.answers.contains_key(reference)).collect();
        let contents = self.contents;
        let answers = in_parallel(&open, |reference| known(&contents, reference).map(Arc::new).map_err(Arc::new));
        self.answers.extend(open.into_iter().zip(answers));
    }

    /// The answer; None where nobody asked.
    pub(super) fn get(&self, reference: &Reference) -> Option<&Result<Arc<Known>, Arc<ContentError>>> {
        self.answers.get(reference)
    }

    pub(super) fn contents(&self) -> &Contents<'e> {
        &self.contents
    }
}

fn known(contents: &Contents<'_>, reference: &Reference) -> Result<Known, ContentError> {
    let location = Location::Registry(reference.clone());
    let document = contents.find(&location)?.document;
    let platforms: Vec<Platform> = match &document {
        ManifestDocument::Index(index) => {
            let images = index.manifests.iter().filter(|child| !child.is_attestation());
            images
                .filter_map(|child| child.platform.as_ref())
                .filter(|platform| !platform.is_unknown())
                .cloned()
                .collect()
        }
        // What has no config for a platform is no image, and has its digest all the same.
        ManifestDocument::Manifest(manifest) => {
            let config = contents.config(&location, manifest).ok();
            let platform = config.map(|config| config.platform()).filter(|platform| !platform.architecture.is_empty());
            platform.into_iter().collect()
        }
    };
    Ok(Known { document, platforms: platforms.iter().map(Platform::normalize).collect() })
}

/// Answers in the order of the questions, several made at a time.
pub(super) fn in_parallel<Q: Sync, A: Send>(questions: &[Q], answer: impl Fn(&Q) -> A + Sync) -> Vec<A> {
    let next = AtomicUsize::new(0);
    let answers: Mutex<Vec<(usize, A)>> = Mutex::new(Vec::with_capacity(questions.len()));
    std::thread::scope(|scope| {
        for _ in 0..questions.len().min(CONCURRENCY) {
            scope.spawn(|| {
                while let Some((at, question)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    questions.get(at).map(|question| (at, question))
                } {
                    let made = answer(question);
                    answers.lock().unwrap_or_else(PoisonError::into_inner).push((at, made));
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
