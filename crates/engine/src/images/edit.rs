//! Naming images and taking names away.

use onetag_oci::{Digest, Document, Index, ManifestDocument, Platform, PlatformMatcher, Reference, exact};
use onetag_store::Store;

use super::find::{LocalImage, find};
use super::presence::document;
use super::{ImageError, Result};

/// What removing an image did.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    /// Names taken away, as users write them.
    pub untagged: Vec<String>,
    /// Digests that no name means any more.
    pub deleted: Vec<Digest>,
}

/// Gives an image another name. A former bearer of the name loses it.
///
/// # Errors
/// When there is no such image, or the new name is none.
pub fn tag(store: &Store, source: &str, target: &str) -> Result<Reference> {
    let image = find(store, source)?;
    let reference = parse(target)?.with_default_tag();
    let mut descriptor = image.descriptor;
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
/// the names stay and mean an index without them.
///
/// # Errors
/// When there is no such image or platform, or a digest has several names and nothing forces.
pub fn remove(store: &Store, text: &str, platforms: &[Platform], force: bool) -> Result<Removal> {
    let image = find(store, text)?;
    let named = parse(text).ok().map(|reference| reference.with_default_tag().to_string());
    let named = named.filter(|name| image.names.contains(name));
    if !platforms.is_empty() {
        return without_platforms(store, &image, named, platforms);
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
    for name in &names {
        store.remove_reference(name)?;
        removal.untagged.push(Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar()));
    }
    if names.len() == image.names.len() {
        removal.deleted.push(image.descriptor.digest);
    }
    Ok(removal)
}

/// The same image under the same names, its index without some platforms.
fn without_platforms(
    store: &Store,
    image: &LocalImage,
    named: Option<String>,
    platforms: &[Platform],
) -> Result<Removal> {
    let ManifestDocument::Index(index) = document(store, &image.descriptor)? else {
        return no_such_platform(image, &platforms[0], Vec::new());
    };
    let matchers: Vec<_> = platforms.iter().map(exact).collect();
    let mut removal = Removal::default();
    let mut rest: Index = index.value().clone();
    let is_removed = |child: &onetag_oci::Descriptor| {
        child.platform.as_ref().is_some_and(|platform| matchers.iter().any(|matcher| matcher.matches(platform)))
    };
    for child in rest.manifests.iter().filter(|child| is_removed(child)) {
        removal.deleted.push(child.digest.clone());
    }
    if removal.deleted.is_empty() {
        let available = rest.manifests.iter().filter_map(|child| child.platform.clone()).collect();
        return no_such_platform(image, &platforms[0], available);
    }
    let gone: Vec<String> = removal.deleted.iter().map(ToString::to_string).collect();
    rest.manifests.retain(|child| {
        let subject = child.annotations.get("vnd.docker.reference.digest");
        !is_removed(child) && !subject.is_some_and(|subject| gone.contains(subject))
    });
    let document = Document::from_value(rest);
    store.put_document(document.bytes())?;
    let mut descriptor = image.descriptor.clone();
    descriptor.digest = document.digest().clone();
    descriptor.size = document.size();
    let names = named.map_or_else(|| image.names.clone(), |name| vec![name]);
    for name in names {
        store.set_reference(&name, descriptor.clone())?;
    }
    Ok(removal)
}

fn no_such_platform(image: &LocalImage, wanted: &Platform, available: Vec<Platform>) -> Result<Removal> {
    Err(ImageError::NoMatch { name: image.asked.clone(), wanted: wanted.clone(), available })
}
