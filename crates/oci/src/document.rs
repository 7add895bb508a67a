//! Documents: the exact bytes received beside what they say.

use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Descriptor, Digest, Index, Manifest, go_json, media_type};

/// The largest document that is read unless the caller says otherwise: 4 MiB, as containerd and most registries.
pub const DEFAULT_DOCUMENT_LIMIT: usize = 4 << 20;

/// Why bytes are not a document of the model.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Larger than the limit; nothing of it was parsed.
    #[error("document of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Size of the document in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not JSON, or not of this shape.
    #[error("invalid document {digest}")]
    Json {
        /// Digest of the bytes.
        digest: Digest,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// An index and a manifest at once; readers would disagree on what it is.
    #[error("document {digest} is ambiguous: it has the members of an index and of a manifest")]
    Ambiguous {
        /// Digest of the bytes.
        digest: Digest,
    },
    /// Schema 1, which carries no digests of uncompressed layers and is no longer served.
    #[error(
        "document {digest} is a Docker schema 1 manifest, which is not supported: push the image again with a current client"
    )]
    Schema1 {
        /// Digest of the bytes.
        digest: Digest,
    },
    /// Neither an index nor a manifest.
    #[error("document {digest} is neither an image index nor an image manifest{}", found.as_deref().map(|found| format!(" (media type {found})")).unwrap_or_default())]
    Unknown {
        /// Digest of the bytes.
        digest: Digest,
        /// The media type that was announced or written inside.
        found: Option<String>,
    },
    /// Announced as one kind, but the other by its own words.
    #[error("document {digest} was announced as {announced} but is {found}")]
    MediaType {
        /// Digest of the bytes.
        digest: Digest,
        /// The media type that the sender announced.
        announced: String,
        /// What the document says, or shows, it is.
        found: String,
    },
}

/// A parsed document with the exact bytes that it came from or was written as.
#[derive(Clone, Debug, PartialEq)]
pub struct Document<T> {
    bytes: Vec<u8>,
    digest: Digest,
    value: T,
}

impl<T: DeserializeOwned> Document<T> {
    /// Parses at most [`DEFAULT_DOCUMENT_LIMIT`] bytes.
    ///
    /// # Errors
    /// Too large, or not JSON of this shape. Nesting beyond 128 levels is refused.
    pub fn parse(bytes: Vec<u8>) -> Result<Document<T>, DocumentError> {
        Document::parse_with_limit(bytes, DEFAULT_DOCUMENT_LIMIT)
    }

    /// Parses at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn parse_with_limit(bytes: Vec<u8>, limit: usize) -> Result<Document<T>, DocumentError> {
        if bytes.len() > limit {
            return Err(DocumentError::TooLarge { size: bytes.len(), limit });
        }
        let digest = Digest::sha256(&bytes);
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Document { bytes, digest, value }),
            Err(source) => Err(DocumentError::Json { digest, source }),
        }
    }
}

impl<T: Serialize> Document<T> {
    /// Writes a value as deterministic compact JSON.
    pub fn from_value(value: T) -> Document<T> {
        let bytes = go_json(&value);
        Document { digest: Digest::sha256(&bytes), bytes, value }
    }

    /// Writes a value as JSON indented by two spaces, the form of indexes and manifests that BuildKit pushes.
    pub fn from_value_indented(value: T) -> Document<T> {
        let bytes = crate::go_json_indent(&value, "  ");
        Document { digest: Digest::sha256(&bytes), bytes, value }
    }
}

