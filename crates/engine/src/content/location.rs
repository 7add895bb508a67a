//! Names of images with the place where they are: `NAME`, `store:NAME`, `oci:PATH[:NAME]`, `oci-archive:PATH[:NAME]`,
//! `docker-archive:PATH[:NAME]`; skopeo's `docker://NAME` is a name in a registry.

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
    /// In an archive.
    Archive(ArchiveName),
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

/// An image of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArchiveName {
    /// Whose archive it is.
    pub kind: ArchiveKind,
    /// The file, the name in it, the digest.
    pub place: LayoutName,
}

/// The two kinds of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArchiveKind {
    /// An OCI image layout in a tar.
    Oci,
    /// What `docker save` writes: `manifest.json`, with one platform of each image.
    Docker,
}

impl ArchiveKind {
    fn scheme(self) -> &'static str {
        match self {
            Self::Oci => "oci-archive",
            Self::Docker => "docker-archive",
        }
    }
}

/// Other tools' places, each with what does the same here.
const REFUSED: [(&str, &str); 8] = [
    ("containers-storage:", "podman push NAME oci-archive:FILE, and copy from oci-archive:FILE"),
    ("docker-daemon:", "docker save -o FILE NAME, and copy from docker-archive:FILE"),
    ("dir:", "oci:FOLDER is an image layout that every tool reads"),
    ("ostree:", "copy to oci:FOLDER"),
    ("sif:", "copy to oci:FOLDER"),
    ("tarball:", "onetag import FILE NAME, and copy from store:NAME"),
    ("atomic:", "name the registry itself: docker://HOST/NAME"),
    ("openshift:", "name the registry itself: docker://HOST/NAME"),
];

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
    /// A layout or archive without a path.
    #[error("{text:?} names no {what}")]
    NoPath {
        /// What was given.
        text: String,
        /// What is missing.
        what: &'static str,
    },
    /// A place of another tool.
    #[error("{scheme} is not supported")]
    Refused {
        /// The place, with its colon.
        scheme: &'static str,
        /// What does the same here.
        instead: &'static str,
    },
}

impl Location {
    /// Parses a name; one without a prefix is in a registry. A reference without tag and digest means `latest`.
    ///
    /// # Errors
    /// When the reference, or the digest of a layout's image, is none; for places of other tools.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        if let Some(rest) = text.strip_prefix("store:") {
            return Ok(Self::Store(Reference::parse(rest)?.with_default_tag()));
        }
        if let Some(rest) = text.strip_prefix("oci-layout://").or_else(|| text.strip_prefix("oci:")) {
            return place(text, rest, "folder").map(Self::Layout);
        }
        for kind in [ArchiveKind::Oci, ArchiveKind::Docker] {
            if let Some(rest) = text.strip_prefix(kind.scheme()).and_then(|rest| rest.strip_prefix(':')) {
                return Ok(Self::Archive(ArchiveName { kind, place: place(text, rest, "file")? }));
            }
        }
        if let Some((scheme, instead)) = REFUSED.iter().find(|(scheme, _)| text.starts_with(scheme)) {
            // a host of that name with a port is still a host
            let port = text[scheme.len()..].split_once('/').map_or("", |(port, _)| port);
            if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(LocationError::Refused { scheme, instead });
            }
        }
        let name = text.strip_prefix("docker://").unwrap_or(text);
        Ok(Self::Registry(Reference::parse(name)?.with_default_tag()))
    }

    /// The same place, but content of this digest. A tag stays for people to read; the digest counts.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        let at = |place: &LayoutName| LayoutName { digest: Some(digest.clone()), ..place.clone() };
        match self {
            Self::Registry(reference) => Self::Registry(reference.with_digest(digest.clone())),
            Self::Store(reference) => Self::Store(reference.with_digest(digest.clone())),
            Self::Layout(layout) => Self::Layout(at(layout)),
            Self::Archive(archive) => Self::Archive(ArchiveName { place: at(&archive.place), ..archive.clone() }),
        }
    }

    /// What content is addressed within: the repository, the store, the layout's folder, the archive.
    pub fn repository(&self) -> String {
        match self {
            Self::Registry(reference) => reference.repository(),
            Self::Store(reference) => format!("store:{}", reference.repository()),
            Self::Layout(layout) => format!("oci:{}", layout.path.display()),
            Self::Archive(archive) => format!("{}:{}", archive.kind.scheme(), archive.place.path.display()),
        }
    }

    /// The repository's reference, when the image is in a registry.
    pub fn registry(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            _ => None,
        }
    }

    /// The digest that the name asks for.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Registry(reference) | Self::Store(reference) => reference.digest(),
            Self::Layout(place) | Self::Archive(ArchiveName { place, .. }) => place.digest.as_ref(),
        }
    }
}

fn place(text: &str, rest: &str, what: &'static str) -> Result<LayoutName, LocationError> {
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
        return Err(LocationError::NoPath { text: text.to_owned(), what });
    }
    Ok(LayoutName { path: PathBuf::from(path), name, digest })
}

impl fmt::Display for LayoutName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(name) = &self.name {
            write!(f, ":{name}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "{reference}"),
            Self::Store(reference) => write!(f, "store:{reference}"),
            Self::Layout(layout) => write!(f, "oci:{layout}"),
            Self::Archive(archive) => write!(f, "{}:{}", archive.kind.scheme(), archive.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Location, LocationError};

    #[test]
    fn prefixes_say_where() {
        for (text, shown) in [
            ("app", "docker.io/library/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("docker://localhost:5000/app", "localhost:5000/app:latest"),
            ("store:app:1", "store:docker.io/library/app:1"),
            ("oci:/tmp/x", "oci:/tmp/x"),
            ("oci:/tmp/x:app:1", "oci:/tmp/x:app:1"),
            ("oci-layout://dir:tag", "oci:dir:tag"),
            ("oci-archive:x.tar", "oci-archive:x.tar"),
            ("oci-archive:/a/x.tar:app:1", "oci-archive:/a/x.tar:app:1"),
            ("docker-archive:x.tar:localhost:5000/app:1", "docker-archive:x.tar:localhost:5000/app:1"),
            ("dir:5000/app", "dir:5000/app:latest"),
        ] {
            assert_eq!(Location::parse(text).unwrap().to_string(), shown, "{text}");
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(Location::parse(&format!("oci:x@{digest}")).unwrap().to_string(), format!("oci:x@{digest}"));
        for text in
            ["", "UPPER", "store:", "oci:", "oci:x@sha256:1", "app@sha256:1", "oci-archive:", "docker-archive::x"]
        {
            assert!(Location::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn places_of_other_tools_are_refused_by_name() {
        for text in ["containers-storage:app", "docker-daemon:app:1", "dir:/tmp/x", "tarball:x.tar"] {
            assert!(matches!(Location::parse(text), Err(LocationError::Refused { .. })), "{text}");
        }
    }
}
