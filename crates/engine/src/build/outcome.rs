//! What a build gives.

use onetag_oci::{Descriptor, Digest, Platform, Reference};

use super::FailedPlatform;
use crate::export::{BuiltImage, ExportOptions, Part, Target, layout_entry};

/// What a build gives.
#[derive(Debug)]
pub struct BuildOutcome {
    /// The index or, for a single platform, the manifest that was exported; none when no image was.
    pub descriptor: Option<Descriptor>,
    /// The config's digest, for a single platform.
    pub config_digest: Option<Digest>,
    /// The names that the image got.
    pub names: Vec<Reference>,
    /// What was built.
    pub platforms: Vec<PlatformOutcome>,
    /// The provenance of each platform, in SLSA's version 0.2, where it was asked for.
    pub provenance: Vec<serde_json::Value>,
    /// What was asked for and is missing; only where that is allowed.
    pub failed: Vec<FailedPlatform>,
}

/// One platform of a build.
#[derive(Clone, Debug)]
pub struct PlatformOutcome {
    /// The platform.
    pub platform: Platform,
    /// Its manifest, when an image was exported.
    pub manifest: Option<Digest>,
    /// Its config, when an image was exported.
    pub config: Option<Digest>,
    /// Bytes of its layers' blobs, when an image was exported.
    pub size: u64,
}

impl BuildOutcome {
    pub(super) fn new(parts: &[Part<'_>]) -> Self {
        let platform = |part: &Part<'_>| PlatformOutcome {
            platform: part.lowered.image.platform(),
            manifest: None,
            config: None,
            size: 0,
        };
        Self {
            descriptor: None,
            config_digest: None,
            names: Vec::new(),
            platforms: parts.iter().map(platform).collect(),
            provenance: Vec::new(),
            failed: Vec::new(),
        }
    }

    pub(super) fn set_image(&mut self, image: &BuiltImage, options: &ExportOptions) {
        let mut descriptor = match &options.target {
            Target::Oci { .. } | Target::Docker(_) => layout_entry(image),
            _ => image.top().descriptor(),
        };
        descriptor.annotations.extend(image.annotations.clone());
        if let (None, [only]) = (&image.index, image.platforms.as_slice()) {
            descriptor.platform = Some(only.platform.clone());
            self.config_digest = Some(only.manifest.config.digest.clone());
        }
        self.descriptor = Some(descriptor);
        for name in &options.names {
            // what is pushed by digest has no tag
            let name = if options.push_by_digest { name.name_only() } else { name.clone().with_default_tag() };
            if !self.names.contains(&name) {
                self.names.push(name);
            }
        }
        for (outcome, built) in self.platforms.iter_mut().zip(&image.platforms) {
            outcome.manifest = Some(built.manifest.digest().clone());
            outcome.config = Some(built.manifest.config.digest.clone());
            outcome.size = built.layers.iter().map(|layer| layer.descriptor.size).sum();
        }
    }
}
