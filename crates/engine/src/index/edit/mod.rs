//! Changes an index in place: its platforms, and what the images of some or all platforms are run with.
//!
//! What is not changed is carried as it is, to the byte: children by their digests, entries with members that nobody
//! here knows. An attestation of a child that changes is about other bytes than those that are there afterwards, so it
//! is left out and said to be.

mod changes;
mod children;
mod document;
mod publish;

use onetag_oci::{Digest, Platform};
use serde::Serialize;
use thiserror::Error;

use crate::content::{ContentError, Found, Location};
use crate::flags::{Annotation, AnnotationTarget};
use crate::platforms::listed;

pub use changes::ConfigChanges;
pub use document::Difference;
pub use publish::{plan_edit, publish_edit};

/// An image to take platforms from.
#[derive(Clone, Debug)]
pub struct PlatformSource {
    /// Where it is.
    pub location: Location,
    /// The only platform to take.
    pub platform: Option<Platform>,
}

/// An entry to take out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// All entries of a platform.
    Platform(Platform),
    /// The entry of a digest.
    Digest(Digest),
}

/// An annotation to take away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationRemoval {
    /// What it is on; none means the manifests.
    pub target: Option<AnnotationTarget>,
    /// The only platform.
    pub platform: Option<Platform>,
    /// The name.
    pub key: String,
}

/// What to change.
#[derive(Clone, Debug)]
pub struct EditRequest {
    /// The index.
    pub target: Location,
    /// The names that the new index gets; empty means the one it has.
    pub tags: Vec<Location>,
    /// Platforms to add.
    pub add: Vec<PlatformSource>,
    /// Platforms to put in the place of those that are there.
    pub replace: Vec<PlatformSource>,
    /// Entries to take out.
    pub remove: Vec<Removal>,
    /// The only platforms whose images change; empty means all.
    pub platforms: Vec<Platform>,
    /// Changes to the configs.
    pub config: ConfigChanges,
    /// Annotations to set.
    pub annotations: Vec<Annotation>,
    /// Annotations to take away.
    pub remove_annotations: Vec<AnnotationRemoval>,
}

impl EditRequest {
    /// A request that changes nothing.
    pub fn new(target: Location) -> Self {
        Self {
            target,
            tags: Vec::new(),
            add: Vec::new(),
            replace: Vec::new(),
            remove: Vec::new(),
            platforms: Vec::new(),
            config: ConfigChanges::default(),
            annotations: Vec::new(),
            remove_annotations: Vec::new(),
        }
    }
}

/// One thing that is different afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    /// A platform that was not there.
    Added {
        /// The platform.
        platform: String,
        /// Its manifest.
        digest: Digest,
        /// Where it comes from.
        from: String,
    },
    /// Another image for a platform.
    Replaced {
        /// The platform.
        platform: String,
        /// The manifest before.
        before: Digest,
        /// The manifest afterwards.
        after: Digest,
        /// Where it comes from.
        from: String,
    },
    /// A platform that is gone.
    Removed {
        /// The platform.
        platform: String,
        /// Its manifest.
        digest: Digest,
    },
    /// The same image with another config or other annotations.
    Changed {
        /// The platform.
        platform: String,
        /// The manifest before.
        before: Digest,
        /// The manifest afterwards.
        after: Digest,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// Annotations of an entry of the index.
    Entry {
        /// The platform.
        platform: String,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// Annotations of the index itself.
    Index {
        /// What differs.
        differences: Vec<Difference>,
    },
    /// An attestation that goes, because it is about an image that goes.
    AttestationDropped {
        /// The platform.
        platform: String,
        /// The attestation's manifest.
        digest: Digest,
    },
}

/// A changed index, not published yet.
#[derive(Debug)]
pub struct Edited {
    /// The index as it was.
    pub before: Found,
    /// The index as it is to be.
    pub after: Found,
    /// What is different; empty when both are the same.
    pub changes: Vec<Change>,
    children: Vec<children::Child>,
}

impl Edited {
    /// Whether there is nothing to publish.
    pub fn is_unchanged(&self) -> bool {
        self.before.document.digest() == self.after.document.digest()
    }
}

/// Why an index could not be changed.
#[derive(Debug, Error)]
pub enum EditError {
    /// It is none.
    #[error("{name} is the manifest of one platform, no index")]
    NoIndex {
        /// The name.
        name: String,
    },
    /// A platform that is not there.
    #[error("{name} has no {wanted}: there {}", listed(available))]
    NoPlatform {
        /// The image.
        name: String,
        /// The platform, or digest, asked for.
        wanted: String,
        /// The platforms that are there.
        available: Vec<Platform>,
    },
    /// A platform that is there already.
    #[error("{name} has {platform} already, as {digest}")]
    Exists {
        /// The image.
        name: String,
        /// The platform.
        platform: Platform,
        /// Its manifest.
        digest: Digest,
    },
    /// A manifest that is no image's.
    #[error("{digest} ({platform}) is no image that has a config to change")]
    NoImage {
        /// The manifest.
        digest: Digest,
        /// The platform of its entry.
        platform: String,
    },
    /// Docker's documents have no annotations.
    #[error("{digest} is {media_type}, which has no annotations")]
    NoAnnotations {
        /// The document.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
    /// Annotations of an index's descriptor have no place here.
    #[error("index-descriptor annotations exist in image layouts only")]
    IndexDescriptor,
    /// A name is needed.
    #[error("{name} is a digest, which cannot mean another index")]
    NoName {
        /// The name.
        name: String,
    },
    /// Nothing is left.
    #[error("no platform of {name} would be left")]
    Empty {
        /// The image.
        name: String,
    },
    /// A document is not of the shape it must have.
    #[error("cannot change {digest}: its {member} is not of the right type")]
    Shape {
        /// The document.
        digest: Digest,
        /// The member.
        member: String,
    },
    /// The content could not be read or written.
    #[error(transparent)]
    Content(#[from] ContentError),
}
