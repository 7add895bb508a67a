//! The images that a Dockerfile names, and where in its bytes the digest of each would stand.
//!
//! Those of `FROM`, `COPY --from` and `RUN --mount=from=`, also in triggers. Stages, `scratch` and named contexts are
//! no images. A name that is put together of variables is followed to where its end is written, which may be the
//! default of a global `ARG`; see [`Expression::site`] for when that is sound.

mod expression;
mod finder;
mod places;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use onetag_oci::{Platform, Reference, ReferenceError};

use crate::shell::ShellError;
use crate::span::Position;

pub use expression::{Character, Expression, Place, Site};
pub use finder::images;

/// What is known besides the Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// The names of `--build-context`, which stand for something else than images.
    pub contexts: BTreeSet<String>,
}

/// An image that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedImage {
    /// Where the name begins.
    pub position: Position,
    /// What names it: `FROM`, `COPY --from`, `RUN --mount`, with `ONBUILD` before it in a trigger.
    pub instruction: String,
    /// The name as written.
    pub written: String,
    /// For which platform it is used.
    pub platform: UsedPlatform,
    /// What the name comes to.
    pub reference: Result<Reference, Obstacle>,
    /// The bytes of the file that `@DIGEST` takes or would take.
    pub site: Result<Range<usize>, Obstacle>,
}

/// For which platform an image is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsedPlatform {
    /// For each that is built.
    Target,
    /// For that of the builder: `--platform=$BUILDPLATFORM`.
    Build,
    /// For this one, whatever is built.
    Fixed(Box<Platform>),
}

/// Why an image cannot be told, or no digest written behind its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A variable without a value.
    #[error("{variable} has no value here")]
    NoValue {
        /// The variable.
        variable: String,
    },
    /// A variable that has another value for each platform.
    #[error("{variable} makes it another image for each platform")]
    PerPlatform {
        /// The variable.
        variable: String,
    },
    /// A variable in the name or the tag whose change would leave the digest.
    #[error("{variable} is a part of it: when that changes, the digest would stay and win")]
    Composed {
        /// The variable.
        variable: String,
    },
    /// A variable that also means something else.
    #[error("{variable} is used on line {line} as well, where its digest would be wrong")]
    Shared {
        /// The variable.
        variable: String,
        /// Where.
        line: u32,
    },
    /// A value that is not in the file.
    #[error("the value of {variable} is not written in this file")]
    Given {
        /// The variable.
        variable: String,
    },
    /// A substitution that cannot be undone.
    #[error("{variable} is substituted in a way that hides where the tag is written")]
    Substitution {
        /// The variable.
        variable: String,
    },
    /// Not in one piece.
    #[error("it is not written in one piece")]
    Spread,
    /// A name in a trigger that may be a stage.
    #[error("in a trigger, this may be a stage of the Dockerfile that sets it off")]
    Trigger,
    /// Not a reference.
    #[error("{text:?} is not an image: {source}")]
    Reference {
        /// What it came to.
        text: String,
        /// Why not.
        source: ReferenceError,
    },
    /// Broken shell syntax.
    #[error(transparent)]
    Shell(Box<ShellError>),
}

impl Obstacle {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Obstacle::NoValue { variable } => {
                Some(format!("give it one with --build-arg {variable}=…, or a default where it is declared"))
            }
            Obstacle::PerPlatform { .. } => {
                Some("one index for all platforms needs no variable; onetag imagetools create makes one".to_owned())
            }
            Obstacle::Composed { .. } | Obstacle::Shared { .. } | Obstacle::Substitution { .. } => {
                Some("put the whole name with its tag into one ARG, or keep the digest beside: --lock".to_owned())
            }
            Obstacle::Given { variable } => Some(format!("write the digest into what {variable} is given")),
            Obstacle::Spread => Some("write it on one line".to_owned()),
            Obstacle::Trigger => Some("write the tag: a name with a tag is no stage".to_owned()),
            Obstacle::Reference { .. } | Obstacle::Shell(_) => None,
        }
    }

    /// Whether the file is wrong, rather than beyond what can be pinned.
    pub fn is_error(&self) -> bool {
        matches!(self, Obstacle::Reference { .. } | Obstacle::Shell(_))
    }
}
