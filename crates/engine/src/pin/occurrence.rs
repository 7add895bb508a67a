//! An image that a file names.

use std::ops::Range;

use onetag_dockerfile::images::{NamedImage, Obstacle, UsedPlatform};
use onetag_dockerfile::span::Position;
use onetag_oci::Reference;

/// Where a file names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// Where the name begins.
    pub position: Position,
    /// What names it: an instruction, or the path of a field.
    pub place: String,
    /// The name as written.
    pub written: String,
    /// For which platform it is used.
    pub platform: UsedPlatform,
    /// What the name comes to.
    pub reference: Result<Reference, Reason>,
    /// The bytes of the file that `@DIGEST` takes or would take.
    pub site: Result<Range<usize>, Reason>,
}

/// Why an image is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The name cannot be told, or no digest written behind it.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    /// A digest and no tag.
    #[error("it has a digest and no tag to follow")]
    NoTag,
    /// The name is made by a template.
    #[error("a template makes it")]
    Template,
    /// The user said so.
    #[error("--except")]
    Excepted,
}

impl Reason {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Reason::Obstacle(obstacle) => obstacle.hint(),
            Reason::NoTag => Some("write the tag before the digest: NAME:TAG@sha256:…".to_owned()),
            Reason::Template => Some("pin what the template is filled in with".to_owned()),
            Reason::Excepted => None,
        }
    }

    /// Whether the file is wrong, rather than beyond what can be pinned.
    pub fn is_error(&self) -> bool {
        matches!(self, Reason::Obstacle(obstacle) if obstacle.is_error())
    }
}

impl From<NamedImage> for Occurrence {
    fn from(image: NamedImage) -> Self {
        Occurrence {
            position: image.position,
            place: image.instruction,
            written: image.written,
            platform: image.platform,
            reference: image.reference.map_err(Reason::from),
            site: image.site.map_err(Reason::from),
        }
    }
}
