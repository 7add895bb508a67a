//! What `image inspect` tells: the engine half, without Docker's field names.

use onetag_oci::Platform;
use onetag_store::Store;

use super::Result;
use super::choose::{Chosen, choose};
use super::find::{LocalImage, find};

/// An image and the platform of it that is shown.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The image.
    pub image: LocalImage,
    /// The platform.
    pub chosen: Chosen,
    /// Bytes of the platform's config and layers.
    pub size: u64,
}

/// Finds an image and the platform meant.
///
/// # Errors
/// When there is no such image or platform here.
pub fn inspect(store: &Store, text: &str, platform: Option<&Platform>) -> Result<Inspected> {
    let image = find(store, text)?;
    let chosen = choose(store, &image, platform)?;
    let size = chosen.manifest.config.size + chosen.manifest.layers.iter().map(|layer| layer.size).sum::<u64>();
    Ok(Inspected { image, chosen, size })
}
