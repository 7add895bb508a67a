//! The lock file: which digest each tag stands for, beside the files that name the tags.
//!
//! ```json
//! {
//!   "version": 1,
//!   "images": {
//!     "docker.io/library/alpine:3.20": {
//!       "digest": "sha256:…",
//!       "mediaType": "application/vnd.oci.image.index.v1+json",
//!       "size": 1234,
//!       "platforms": ["linux/amd64", "linux/arm64"]
//!     }
//!   }
//! }
//! ```
//!
//! Names are complete, with their tag; members are sorted, two spaces indent, a line end comes last: equal content is
//! equal bytes. Members that are not known are ignored when it is read; another version is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use onetag_oci::{Digest, Reference, ReferenceError};
use serde::{Deserialize, Serialize};

/// What a lock file is called where nobody says otherwise.
pub const LOCK_NAME: &str = "onetag.lock";

/// The version that is written and read.
const VERSION: u64 = 1;

/// A lock file is not larger than this.
const LIMIT_BYTES: u64 = 16 << 20;

/// What a lock file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    images: BTreeMap<String, LockedImage>,
}

/// What a tag stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedImage {
    /// The digest of the index, or of the manifest where there is no index.
    pub digest: Digest,
    /// Its media type.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// The platforms that it is for, in its order.
    pub platforms: Vec<String>,
}

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It says nothing that can be used.
    #[error("{path} is no lock file that can be used")]
    Content {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: LockContentError,
    },
}

/// What is wrong in a lock file.
#[derive(Debug, thiserror::Error)]
pub enum LockContentError {
    /// Not JSON, or not of this shape.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Of another version.
    #[error("version {version}, and this onetag knows version {VERSION}")]
    Version {
        /// The version.
        version: u64,
    },
    /// A name that is no reference.
    #[error("{name:?} is no image")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        #[source]
        source: ReferenceError,
    },
    /// A name that no lookup asks for.
    #[error("{name:?} is no complete name with a tag and without a digest")]
    Incomplete {
        /// The name.
        name: String,
    },
    /// Larger than any.
    #[error("it is larger than {LIMIT_BYTES} bytes")]
    TooLarge,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u64,
    images: BTreeMap<String, LockedImage>,
}

impl Lock {
    /// Reads what a lock file says.
    ///
    /// # Errors
    /// It is none, or of another version.
    pub fn parse(bytes: &[u8]) -> Result<Lock, LockContentError> {
        if bytes.len() as u64 > LIMIT_BYTES {
            return Err(LockContentError::TooLarge);
        }
        let VersionOnly { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(LockContentError::Version { version });
        }
        let Document { images, .. } = serde_json::from_slice(bytes)?;
        for name in images.keys() {
            let reference =
                Reference::parse(name).map_err(|source| LockContentError::Name { name: name.clone(), source })?;
            let is_tagged = reference.tag().is_some() && reference.digest().is_none();
            if !is_tagged || reference.to_string() != *name {
                return Err(LockContentError::Incomplete { name: name.clone() });
            }
        }
        Ok(Lock { images })
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// It is absent, cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Lock, LockError> {
        let failed = |source| LockError::Read { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        let content = if size > LIMIT_BYTES { Err(LockContentError::TooLarge) } else { Ok(()) };
        let bytes = content.map(|()| std::fs::read(path));
        let lock = match bytes {
            Ok(bytes) => Lock::parse(&bytes.map_err(failed)?),
            Err(error) => Err(error),
        };
        lock.map_err(|source| LockError::Content { path: path.to_owned(), source })
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let document = Document { version: VERSION, images: self.images.clone() };
        let mut bytes = onetag_oci::go_json_indent(&document, "  ");
        bytes.push(b'\n');
        bytes
    }

    /// What the lock says of a reference; its digest does not count, a missing tag is `latest`.
    pub fn get(&self, reference: &Reference) -> Option<&LockedImage> {
        self.images.get(&key(reference))
    }

    /// Sets what a reference stands for.
    pub fn set(&mut self, reference: &Reference, image: LockedImage) {
        self.images.insert(key(reference), image);
    }

    /// The names that are in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.images.keys().map(String::as_str)
    }
}

fn key(reference: &Reference) -> String {
    reference.without_digest().with_default_tag().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked() -> LockedImage {
        LockedImage {
            digest: Digest::sha256(b""),
            media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
            size: 7,
            platforms: vec!["linux/amd64".to_owned()],
        }
    }

    #[test]
    fn what_is_written_is_read_and_written_alike() {
        let mut lock = Lock::default();
        lock.set(&"b".parse().unwrap(), locked());
        lock.set(&"a/c:1".parse().unwrap(), locked());
        let bytes = lock.to_bytes();
        assert!(bytes.starts_with(b"{\n  \"version\": 1,\n  \"images\": {\n    \"docker.io/a/c:1\": {\n"), "{bytes:?}");
        assert!(bytes.ends_with(b"}\n"));
        let read = Lock::parse(&bytes).unwrap();
        assert_eq!((read.to_bytes(), &read), (bytes, &lock));
        assert_eq!(read.get(&"b:latest".parse().unwrap()), Some(&locked()));
        assert_eq!(read.get(&"b:2".parse().unwrap()), None);
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        let image = serde_json::to_string(&locked()).unwrap();
        for (text, problem) in [
            ("", "EOF"),
            ("{}", "version"),
            ("{\"version\":2,\"images\":[]}", "version 2"),
            ("{\"version\":1}", "images"),
            (&format!("{{\"version\":1,\"images\":{{\"Upper:1\":{image}}}}}"), "no image"),
            (&format!("{{\"version\":1,\"images\":{{\"alpine:1\":{image}}}}}"), "complete"),
            ("{\"version\":1,\"images\":{\"docker.io/library/a:1\":{\"digest\":\"x\"}}}", "digest"),
        ] {
            let error = Lock::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
        let more = format!("{{\"version\":1,\"more\":1,\"images\":{{\"docker.io/library/a:1\":{image}}}}}");
        assert!(Lock::parse(more.as_bytes()).is_ok());
    }
}
