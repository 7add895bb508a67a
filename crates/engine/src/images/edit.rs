//! Naming images and taking names away.

use onetag_oci::{Digest, Platform, PlatformMatcher, Reference, exact};
use onetag_store::Store;

use super::choose::choose;
use super::find::{LocalImage, all, find};
use super::presence::{Entry, document, entries, with_attestations};
use super::{ImageError, Result};

/// What removing an image did.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    /// Names taken away, as users write them.
    pub untagged: Vec<String>,
    /// Digests that no name means any more.
    pub deleted: Vec<Digest>,
}

/// Gives an image, or with `platform` the manifest of one platform of it, another name. A former bearer of the name
/// loses it.
///
/// # Errors
/// When there is no such image or platform here, or the new name is none.
pub fn tag(store: &Store, source: &str, platform: Option<&Platform>, target: &str) -> Result<Reference> {
    let image = find(store, source)?;
    let reference = parse(target)?.with_default_tag();
    let mut descriptor = match platform {
        Some(_) => choose(store, &image, platform)?.entry.descriptor,
        None => image.descriptor,
    };
    if descriptor.media_type.is_empty() {
        descriptor.media_type = document(store, &descriptor)?.media_type().to_owned();
    }
    store.set_reference(&reference.to_string(), descriptor)?;
    Ok(reference)
}

fn parse(name: &str) -> Result<Reference> {
    Reference::parse(name).map_err(|source| ImageError::Reference { name: name.to_owned(), source })
}

/// Takes an image's name away, or with a digest all its names (more than one only with `force`). With `platforms`
/// the names stay and mean the same index; only the content of these platforms goes. With the last platform that is
/// here the name goes, too.
///
/// # Errors
/// When there is no such image or platform, when a digest has several names, or a platform is part of something else,
/// and nothing forces.
pub fn remove(store: &Store, text: &str, platforms: &[Platform], force: bool) -> Result<Removal> {
    let image = find(store, text)?;
    let named = parse(text).ok().map(|reference| reference.with_default_tag().to_string());
    let named = named.filter(|name| image.names.contains(name));
    if !platforms.is_empty() {
        return remove_platforms(store, &image, named, platforms, force);
    }
    let names = match named {
        Some(name) => vec![name],
        None if image.names.len() > 1 && !force => {
            let names = image.references().map(|name| name.familiar()).collect();
            return Err(ImageError::SeveralNames { digest: text.to_owned(), names });
        }
        None if image.names.is_empty() => return Err(ImageError::NotFound { name: text.to_owned() }),
        None => image.names.clone(),
    };
    let mut removal = Removal::default();
    removal.untag(store, &names)?;
    if names.len() == image.names.len() {
        removal.deleted.push(image.descriptor.digest);
    }
    Ok(removal)
}

impl Removal {
    fn untag(&mut self, store: &Store, names: &[String]) -> Result<()> {
        for name in names {
            store.remove_reference(name)?;
            self.untagged.push(familiar(name));
        }
        Ok(())
    }
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar())
}

/// The same index under the same names, some platforms of it no longer here.
fn remove_platforms(
    store: &Store,
    image: &LocalImage,
    named: Option<String>,
    platforms: &[Platform],
    force: bool,
) -> Result<Removal> {
    let doomed = manifests(store, image, platforms)?;
    let mut affected = Vec::new();
    for other in all(store)? {
        let entries = entries(store, &other.descriptor)?;
        if entries.iter().any(|entry| doomed.contains(&entry.descriptor.digest)) {
            affected.push((other, entries));
        }
    }
    let names = affected.iter().flat_map(|(image, _)| &image.names);
    let others: Vec<String> = names.filter(|name| Some(*name) != named.as_ref()).map(|name| familiar(name)).collect();
    if !others.is_empty() && !force && (named.is_some() || others.len() > 1) {
        return Err(ImageError::SharedPlatform { name: image.asked.clone(), platform: platforms[0].clone(), others });
    }
    let mut removal = Removal::default();
    let mut stays = false;
    // names go before content: no name ever means what is not here
    for (image, entries) in &affected {
        let stays_here =
            |entry: &Entry| !entry.is_attestation && entry.is_complete() && !doomed.contains(&entry.descriptor.digest);
        if entries.iter().any(stays_here) {
            stays = true;
        } else {
            removal.untag(store, &image.names)?;
        }
    }
    if stays && store.release(&doomed)?.is_some() {
        return Err(ImageError::InUse { name: image.asked.clone() });
    }
    removal.deleted = doomed;
    Ok(removal)
}

/// The manifests of these platforms that are here, and of what is attested of them.
fn manifests(store: &Store, image: &LocalImage, platforms: &[Platform]) -> Result<Vec<Digest>> {
    let entries = entries(store, &image.descriptor)?;
    let mut doomed = Vec::new();
    for wanted in platforms {
        let matcher = exact(wanted);
        let is_meant = |entry: &&Entry| {
            !entry.is_attestation && entry.platform.as_ref().is_some_and(|platform| matcher.matches(platform))
        };
        let meant: Vec<&Entry> = entries.iter().filter(is_meant).collect();
        if meant.is_empty() {
            return Err(image.no_match(&entries, wanted));
        }
        let here = meant.iter().filter(|entry| entry.manifest.is_some()).map(|entry| entry.descriptor.digest.clone());
        let before = doomed.len();
        doomed.extend(here);
        if doomed.len() == before {
            return Err(image.not_here(&entries, wanted));
        }
    }
    let all = with_attestations(&entries, doomed.iter().cloned().collect());
    let here = entries.iter().filter(|entry| entry.is_attestation && entry.manifest.is_some());
    let attested = here.map(|entry| entry.descriptor.digest.clone()).filter(|digest| all.contains(digest));
    doomed.extend(attested);
    Ok(doomed)
}
