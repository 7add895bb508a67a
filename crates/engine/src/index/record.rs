//! Records of builds: what one runner built of an image, for the one that puts the parts together.
//!
//! `docs/build-record.md` describes the document.

use std::fmt;

use onetag_oci::{Descriptor, Digest, Platform, Reference};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A larger record is none, in bytes.
pub const RECORD_LIMIT: usize = 1 << 20;
/// The only version there is.
const VERSION: u64 = 1;
/// What tells a record from other documents.
const KIND: &str = "onetag.build-record";

/// A record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildRecord {
    schema_version: u64,
    kind: String,
    /// The repository that it was pushed to.
    #[serde(with = "repository")]
    pub repository: Reference,
    /// What was pushed: a manifest, or an index.
    pub descriptor: Descriptor,
    /// Its platforms.
    pub platforms: Vec<RecordedPlatform>,
    /// What it was built of, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRevision>,
    /// The Dockerfile, where it was at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<RecordedFile>,
    /// When the build ended, RFC 3339.
    pub created: String,
}

/// A platform of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPlatform {
    /// The platform.
    #[serde(with = "specifier")]
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Digest,
}

/// A revision of the sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceRevision {
    /// The commit.
    pub revision: String,
    /// Whether files that the commit has were changed since.
    #[serde(default)]
    pub dirty: bool,
}

impl fmt::Display for SourceRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.revision)?;
        if self.dirty { f.write_str("-dirty") } else { Ok(()) }
    }
}

/// A file that took part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Its digest.
    pub digest: Digest,
}

/// Why bytes are no record.
#[derive(Debug, Error)]
pub enum RecordError {
    /// Not JSON of this shape.
    #[error("not a record of `onetag build --record`")]
    Json(#[source] serde_json::Error),
    /// JSON of another kind.
    #[error("not a record of `onetag build --record`: its kind is {kind:?}")]
    Kind {
        /// The kind it says it is.
        kind: String,
    },
    /// A version to come.
    #[error("a build record of version {version}; this program reads version {VERSION}")]
    Version {
        /// Its version.
        version: u64,
    },
    /// Nothing was built.
    #[error("a build record without platforms")]
    NoPlatforms,
    /// Larger than any has a reason to be.
    #[error("a build record of {size} bytes, more than the {RECORD_LIMIT} that are read")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "schemaVersion", default)]
    schema_version: u64,
    #[serde(default)]
    kind: String,
}

impl BuildRecord {
    /// A record without source and Dockerfile.
    pub fn new(
        repository: &Reference,
        descriptor: Descriptor,
        platforms: Vec<RecordedPlatform>,
        created: String,
    ) -> BuildRecord {
        BuildRecord {
            schema_version: VERSION,
            kind: KIND.to_owned(),
            repository: repository.name_only(),
            descriptor,
            platforms,
            source: None,
            dockerfile: None,
            created,
        }
    }

    /// Parses a record.
    ///
    /// # Errors
    /// When it is none, or of a version to come.
    pub fn parse(bytes: &[u8]) -> Result<BuildRecord, RecordError> {
        if bytes.len() > RECORD_LIMIT {
            return Err(RecordError::TooLarge { size: bytes.len() });
        }
        let head: Head = serde_json::from_slice(bytes).map_err(RecordError::Json)?;
        if head.kind != KIND {
            return Err(RecordError::Kind { kind: head.kind });
        }
        if head.schema_version != VERSION {
            return Err(RecordError::Version { version: head.schema_version });
        }
        let record: BuildRecord = serde_json::from_slice(bytes).map_err(RecordError::Json)?;
        if record.platforms.is_empty() { Err(RecordError::NoPlatforms) } else { Ok(record) }
    }

    /// The bytes of a record.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = onetag_oci::go_json_indent(self, "  ");
        bytes.push(b'\n');
        bytes
    }
}

/// Platforms as people write them: `linux/arm/v7`.
mod specifier {
    use onetag_oci::Platform;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(platform: &Platform, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&platform.to_string())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Platform, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse::<Platform>().map(|platform| platform.normalize()).map_err(D::Error::custom)
    }
}

/// Repositories by their full names, without tag and digest.
mod repository {
    use onetag_oci::Reference;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(reference: &Reference, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&reference.repository())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        let text = String::deserialize(deserializer)?;
        Reference::parse(&text).map(|reference| reference.name_only()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use onetag_oci::{Descriptor, Digest, Reference, media_type};

    use super::{BuildRecord, RecordError, RecordedPlatform, SourceRevision};

    #[test]
    fn records_read_back_and_others_are_refused() {
        let digest = Digest::sha256(b"x");
        let platforms = vec![RecordedPlatform { platform: "linux/arm/v7".parse().unwrap(), manifest: digest.clone() }];
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, 1);
        let reference = Reference::parse("localhost:5000/app:tag").unwrap();
        let mut record = BuildRecord::new(&reference, descriptor, platforms, "2024-01-01T00:00:00Z".to_owned());
        record.source = Some(SourceRevision { revision: "abc".to_owned(), dirty: true });
        assert_eq!(record.source.as_ref().unwrap().to_string(), "abc-dirty");
        let json = record.to_json();
        assert_eq!(BuildRecord::parse(&json).unwrap(), record);
        assert!(String::from_utf8_lossy(&json).contains("\"repository\": \"localhost:5000/app\""));
        let text = String::from_utf8(json).unwrap();
        let later = text.replace("\"schemaVersion\": 1", "\"schemaVersion\": 2");
        assert!(matches!(BuildRecord::parse(later.as_bytes()), Err(RecordError::Version { version: 2 })));
        assert!(matches!(BuildRecord::parse(b"{}"), Err(RecordError::Kind { .. })));
        assert!(matches!(BuildRecord::parse(b"1"), Err(RecordError::Json(_))));
        assert!(matches!(BuildRecord::parse(&vec![b' '; 2 << 20]), Err(RecordError::TooLarge { .. })));
    }
}