impl<T> Document<T> {
    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the exact bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What the bytes say.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What the bytes said, without them.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The exact bytes, without what they say.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl<T> Deref for Document<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What a tag or a manifest digest leads to: an index or a manifest.
#[expect(clippy::large_enum_variant, reason = "one of them is held at a time, a box would only be in the way")]
#[derive(Clone, Debug, PartialEq)]
pub enum ManifestDocument {
    /// An index or Docker manifest list.
    Index(Document<Index>),
    /// An OCI or Docker manifest.
    Manifest(Document<Manifest>),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Index,
    Manifest,
}

impl Kind {
    fn of_media_type(media_type: &str) -> Option<Kind> {
        if media_type::is_index(media_type) {
            Some(Kind::Index)
        } else if media_type::is_manifest(media_type) {
            Some(Kind::Manifest)
        } else {
            None
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Kind::Index => media_type::OCI_INDEX,
            Kind::Manifest => media_type::OCI_MANIFEST,
        }
    }
}

/// The members that tell the kinds apart; values are skipped without being kept.
#[derive(serde::Deserialize)]
struct Outline {
    #[serde(rename = "schemaVersion", default)]
    schema_version: Option<serde_json::Number>,
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(rename = "fsLayers", default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl ManifestDocument {
    /// Parses at most [`DEFAULT_DOCUMENT_LIMIT`] bytes. `media_type` is what the sender announced; types that are no
    /// manifest's (`application/json`, `text/plain`) count as nothing announced, the content then decides.
    ///
    /// # Errors
    /// Too large, not JSON, schema 1, an index and a manifest at once, or not what was announced.
    pub fn parse(bytes: Vec<u8>, media_type: Option<&str>) -> Result<ManifestDocument, DocumentError> {
        let outline = Document::<Outline>::parse(bytes)?;
        let Document { bytes, digest, value: outline } = outline;
        let announced = media_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        match kind(&outline, announced, &digest)? {
            Kind::Index => Document::parse(bytes).map(ManifestDocument::Index),
            Kind::Manifest => Document::parse(bytes).map(ManifestDocument::Manifest),
        }
        .map(|mut document| {
            document.fill_media_type(announced);
            document
        })
    }

    /// The media type: the document's own, else the announced, else OCI's for its kind.
    pub fn media_type(&self) -> &str {
        let (own, kind) = match self {
            ManifestDocument::Index(index) => (&index.value.media_type, Kind::Index),
            ManifestDocument::Manifest(manifest) => (&manifest.value.media_type, Kind::Manifest),
        };
        own.as_deref().unwrap_or(kind.media_type())
    }

    /// SHA-256 of the exact bytes.
    pub fn digest(&self) -> &Digest {
        match self {
            ManifestDocument::Index(index) => &index.digest,
            ManifestDocument::Manifest(manifest) => &manifest.digest,
        }
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            ManifestDocument::Index(index) => &index.bytes,
            ManifestDocument::Manifest(manifest) => &manifest.bytes,
        }
    }

    /// A descriptor of the document: media type, digest and size.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type(), self.digest().clone(), self.bytes().len() as u64)
    }

    /// The index, if it is one.
    pub fn as_index(&self) -> Option<&Document<Index>> {
        match self {
            ManifestDocument::Index(index) => Some(index),
            ManifestDocument::Manifest(_) => None,
        }
    }

    /// The manifest, if it is one.
    pub fn as_manifest(&self) -> Option<&Document<Manifest>> {
        match self {
            ManifestDocument::Manifest(manifest) => Some(manifest),
            ManifestDocument::Index(_) => None,
        }
    }

    /// A document without a media type of its own has the announced one.
    fn fill_media_type(&mut self, announced: Option<&str>) {
        let (own, kind) = match self {
            ManifestDocument::Index(index) => (&mut index.value.media_type, Kind::Index),
            ManifestDocument::Manifest(manifest) => (&mut manifest.value.media_type, Kind::Manifest),
        };
        if own.is_none() {
            *own = announced.filter(|text| Kind::of_media_type(text) == Some(kind)).map(str::to_owned);
        }
    }
}

fn kind(outline: &Outline, announced: Option<&str>, digest: &Digest) -> Result<Kind, DocumentError> {
    let own = outline.media_type.as_deref().filter(|text| !text.is_empty());
    let schema1_type = |text: &str| matches!(text, media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED);
    let version_1 = outline.schema_version.as_ref().and_then(serde_json::Number::as_u64) == Some(1);
    if version_1 || outline.fs_layers.is_some() || own.or(announced).is_some_and(schema1_type) {
        return Err(DocumentError::Schema1 { digest: digest.clone() });
    }
    let as_manifest = outline.config.is_some() || outline.layers.is_some();
    let shown = match (outline.manifests.is_some(), as_manifest) {
        (true, true) => return Err(DocumentError::Ambiguous { digest: digest.clone() }),
        (true, false) => Some(Kind::Index),
        (false, true) => Some(Kind::Manifest),
        (false, false) => None,
    };
    let own_kind = own.and_then(Kind::of_media_type);
    if own.is_some() && own_kind.is_none() {
        return Err(DocumentError::Unknown { digest: digest.clone(), found: own.map(str::to_owned) });
    }
    if let (Some(own_kind), Some(shown)) = (own_kind, shown)
        && own_kind != shown
    {
        return Err(DocumentError::Ambiguous { digest: digest.clone() });
    }
    let announced_kind = announced.and_then(Kind::of_media_type);
    let found = own_kind.or(shown);
    if let (Some(announced_kind), Some(found_kind)) = (announced_kind, found)
        && announced_kind != found_kind
    {
        return Err(DocumentError::MediaType {
            digest: digest.clone(),
            announced: announced.unwrap_or_default().to_owned(),
            found: own.unwrap_or(found_kind.media_type()).to_owned(),
        });
    }
    found
        .or(announced_kind)
        .ok_or_else(|| DocumentError::Unknown { digest: digest.clone(), found: announced.map(str::to_owned) })
}
