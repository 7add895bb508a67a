//! Pulls images into the store: the platforms wanted, the index byte for byte, the name last.

use std::collections::{HashMap, HashSet};

use onetag_oci::{
    Descriptor, DiffId, Digest, ManifestDocument, Platform, PlatformMatcher, Reference, only, order, parse_docker_ref,
};
use onetag_solver::Cancellation;
use thiserror::Error;

use crate::Engine;
use crate::content::{ContentError, Contents, Found, KnownDocuments, Location, Transfer, TransferEvent};

/// Indexes in indexes are followed this deep.
const MAXIMUM_DEPTH: usize = 8;

/// Which platforms of an index to pull.
#[derive(Clone, Debug, Default)]
pub enum PlatformSelection {
    /// The host's, or what runs on it.
    #[default]
    Host,
    /// The best match of each of these.
    These(Vec<Platform>),
    /// All, attestations too.
    All,
}

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The name it has now.
    pub reference: Reference,
    /// What the name means: index or manifest.
    pub descriptor: Descriptor,
    /// The platforms that are here now because of this pull.
    pub platforms: Vec<Platform>,
    /// Whether anything moved, or the name means something new.
    pub changed: bool,
}

/// Why a pull failed.
#[derive(Debug, Error)]
pub enum PullError {
    /// The image has none of the platforms wanted.
    #[error(
        "{reference}: no match for platform in manifest: wanted {wanted}, there {}",
        crate::platforms::listed(available)
    )]
    NoMatch {
        /// The image.
        reference: String,
        /// The platform wanted.
        wanted: Platform,
        /// The platforms there.
        available: Vec<Platform>,
    },
    /// The content could not be read or written.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl From<onetag_store::Error> for PullError {
    fn from(error: onetag_store::Error) -> Self {
        Self::Content(error.into())
    }
}

