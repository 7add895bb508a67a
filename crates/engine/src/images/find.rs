//! Which local image a name, a digest or the beginning of one means.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use onetag_oci::{Descriptor, Digest, ManifestDocument, Platform, Reference};
use onetag_store::Store;

use super::presence;
use super::{ImageError, Result};

/// A digest may be shortened to this many hexadecimal digits.
const SHORTEST_PREFIX: usize = 4;
/// Larger blobs are not looked at for what they say of their config, in bytes.
const MANIFEST_LIMIT: u64 = 64 << 10;

/// An image of the store.
#[derive(Clone, Debug)]
pub struct LocalImage {
    /// Its names, canonical, in byte order. Several names of one digest are one image.
    pub names: Vec<String>,
    /// What the names mean.
    pub descriptor: Descriptor,
    /// The name it was asked for by, or its digest.
    pub asked: String,
}

impl LocalImage {
    /// The names as users write them.
    pub fn references(&self) -> impl Iterator<Item = Reference> {
        self.names.iter().filter_map(|name| Reference::parse(name).ok())
    }

    /// The name by which a registry has it: the one it was asked for by, else the first.
    fn name_of_registry(&self) -> Option<String> {
        let asked = Reference::parse(&self.asked).ok().map(Reference::with_default_tag);
        let asked = asked.filter(|asked| self.names.contains(&asked.to_string()));
        asked.or_else(|| self.references().next()).map(|name| name.familiar())
    }

    /// That the image has no such platform.
    pub(super) fn no_match(&self, entries: &[presence::Entry], wanted: &Platform) -> ImageError {
        let available = platforms(entries.iter().filter(|entry| !entry.is_attestation));
        ImageError::NoMatch { name: self.asked.clone(), wanted: wanted.clone(), available }
    }

    /// That a platform of the image is not here.
    pub(super) fn not_here(&self, entries: &[presence::Entry], platform: &Platform) -> ImageError {
        let here = platforms(entries.iter().filter(|entry| !entry.is_attestation && entry.is_complete()));
        let (name, platform) = (self.asked.clone(), platform.clone());
        ImageError::NotHere { name, platform, here, registry_name: self.name_of_registry() }
    }
}

fn platforms<'e>(entries: impl Iterator<Item = &'e presence::Entry>) -> Vec<Platform> {
    entries.filter_map(|entry| entry.platform.as_ref().map(Platform::normalize)).collect()
}

/// All images, one for each digest, in the order of their first names.
///
/// # Errors
/// When the store cannot be read.
pub fn all(store: &Store) -> Result<Vec<LocalImage>> {
    let mut images: Vec<LocalImage> = Vec::new();
    let mut known: HashMap<Digest, usize> = HashMap::new();
    for (name, descriptor) in store.references()? {
        match known.entry(descriptor.digest.clone()) {
            Entry::Occupied(position) => images[*position.get()].names.push(name),
            Entry::Vacant(position) => {
                position.insert(images.len());
                images.push(LocalImage { names: vec![name.clone()], descriptor, asked: name });
            }
        }
    }
    Ok(images)
}

/// The image that `text` means: a name (`latest` where it has no tag), `name@digest`, a digest or its beginning.
///
/// # Errors
/// [`ImageError::NotFound`], [`ImageError::Ambiguous`], and [`ImageError::Reference`] for what is no name.
pub fn find(store: &Store, text: &str) -> Result<LocalImage> {
    let not_found = || ImageError::NotFound { name: text.to_owned() };
    let images = all(store)?;
    let asked_as = |image: &LocalImage| LocalImage { asked: text.to_owned(), ..image.clone() };
    let reference = Reference::parse(text);
    if let Ok(reference) = &reference {
        let full = reference.clone().with_default_tag().to_string();
        if let Some(image) = images.iter().find(|image| image.names.contains(&full)) {
            return Ok(LocalImage { asked: reference.familiar(), ..image.clone() });
        }
        if let Some(digest) = reference.digest() {
            let repository = reference.repository();
            let is_meant = |image: &&LocalImage| image.references().any(|name| name.repository() == repository);
            let named: Vec<&LocalImage> = images.iter().filter(is_meant).collect();
            if let Some(image) = named.iter().find(|image| image.descriptor.digest == *digest) {
                return Ok(asked_as(image));
            }
            // a manifest of a named index
            return by_digest(store, digest, text).filter(|_| !named.is_empty()).ok_or_else(not_found);
        }
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() >= SHORTEST_PREFIX && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let matching: Vec<&LocalImage> =
            images.iter().filter(|image| image.descriptor.digest.encoded().starts_with(hex)).collect();
        match matching.as_slice() {
            [image] => return Ok(asked_as(image)),
            [] => {}
            _ => return Err(ImageError::Ambiguous { prefix: text.to_owned() }),
        }
        if let Ok(digest) = format!("sha256:{hex}").parse() {
            let found = by_digest(store, &digest, text).ok_or_else(not_found)?;
            if presence::document(store, &found.descriptor).is_ok() {
                return Ok(found);
            }
            // what builds print of an image of one platform
            let Some(manifest) = manifest_of(store, &digest)? else { return Ok(found) };
            let named = images.iter().find(|image| image.descriptor.digest == manifest);
            return named.map(asked_as).or_else(|| by_digest(store, &manifest, text)).ok_or_else(not_found);
        }
    }
    match reference {
        Err(source) if !text.starts_with("sha256:") => Err(ImageError::Reference { name: text.to_owned(), source }),
        _ => Err(not_found()),
    }
}

/// Content without a name of its own.
fn by_digest(store: &Store, digest: &Digest, text: &str) -> Option<LocalImage> {
    let size = store.blob_size(digest)?;
    let descriptor = Descriptor::new(String::new(), digest.clone(), size);
    Some(LocalImage { names: Vec::new(), descriptor, asked: text.to_owned() })
}

/// The manifest in the store that has this config.
fn manifest_of(store: &Store, config: &Digest) -> Result<Option<Digest>> {
    for (digest, size) in store.blobs()? {
        if size > MANIFEST_LIMIT {
            continue;
        }
        let descriptor = Descriptor::new(String::new(), digest, size);
        let Ok(ManifestDocument::Manifest(manifest)) = presence::document(store, &descriptor) else { continue };
        if manifest.config.digest == *config {
            return Ok(Some(descriptor.digest));
        }
    }
    Ok(None)
}
