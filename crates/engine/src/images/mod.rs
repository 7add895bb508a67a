//! Images in the local store: indexes whole or in part, their platforms, names.

mod choose;
mod edit;
mod find;
mod inspect;
mod list;
mod load;
mod missing;
mod presence;
mod remembered;
mod save;

pub use choose::{Chosen, choose};
pub use edit::{Removal, remove, tag};
pub use find::{LocalImage, all, find};
pub use inspect::{Inspected, inspect};
pub use list::{ImageSummary, PlatformSummary, list};
pub use load::{Loaded, load};
pub(crate) use missing::source;
pub use missing::{Missing, fetch, missing};
pub use presence::{Entry, entries};
pub use save::save;

use onetag_oci::{Platform, ReferenceError};
use thiserror::Error;

use crate::content::ContentError;
use crate::platforms::listed;

/// Result of operations on local images.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// Why an operation on a local image failed.
#[derive(Debug, Error)]
pub enum ImageError {
    /// There is no such image here.
    #[error("no such image: {name}")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// The beginning of a digest that several images share.
    #[error("{prefix} is the beginning of several images' digests")]
    Ambiguous {
        /// What was given.
        prefix: String,
    },
    /// The name is none.
    #[error("invalid reference {name:?}")]
    Reference {
        /// What was given.
        name: String,
        /// Why not.
        #[source]
        source: ReferenceError,
    },
    /// The image has no such platform.
    #[error("{name}: no match for platform in manifest: wanted {wanted}, there {}", listed(available))]
    NoMatch {
        /// The image.
        name: String,
        /// The platform asked for.
        wanted: Platform,
        /// The platforms that its index names.
        available: Vec<Platform>,
    },
    /// The platform is in the index but not in the store.
    #[error("{name}: {platform} is in the index but its content is not here")]
    NotHere {
        /// The image.
        name: String,
        /// The platform.
        platform: Platform,
        /// The platforms that are here.
        here: Vec<Platform>,
        /// The name under which a registry may have it; `None` for an image without a name.
        registry_name: Option<String>,
    },
    /// A platform that is taken away is part of other images, or has other names.
    #[error("{platform} of {name} is also what is here of {}", others.join(", "))]
    SharedPlatform {
        /// The image.
        name: String,
        /// The platform.
        platform: Platform,
        /// The other names.
        others: Vec<String>,
    },
    /// Another process works with what was to be taken away.
    #[error("{name} is in use by another process of onetag")]
    InUse {
        /// The image.
        name: String,
    },
    /// Without a platform asked for, several could be meant and none is the host's.
    #[error("{name} is here for other platforms than the host's: there {}", listed(available))]
    NoDefault {
        /// The image.
        name: String,
        /// The platforms that are here.
        available: Vec<Platform>,
    },
    /// An image that is used under several names is removed by digest.
    #[error("{digest} has several names: {}", names.join(", "))]
    SeveralNames {
        /// What was given.
        digest: String,
        /// The names.
        names: Vec<String>,
    },
    /// The archive is no image.
    #[error("the archive holds no image: {missing} is not in it")]
    NoArchive {
        /// What is missing.
        missing: &'static str,
    },
    /// A document of the archive is none.
    #[error("cannot read {name} of the archive")]
    Document {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The archive could not be read.
    #[error("cannot read the archive")]
    Read(#[source] std::io::Error),
    /// The archive could not be written.
    #[error("cannot write the archive")]
    Write(#[source] std::io::Error),
    /// The content could not be read or written.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl From<onetag_store::Error> for ImageError {
    fn from(error: onetag_store::Error) -> Self {
        Self::Content(error.into())
    }
}
