//! Repositories over storage: which blobs, manifests, tags and referrers each has.
//!
//! Records (see [`super::storage`]):
//!
//! ```text
//! catalog/<name with ~ for />                                     a repository exists
//! repositories/<name>/_blobs/<algorithm>/<hex>                    the repository has the blob
//! repositories/<name>/_manifests/<algorithm>/<hex>                the repository has the manifest; value: ManifestRecord
//! repositories/<name>/_tags/<tag>                                 value: digest of the manifest
//! repositories/<name>/_referrers/<algorithm>/<hex>/<digest with - for :>   value: descriptor of the manifest that refers to the subject
//! ```
//!
//! Names of repositories have no component that begins with `_`, so the four cannot be mistaken for repositories.

use std::str::FromStr;
use std::sync::Arc;

use onetag_oci::{Descriptor, Digest};
use serde::{Deserialize, Serialize};

use super::storage::{Content, Result, Storage};
use crate::wire::name::{RepositoryName, Tag};

/// What the record of a manifest says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ManifestRecord {
    /// The type it was pushed with.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Size in bytes.
    pub size: u64,
    /// The manifest that it is about, in case it has a subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
}

/// One repository of a registry.
#[derive(Clone)]
pub(crate) struct Repository {
    storage: Arc<dyn Storage>,
    name: RepositoryName,
}

impl Repository {
    pub(crate) fn new(storage: Arc<dyn Storage>, name: RepositoryName) -> Self {
        Repository { storage, name }
    }

    pub(crate) fn name(&self) -> &RepositoryName {
        &self.name
    }

    fn key(&self, rest: &str) -> String {
        format!("repositories/{}/{rest}", self.name)
    }

    fn blob_key(&self, digest: &Digest) -> String {
        self.key(&format!("_blobs/{}/{}", digest.algorithm().name(), digest.encoded()))
    }

    pub(crate) fn manifest_key(&self, digest: &Digest) -> String {
        self.key(&format!("_manifests/{}/{}", digest.algorithm().name(), digest.encoded()))
    }

    pub(crate) fn tag_key(&self, tag: &Tag) -> String {
        self.key(&format!("_tags/{tag}"))
    }

    fn referrers_key(&self, subject: &Digest) -> String {
        self.key(&format!("_referrers/{}/{}", subject.algorithm().name(), subject.encoded()))
    }

    /// Whether anything was ever pushed here.
    pub(crate) fn exists(&self) -> Result<bool> {
        Ok(self.storage.stamp(&catalog_key(&self.name))?.is_some())
    }

    /// Makes the repository known.
    pub(crate) fn ensure(&self) -> Result<()> {
        if self.exists()? { Ok(()) } else { self.storage.write(&catalog_key(&self.name), b"") }
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool> {
        Ok(self.storage.stamp(&self.blob_key(digest))?.is_some())
    }

    /// Size of a blob that the repository has.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        if self.has_blob(digest)? { self.storage.content_size(digest) } else { Ok(None) }
    }

