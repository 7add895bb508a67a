//! Names of images with the place where they are: `NAME`, `store:NAME`, `oci:PATH[:NAME]`.

use std::fmt;
use std::path::PathBuf;

use onetag_oci::{Digest, DigestError, Reference, ReferenceError};
use thiserror::Error;

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// In a registry.
    Registry(Reference),
    /// In the local store.
    Store(Reference),
    /// In an OCI image layout.
    Layout(LayoutName),
}

/// An image of an OCI image layout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LayoutName {
    /// The layout's folder.
    pub path: PathBuf,
    /// The name in its index, if one was given.
    pub name: Option<String>,
    /// The digest, if one was given.
    pub digest: Option<Digest>,
}

/// Why a text names no image.
#[derive(Debug, Error)]
pub enum LocationError {
    /// The reference is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The digest of a layout's image is none.
    #[error("invalid digest in {text:?}")]
    Digest {
        /// What was given.
        text: String,
        /// Why not.
        #[source]
        source: DigestError,
    },
    /// A layout without a folder.
    #[error("{text:?} names no folder")]
    NoPath {
        /// What was given.
        text: String,
    },
}

impl Location {
    /// Parses a name; one without a prefix is in a registry. A reference without tag and digest means `latest`.
    ///
    /// # Errors
    /// When the reference, or the digest of a layout's image, is none.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        if let Some(rest) = text.strip_prefix("store:") {
            return Ok(Self::Store(Reference::parse(rest)?.with_default_tag()));
        }
        if let Some(rest) = text.strip_prefix("oci-layout://").or_else(|| text.strip_prefix("oci:")) {
            return layout(text, rest).map(Self::Layout);
        }
        Ok(Self::Registry(Reference::parse(text)?.with_default_tag()))
    }

    /// The same place, but content of this digest. A tag stays for people to read; the digest counts.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference.with_digest(digest.clone())),
            Self::Store(reference) => Self::Store(reference.with_digest(digest.clone())),
            Self::Layout(layout) => Self::Layout(LayoutName { digest: Some(digest.clone()), ..layout.clone() }),
        }
    }

    /// What content is addressed within: the repository, the store, the layout's folder.
    pub fn repository(&self) -> String {
        match self {
            Self::Registry(reference) => reference.repository(),
            Self::Store(reference) => format!("store:{}", reference.repository()),
            Self::Layout(layout) => format!("oci:{}", layout.path.display()),
        }
    }

    /// The repository's reference, when the image is in a registry.
    pub fn registry(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            _ => None,
        }
    }
}

fn layout(text: &str, rest: &str) -> Result<LayoutName, LocationError> {
    let (rest, digest) = match rest.rsplit_once('@') {
        Some((rest, digest)) if digest.contains(':') => {
            let parsed = digest.parse().map_err(|source| LocationError::Digest { text: text.to_owned(), source })?;
            (rest, Some(parsed))
        }
        _ => (rest, None),
    };
    // the first colon after which no further folder comes begins the name; names may hold slashes and colons
    let (path, name) = match rest.split_once(':') {
        Some((path, name)) if !name.is_empty() => (path, Some(name.to_owned())),
        Some((path, _)) => (path, None),
        None => (rest, None),
    };
    if path.is_empty() {
        return Err(LocationError::NoPath { text: text.to_owned() });
    }
    Ok(LayoutName { path: PathBuf::from(path), name, digest })
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "{reference}"),
            Self::Store(reference) => write!(f, "store:{reference}"),
            Self::Layout(layout) => {
                write!(f, "oci:{}", layout.path.display())?;
                if let Some(name) = &layout.name {
                    write!(f, ":{name}")?;
                }
                if let Some(digest) = &layout.digest {
                    write!(f, "@{digest}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Location;

    #[test]
    fn prefixes_say_where() {
        for (text, shown) in [
            ("app", "docker.io/library/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("store:app:1", "store:docker.io/library/app:1"),
            ("oci:/tmp/x", "oci:/tmp/x"),
            ("oci:/tmp/x:app:1", "oci:/tmp/x:app:1"),
            ("oci-layout://dir:tag", "oci:dir:tag"),
        ] {
            assert_eq!(Location::parse(text).unwrap().to_string(), shown, "{text}");
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(Location::parse(&format!("oci:x@{digest}")).unwrap().to_string(), format!("oci:x@{digest}"));
        for text in ["", "UPPER", "store:", "oci:", "oci:x@sha256:1", "app@sha256:1"] {
            assert!(Location::parse(text).is_err(), "{text}");
        }
    }
}