/// Pulls `reference`. With a tag and a digest, the digest counts. With `unpack`, layers are unpacked while they come.
///
/// # Errors
/// [`PullError::NoMatch`] before anything is written; otherwise the first error. The name is set last.
pub fn pull(
    engine: &Engine,
    reference: &Reference,
    selection: &PlatformSelection,
    unpack: bool,
    cancel: &Cancellation,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Pulled, PullError> {
    let reference = parse_docker_ref(&reference.to_string()).unwrap_or_else(|_| reference.clone().with_default_tag());
    let (from, to) = (Location::Registry(reference.clone()), Location::Store(reference.clone()));
    let known = KnownDocuments::default();
    let contents = Contents::new(engine).remembering(&known);
    let found = contents.find(&from)?;
    let mut picked = Picked::default();
    let picker = Picker { contents, from: &from, reference: &reference };
    picker.pick(&found, selection, 0, &mut picked)?;
    let before = engine.store()?.reference(&reference.to_string())?;
    let moved = std::sync::atomic::AtomicBool::new(false);
    let watch = |event: TransferEvent| {
        if matches!(event, TransferEvent::Done { .. }) {
            moved.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        events(event);
    };
    let mut transfer = Transfer::new(contents, &from, &to, cancel, &watch);
    if unpack {
        let mut layers = HashMap::new();
        diff_ids(contents, &from, &found, &picked.digests, 0, &mut layers)?;
        transfer = transfer.unpacking(layers);
    }
    transfer.tree(&found, &|child| picked.digests.contains(&child.digest))?;
    transfer.name(&found)?;
    let is_new_name = before.is_none_or(|before| before.digest != found.descriptor.digest);
    let changed = is_new_name || moved.into_inner();
    Ok(Pulled { reference, descriptor: found.descriptor, platforms: picked.platforms, changed })
}

/// The diff IDs of the layers that are pulled, by the digests of their blobs.
fn diff_ids(
    contents: Contents<'_>,
    from: &Location,
    found: &Found,
    picked: &HashSet<Digest>,
    depth: usize,
    layers: &mut HashMap<Digest, DiffId>,
) -> Result<(), ContentError> {
    match &found.document {
        ManifestDocument::Index(index) if depth <= MAXIMUM_DEPTH => {
            let images = index.manifests.iter().filter(|child| !child.is_attestation());
            images.filter(|child| picked.contains(&child.digest)).try_for_each(|child| {
                diff_ids(contents, from, &contents.document(from, child)?, picked, depth + 1, layers)
            })
        }
        ManifestDocument::Manifest(manifest) if onetag_oci::media_type::is_config(&manifest.config.media_type) => {
            let store = contents.engine().store()?;
            let here = from.registry().filter(|_| store.has_blob(&manifest.config.digest)).cloned();
            // what is damaged here is asked for as if it were not
            let stored = here.and_then(|reference| contents.config(&Location::Store(reference), manifest).ok());
            let config = match stored {
                Some(config) => config,
                None => contents.config(from, manifest)?,
            };
            let digests = manifest.layers.iter().map(|layer| layer.digest.clone());
            layers.extend(digests.zip(config.rootfs.diff_ids.iter().cloned()));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The children to pull.
#[derive(Default)]
struct Picked {
    digests: HashSet<Digest>,
    platforms: Vec<Platform>,
    /// Inner indexes that were found to lack a platform: one that is named many times is read once.
    lacking: HashSet<(Digest, String)>,
}

struct Picker<'a> {
    contents: Contents<'a>,
    from: &'a Location,
    reference: &'a Reference,
}

impl Picker<'_> {
    fn pick(
        &self,
        found: &Found,
        selection: &PlatformSelection,
        depth: usize,
        picked: &mut Picked,
    ) -> Result<(), PullError> {
        if depth > MAXIMUM_DEPTH {
            let digest = found.descriptor.digest.clone();
            return Err(ContentError::TooDeep { digest, limit: MAXIMUM_DEPTH }.into());
        }
        match &found.document {
            ManifestDocument::Manifest(_) => self.manifest(found, selection, picked),
            ManifestDocument::Index(index) => match selection {
                PlatformSelection::All => {
                    for child in &index.manifests {
                        let is_new = picked.digests.insert(child.digest.clone());
                        if onetag_oci::media_type::is_index(&child.media_type) {
                            if !is_new {
                                continue;
                            }
                            let child = self.contents.document(self.from, child)?;
                            self.pick(&child, selection, depth + 1, picked)?;
                        } else if let Some(platform) = child.platform.as_ref().filter(|platform| !platform.is_unknown())
                        {
                            picked.platforms.push(platform.normalize());
                        }
                    }
                    Ok(())
                }
                PlatformSelection::Host => self.child(&index.manifests, &Platform::host(), depth, picked),
                PlatformSelection::These(wanted) => {
                    wanted.iter().try_for_each(|wanted| self.child(&index.manifests, wanted, depth, picked))
                }
            },
        }
    }

    /// A name that means a manifest: its config tells the platform. Without a wish it is taken as it is.
    fn manifest(&self, found: &Found, selection: &PlatformSelection, picked: &mut Picked) -> Result<(), PullError> {
        let Some(platform) = self.platform(found)? else { return Ok(()) };
        if let PlatformSelection::These(wanted) = selection
            && let Some(wanted) = wanted.iter().find(|wanted| !only(wanted).matches(&platform))
        {
            let available = vec![platform.clone()];
            return Err(PullError::NoMatch { reference: self.reference.familiar(), wanted: wanted.clone(), available });
        }
        picked.platforms.push(platform);
        Ok(())
    }

    fn platform(&self, found: &Found) -> Result<Option<Platform>, PullError> {
        let Some(manifest) = found.document.as_manifest() else { return Ok(None) };
        if !onetag_oci::media_type::is_config(&manifest.config.media_type) {
            return Ok(None);
        }
        Ok(Some(self.contents.config(self.from, manifest)?.platform().normalize()))
    }

    /// The best child for a platform. Children without a platform are asked for their config, after the others.
    fn child(
        &self,
        children: &[Descriptor],
        wanted: &Platform,
        depth: usize,
        picked: &mut Picked,
    ) -> Result<(), PullError> {
        let images: Vec<&Descriptor> = children.iter().filter(|child| !child.is_attestation()).collect();
        let matcher = only(wanted);
        for position in order(&matcher, &images, |child| child.platform.as_ref()) {
            let child = images[position];
            let key = (child.digest.clone(), wanted.format_all());
            if picked.lacking.contains(&key) {
                continue;
            }
            let document = self.contents.document(self.from, child)?;
            let platform = match &child.platform {
                Some(platform) => Some(platform.normalize()),
                None => self.platform(&document)?,
            };
            let is_index = document.document.as_index().is_some();
            if !is_index && !platform.as_ref().is_some_and(|platform| matcher.matches(platform)) {
                continue;
            }
            if is_index {
                let below = PlatformSelection::These(vec![wanted.clone()]);
                match self.pick(&document, &below, depth + 1, picked) {
                    Err(PullError::NoMatch { .. }) => {
                        picked.lacking.insert(key);
                        continue;
                    }
                    result => result?,
                }
            } else {
                picked.platforms.extend(platform);
            }
            picked.digests.insert(child.digest.clone());
            return Ok(());
        }
        let available = images.iter().filter_map(|child| child.platform.clone()).collect();
        Err(PullError::NoMatch { reference: self.reference.familiar(), wanted: wanted.clone(), available })
    }
}
