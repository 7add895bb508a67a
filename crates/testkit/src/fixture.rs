//! The five-platform busybox that most tests start from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use onetag_oci::{
    Descriptor, DiffId, Digest, Document, ImageConfig, Index, Manifest, ManifestDocument, Platform, RootFs, media_type,
};

use crate::folder;

/// The platforms of the fixture, in the order in which indexes list them.
pub const PLATFORMS: [&str; 5] = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "linux/ppc64le"];

/// The file name of a platform's root file system: `linux/arm/v7` is `arm-v7.tar`.
fn file_name(platform: &str) -> String {
    format!("{}.tar", platform.trim_start_matches("linux/").replace('/', "-"))
}

/// The root file system of one of [`PLATFORMS`], as a tar.
///
/// # Errors
/// There are no fixtures.
pub fn rootfs(platform: &str) -> Result<PathBuf, String> {
    let path = folder::fixtures()?.join("rootfs").join(file_name(platform));
    if path.exists() { Ok(path) } else { Err(format!("no root file system for {platform}: {}", path.display())) }
}

/// The folder with QEMU's static emulators.
///
/// # Errors
/// There are no fixtures.
pub fn qemu() -> Result<PathBuf, String> {
    Ok(folder::fixtures()?.join("qemu/bin"))
}

/// One platform's image as its three blobs.
#[derive(Clone, Debug)]
pub struct Image {
    /// The platform.
    pub platform: Platform,
    /// The only layer, an uncompressed tar.
    pub layer: Vec<u8>,
    /// The config.
    pub config: Document<ImageConfig>,
    /// The manifest.
    pub manifest: Document<Manifest>,
}

impl Image {
    /// An image of one uncompressed layer, with a `PATH` and a shell.
    pub fn new(platform: Platform, layer: Vec<u8>) -> Image {
        let diff_id = Digest::sha256(&layer);
        let mut config = ImageConfig::new(&platform);
        config.rootfs = RootFs { diff_ids: vec![DiffId(diff_id.clone())], ..RootFs::default() };
        config.config.env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
        let config = Document::from_value(config);
        let config_descriptor = Descriptor::new(media_type::OCI_CONFIG, config.digest().clone(), config.size());
        let layer_descriptor = Descriptor::new(media_type::OCI_LAYER, diff_id, layer.len() as u64);
        let manifest = Document::from_value(Manifest::new(config_descriptor, vec![layer_descriptor]));
        Image { platform, layer, config, manifest }
    }

    /// The entry of this image in an index.
    pub fn descriptor(&self) -> Descriptor {
        ManifestDocument::Manifest(self.manifest.clone()).descriptor().with_platform(self.platform.clone())
    }

    /// The blobs by digest: layer, config, manifest.
    pub fn blobs(&self) -> [(Digest, &[u8]); 3] {
        [
            (Digest::sha256(&self.layer), &self.layer),
            (self.config.digest().clone(), self.config.bytes()),
            (self.manifest.digest().clone(), self.manifest.bytes()),
        ]
    }
}

/// An image index with the content of all its images.
#[derive(Clone, Debug)]
pub struct Multi {
    /// The images, in the order of the index.
    pub images: Vec<Image>,
    /// The index.
    pub index: Document<Index>,
}

impl Multi {
    /// An index of these images.
    pub fn new(images: Vec<Image>) -> Multi {
        let index = Document::from_value(Index::new(images.iter().map(Image::descriptor).collect()));
        Multi { images, index }
    }

    /// Writes an OCI image layout whose only reference is `name`.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write_layout(&self, folder: &Path, name: &str) -> io::Result<()> {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        for image in &self.images {
            for (digest, content) in image.blobs() {
                fs::write(blobs.join(digest.encoded()), content)?;
            }
        }
        fs::write(blobs.join(self.index.digest().encoded()), self.index.bytes())?;
        let mut entry = ManifestDocument::Index(self.index.clone()).descriptor();
        entry.annotations.insert("org.opencontainers.image.ref.name".to_owned(), name.to_owned());
        fs::write(folder.join("index.json"), Document::from_value(Index::new(vec![entry])).bytes())?;
        fs::write(folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
    }
}

/// The busybox of all [`PLATFORMS`].
///
/// # Errors
/// There are no fixtures, or they cannot be read.
pub fn busybox() -> Result<Multi, String> {
    let mut images = Vec::new();
    for name in PLATFORMS {
        let path = rootfs(name)?;
        let layer = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let platform: Platform = name.parse().map_err(|error| format!("{name}: {error}"))?;
        images.push(Image::new(platform.normalize(), layer));
    }
    Ok(Multi::new(images))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_five_platforms_is_complete() {
        let busybox = crate::require!(ok busybox());
        let folder = tempfile::tempdir().unwrap();
        busybox.write_layout(folder.path(), "busybox:latest").unwrap();
        let index: Document<Index> = Document::parse(fs::read(folder.path().join("index.json")).unwrap()).unwrap();
        let mut pending = index.value().manifests.clone();
        let mut seen = 0;
        while let Some(descriptor) = pending.pop() {
            let content = fs::read(folder.path().join("blobs/sha256").join(descriptor.digest.encoded())).unwrap();
            assert_eq!((Digest::sha256(&content), content.len() as u64), (descriptor.digest, descriptor.size));
            seen += 1;
            if media_type::is_index(&descriptor.media_type) || media_type::is_manifest(&descriptor.media_type) {
                match ManifestDocument::parse(content, Some(&descriptor.media_type)).unwrap() {
                    ManifestDocument::Index(index) => pending.extend(index.into_value().manifests),
                    ManifestDocument::Manifest(manifest) => {
                        let Manifest { config, layers, .. } = manifest.into_value();
                        pending.push(config);
                        pending.extend(layers);
                    }
                }
            }
        }
        assert_eq!(seen, 1 + 3 * PLATFORMS.len());
    }
}