    /// A blob that the repository has, open for reading.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Option<Box<dyn Content>>> {
        if self.has_blob(digest)? { self.storage.content(digest) } else { Ok(None) }
    }

    /// Keeps a blob that a client was told of from being collected before its manifest arrives.
    pub(crate) fn touch_blob(&self, digest: &Digest) -> Result<()> {
        self.storage.touch(&self.blob_key(digest)).map(|_| ())
    }

    /// Records that the repository has a blob, whose content is stored. It is written also where it is there already: another
    /// client's push may not have made it durable yet.
    pub(crate) fn link_blob(&self, digest: &Digest) -> Result<()> {
        self.ensure()?;
        self.storage.write(&self.blob_key(digest), b"")
    }

    pub(crate) fn unlink_blob(&self, digest: &Digest) -> Result<bool> {
        self.storage.remove(&self.blob_key(digest))
    }

    pub(crate) fn tag(&self, tag: &Tag) -> Result<Option<Digest>> {
        let value = self.storage.record(&self.tag_key(tag))?;
        Ok(value.and_then(|value| Digest::from_str(std::str::from_utf8(&value).ok()?.trim()).ok()))
    }

    pub(crate) fn set_tag(&self, tag: &Tag, digest: &Digest) -> Result<()> {
        self.storage.write(&self.tag_key(tag), digest.to_string().as_bytes())
    }

    pub(crate) fn remove_tag(&self, tag: &Tag) -> Result<bool> {
        self.storage.remove(&self.tag_key(tag))
    }

    /// Tags in ASCII order.
    pub(crate) fn tags(&self) -> Result<Vec<String>> {
        self.storage.list(&self.key("_tags"))
    }

    pub(crate) fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        Ok(self.storage.stamp(&self.manifest_key(digest))?.is_some())
    }

    pub(crate) fn manifest_record(&self, digest: &Digest) -> Result<Option<ManifestRecord>> {
        let value = self.storage.record(&self.manifest_key(digest))?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// A manifest's record and bytes.
    pub(crate) fn manifest(&self, digest: &Digest) -> Result<Option<(ManifestRecord, Vec<u8>)>> {
        let Some(record) = self.manifest_record(digest)? else { return Ok(None) };
        let Some(content) = self.storage.content(digest)? else { return Ok(None) };
        Ok(Some((record, read_all(content.as_ref(), digest)?)))
    }

    /// Stores a manifest's bytes and records it; the referrer's descriptor goes first, so that no manifest is without its entry.
    pub(crate) fn put_manifest(
        &self,
        digest: &Digest,
        bytes: &[u8],
        record: &ManifestRecord,
        referrer: Option<&Descriptor>,
    ) -> Result<()> {
        self.ensure()?;
        put_content(self.storage.as_ref(), digest, bytes)?;
        if let (Some(subject), Some(descriptor)) = (&record.subject, referrer) {
            let key = format!("{}/{}", self.referrers_key(subject), dashed(digest));
            self.storage.write(&key, &onetag_oci::go_json(descriptor))?;
        }
        let value = onetag_oci::go_json(record);
        self.storage.write(&self.manifest_key(digest), &value)
    }

    /// Removes a manifest, the tags that point to it and its entry among the referrers of its subject.
    pub(crate) fn remove_manifest(&self, digest: &Digest) -> Result<bool> {
        let Some(record) = self.manifest_record(digest)? else { return Ok(false) };
        for name in self.tags()? {
            if let Ok(tag) = Tag::parse(&name)
                && self.tag(&tag)?.as_ref() == Some(digest)
            {
                self.remove_tag(&tag)?;
            }
        }
        let removed = self.storage.remove(&self.manifest_key(digest))?;
        if let Some(subject) = &record.subject {
            self.storage.remove(&format!("{}/{}", self.referrers_key(subject), dashed(digest)))?;
        }
        Ok(removed)
    }

    /// Names of the entries for the referrers of a subject, in a stable order.
    pub(crate) fn referrer_names(&self, subject: &Digest) -> Result<Vec<String>> {
        self.storage.list(&self.referrers_key(subject))
    }

    /// One entry of those.
    pub(crate) fn referrer(&self, subject: &Digest, name: &str) -> Result<Option<Descriptor>> {
        let value = self.storage.record(&format!("{}/{name}", self.referrers_key(subject)))?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Digests of the manifests or blobs that the repository has.
    pub(crate) fn digests(&self, kind: Linked) -> Result<Vec<Digest>> {
        let folder = self.key(kind.folder());
        let mut digests = Vec::new();
        for algorithm in self.storage.list(&folder)? {
            for encoded in self.storage.list(&format!("{folder}/{algorithm}"))? {
                digests.extend(Digest::from_str(&format!("{algorithm}:{encoded}")).ok());
            }
        }
        Ok(digests)
    }

    /// Time since a blob or manifest was pushed here, mounted or asked for with the intent to refer to it.
    pub(crate) fn link_age(&self, kind: Linked, digest: &Digest) -> Result<Option<std::time::Duration>> {
        let key = match kind {
            Linked::Blobs => self.blob_key(digest),
            Linked::Manifests => self.manifest_key(digest),
        };
        self.storage.age(&key)
    }
}

/// The two kinds of content that a repository has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linked {
    Blobs,
    Manifests,
}

impl Linked {
    fn folder(self) -> &'static str {
        match self {
            Linked::Blobs => "_blobs",
            Linked::Manifests => "_manifests",
        }
    }
}

/// Names of all repositories in ASCII order.
pub(crate) fn repositories(storage: &dyn Storage) -> Result<Vec<RepositoryName>> {
    let mut names: Vec<_> = storage
        .list("catalog")?
        .into_iter()
        .filter_map(|name| RepositoryName::parse(&name.replace('~', "/")).ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Stores bytes under their digest.
pub(crate) fn put_content(storage: &dyn Storage, digest: &Digest, bytes: &[u8]) -> Result<()> {
    let mut staged = storage.stage(&identity())?;
    if let Err(error) = staged.add(bytes) {
        let _ = staged.discard();
        return Err(error);
    }
    staged.publish(digest)
}

/// A random (version 4) UUID.
pub(crate) fn identity() -> String {
    let random: u128 = rand::random();
    let bits = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn read_all(content: &dyn Content, digest: &Digest) -> Result<Vec<u8>> {
    use super::storage::Context;
    let size = usize::try_from(content.size_bytes()).unwrap_or(usize::MAX).min(crate::wire::MANIFEST_LIMIT_BYTES);
    let mut bytes = vec![0; size];
    let read = content.read_at(&mut bytes, 0).context("reading content", digest)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn catalog_key(name: &RepositoryName) -> String {
    format!("catalog/{}", name.as_str().replace('/', "~"))
}

fn dashed(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}
