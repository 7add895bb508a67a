//! What is different between what a tag stood for and what it stands for.

use onetag_oci::{Platform, Reference};

use super::lookup::{Known, Lookup, Target};
use crate::content::{ContentError, Contents, Found, Location};

/// The difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Whether what was pinned is still there; nothing else is known if not.
    pub is_known: bool,
    /// Platforms that came.
    pub gained: Vec<Platform>,
    /// Platforms that went.
    pub lost: Vec<Platform>,
    /// The image that both have, if they have one: what it was and what it is.
    pub image: Option<ImageChange>,
}

/// The difference between two images of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageChange {
    /// The platform.
    pub platform: Platform,
    /// What it was.
    pub from: ImageFacts,
    /// What it is.
    pub to: ImageFacts,
}

/// What is told of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// When it was made, as its config says.
    pub created: Option<String>,
    /// The bytes of its layers as they are transferred.
    pub size: u64,
}

/// Compares what `reference` was pinned to, where that is still known, with what it becomes.
pub(super) fn change(
    lookup: &Lookup<'_>,
    reference: &Reference,
    from: Option<&Known>,
    to: &Known,
    new: &Target,
) -> Change {
    let Some(from) = from else { return Change::default() };
    let old = from.target();
    let shared = shared_platform(&old, new);
    let image = shared.and_then(|platform| {
        let (old, new) = (from.child(&platform)?, to.child(&platform)?);
        let facts = |target: &Target| facts(lookup.contents(), reference, target).ok();
        Some(ImageChange { from: facts(&old)?, to: facts(&new)?, platform })
    });
    Change { is_known: true, gained: old.lacks_exactly(new), lost: new.lacks_exactly(&old), image }
}

impl Target {
    /// The platforms of `other` that are not among its own.
    fn lacks_exactly(&self, other: &Target) -> Vec<Platform> {
        other.platforms.iter().filter(|platform| !self.platforms.contains(platform)).cloned().collect()
    }
}

/// A platform that both have: this host's, or the first.
fn shared_platform(old: &Target, new: &Target) -> Option<Platform> {
    let is_shared = |platform: &&Platform| old.platforms.contains(platform) && new.platforms.contains(platform);
    let host = Platform::host().normalize();
    Some(&host).filter(is_shared).or_else(|| old.platforms.iter().find(is_shared)).cloned()
}

fn facts(contents: &Contents<'_>, reference: &Reference, target: &Target) -> Result<ImageFacts, ContentError> {
    let location = Location::Registry(reference.without_tag().with_digest(target.digest.clone()));
    let Found { document, descriptor } = contents.find(&location)?;
    let Some(manifest) = document.as_manifest() else {
        return Err(ContentError::NotFound { what: descriptor.digest.to_string() });
    };
    let config = contents.config(&location, manifest)?;
    let size = manifest.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
    Ok(ImageFacts { created: config.created.clone(), size })
}
