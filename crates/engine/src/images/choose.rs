//! Which platform of a local image a command means.

use onetag_oci::{Document, ImageConfig, Manifest, Platform, PlatformMatcher, only, select};
use onetag_store::Store;

use super::find::LocalImage;
use super::presence::{Entry, entries};
use super::{ImageError, Result};

/// The platform that a command acts on.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The entry of the index.
    pub entry: Entry,
    /// Its manifest.
    pub manifest: Document<Manifest>,
    /// Its config.
    pub config: Document<ImageConfig>,
    /// Its platform.
    pub platform: Platform,
    /// Set when nothing was asked for and the platform is not one of the host's.
    pub differs_from_host: bool,
}

/// Chooses: the best match for `wanted` by containerd's rules; without it the host's platform if it is here, else the
/// only one that is.
///
/// # Errors
/// [`ImageError::NoMatch`], [`ImageError::NotHere`] and [`ImageError::NoDefault`], each with the platforms there.
pub fn choose(store: &Store, image: &LocalImage, wanted: Option<&Platform>) -> Result<Chosen> {
    let mut entries = entries(store, &image.descriptor)?;
    entries.retain(|entry| !entry.is_attestation);
    let host = Platform::host();
    let Some(wanted) = wanted else { return default(image, &entries, &host) };
    let position = select(&only(wanted), &entries, |entry| entry.platform.as_ref());
    let position = position.filter(|position| entries[*position].platform.is_some());
    let Some(entry) = position.map(|position| &entries[position]) else {
        return Err(image.no_match(&entries, wanted));
    };
    chosen(image, &entries, entry, false)
}

fn default(image: &LocalImage, entries: &[Entry], host: &Platform) -> Result<Chosen> {
    let here: Vec<&Entry> = entries.iter().filter(|entry| entry.is_complete()).collect();
    let matcher = only(host);
    if let Some(position) = select(&matcher, &here, |entry| entry.platform.as_ref()) {
        let is_hosts = here[position].platform.as_ref().is_some_and(|platform| matcher.matches(platform));
        if is_hosts {
            return chosen(image, entries, here[position], false);
        }
    }
    match here.as_slice() {
        [only] => chosen(image, entries, only, true),
        [] => {
            let platform = entries.first().and_then(|entry| entry.platform.clone()).unwrap_or_else(|| host.clone());
            Err(image.not_here(entries, &platform))
        }
        several => {
            let available = several.iter().filter_map(|entry| entry.platform.clone()).collect();
            Err(ImageError::NoDefault { name: image.asked.clone(), available })
        }
    }
}

fn chosen(image: &LocalImage, entries: &[Entry], entry: &Entry, differs_from_host: bool) -> Result<Chosen> {
    let platform = entry.platform.clone().unwrap_or_else(Platform::host);
    match (&entry.manifest, &entry.config) {
        (Some(manifest), Some(config)) if entry.missing_layers == 0 => Ok(Chosen {
            manifest: manifest.clone(),
            config: config.clone(),
            platform: platform.normalize(),
            differs_from_host,
            entry: entry.clone(),
        }),
        _ => Err(image.not_here(entries, &platform.normalize())),
    }
}
