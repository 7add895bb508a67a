//! Annotations as flags give them: `[TYPE[,TYPE…][[PLATFORM]]:]KEY=VALUE`.

use onetag_oci::{Platform, PlatformError};
use thiserror::Error;

/// What an annotation is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnnotationScope {
    /// No type was given: the manifest, where the operation makes one.
    Unspecified,
    /// The index.
    Index,
    /// The descriptor of the index in an image layout.
    IndexDescriptor,
    /// The manifest.
    Manifest,
    /// The manifest's descriptor in the index.
    ManifestDescriptor,
}

impl AnnotationScope {
    /// As flags spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Index => "index",
            Self::IndexDescriptor => "index-descriptor",
            Self::Manifest => "manifest",
            Self::ManifestDescriptor => "manifest-descriptor",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Unspecified, Self::Index, Self::IndexDescriptor, Self::Manifest, Self::ManifestDescriptor]
            .into_iter()
            .find(|scope| scope.as_str() == text)
    }
}

/// One annotation with what it is put on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// What it is put on.
    pub scope: AnnotationScope,
    /// The only platform it is meant for, if it is for one.
    pub platform: Option<Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Why a flag is no annotation.
#[derive(Debug, Error)]
pub enum AnnotationError {
    /// There is no `=`.
    #[error("invalid annotation {text:?}, expected key=value")]
    NoValue {
        /// What was given.
        text: String,
    },
    /// The type is none.
    #[error("unknown annotation type {name:?}")]
    Scope {
        /// What was given.
        name: String,
    },
    /// The platform is none.
    #[error("invalid platform {text:?}")]
    Platform {
        /// What was given.
        text: String,
        /// Why not.
        #[source]
        source: PlatformError,
    },
}

impl Annotation {
    /// Parses one flag, which may stand for several types.
    ///
    /// # Errors
    /// When it has no value, an unknown type or a bad platform.
    pub fn parse(text: &str) -> Result<Vec<Self>, AnnotationError> {
        let (key, value) = text.split_once('=').ok_or_else(|| AnnotationError::NoValue { text: text.to_owned() })?;
        // a key may itself hold a colon; only what looks like a list of types is one
        let (scopes, key) = match key.split_once(':') {
            Some((scopes, key)) => (scopes, key),
            None => ("", key),
        };
        scopes
            .split(',')
            .map(|scope| {
                let (name, platform) = match scope.strip_suffix(']').and_then(|scope| scope.split_once('[')) {
                    Some((name, platform)) => (name, Some(platform)),
                    None => (scope, None),
                };
                let scope =
                    AnnotationScope::parse(name).ok_or_else(|| AnnotationError::Scope { name: name.to_owned() })?;
                let platform = platform.filter(|text| !text.is_empty()).map(|text| {
                    text.parse().map_err(|source| AnnotationError::Platform { text: text.to_owned(), source })
                });
                Ok(Self { scope, platform: platform.transpose()?, key: key.to_owned(), value: value.to_owned() })
            })
            .collect()
    }
}
