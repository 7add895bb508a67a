//! Manifests: by tag and by digest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use onetag_oci::{Algorithm, Descriptor, Digest, media_type};
use serde::Deserialize;

use super::cache::CachedManifest;
use super::registry::{ManifestReference, Registry, blocking, header_text, parameters};
use super::repository::{ManifestRecord, Repository};
use super::request::RequestBody;
use super::respond::{self, Answer, Failure};
use crate::wire::errors::ErrorCode;
use crate::wire::name::Tag;
use crate::wire::{self, MANIFEST_LIMIT_BYTES};

/// Tags that may be set along with one manifest.
const TAG_LIMIT: usize = 64;

/// What of a manifest the registry looks at, whatever its type.
#[derive(Debug, Default, Deserialize)]
struct Parts {
    #[serde(rename = "schemaVersion", default)]
    schema_version: u64,
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
    #[serde(rename = "artifactType", default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    blobs: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Digests of blobs and manifests that a stored manifest is made of; none for bytes that are no manifest.
pub(crate) fn references(bytes: &[u8]) -> Vec<Digest> {
    let Ok(parts) = serde_json::from_slice::<Parts>(bytes) else { return Vec::new() };
    let lists = [parts.layers, parts.blobs, parts.manifests];
    let descriptors = parts.config.into_iter().chain(lists.into_iter().flatten().flatten());
    descriptors.map(|descriptor| descriptor.digest).collect()
}

impl Registry {
    pub(super) fn get_manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
        head: bool,
        request: &Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        let manifest = self.find_manifest(repository, reference)?;
        let entity_tag = format!("\"{}\"", manifest.digest);
        let known = header_text(request, &header::IF_NONE_MATCH)
            .is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == entity_tag));
        let mut answer = if known {
            respond::empty(StatusCode::NOT_MODIFIED)
        } else {
            respond::bytes(StatusCode::OK, &manifest.media_type, manifest.bytes.clone())
        };
        respond::set(&mut answer, wire::header::CONTENT_DIGEST, &manifest.digest.to_string());
        respond::set(&mut answer, "etag", &entity_tag);
        Ok(if head { super::registry::without_body(answer) } else { answer })
    }

    fn find_manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
    ) -> Result<Arc<CachedManifest>, Failure> {
        let digest;
        let digest = match reference {
            ManifestReference::Digest(digest) => digest,
            ManifestReference::Tag(tag) => {
                digest = self.resolve_tag(repository, tag)?;
                &digest
            }
        };
        let key = repository.manifest_key(digest);
        let Some(stamp) = self.storage.stamp(&key)? else { return Err(self.unknown(repository, reference)) };
        if let Some(manifest) = self.manifests.get(&key, stamp) {
            return Ok(manifest);
        }
        let Some((record, bytes)) = repository.manifest(digest)? else {
            return Err(self.unknown(repository, reference));
        };
        let manifest = CachedManifest { digest: digest.clone(), media_type: record.media_type, bytes: bytes.into() };
        let manifest = Arc::new(manifest);
        self.manifests.insert(key, stamp, manifest.clone());
        Ok(manifest)
    }

    fn resolve_tag(&self, repository: &Repository, tag: &Tag) -> Result<Digest, Failure> {
        match repository.tag(tag)? {
            Some(digest) => Ok(digest),
            None => Err(self.unknown(repository, &ManifestReference::Tag(tag.clone()))),
        }
    }

    fn unknown(&self, repository: &Repository, reference: &ManifestReference) -> Failure {
        match repository.exists() {
            Ok(false) => {
                Failure::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, "repository name not known to registry")
                    .with_detail(serde_json::json!({ "name": repository.name().as_str() }))
            }
            _ => {
                let detail = match reference {
                    ManifestReference::Tag(tag) => serde_json::json!({ "tag": tag.as_str() }),
                    ManifestReference::Digest(digest) => serde_json::json!({ "digest": digest.as_str() }),
                };
                Failure::new(StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown, "manifest unknown").with_detail(detail)
            }
        }
    }

    pub(super) async fn put_manifest(
        self: Arc<Self>,
        repository: Repository,
        reference: ManifestReference,
        request: Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        let mut tags = Vec::new();
        for (name, value) in parameters(&request) {
            if name == "tag" {
                tags.push(Tag::parse(&value).map_err(|error| invalid(error.to_string()))?);
            }
        }
        if tags.len() > TAG_LIMIT {
            return Err(Failure::new(StatusCode::URI_TOO_LONG, ErrorCode::Unsupported, "too many tags at once"));
        }
        let content_type = header_text(&request, &header::CONTENT_TYPE).map(essence).unwrap_or_default();
        let bytes = self.receive_manifest(request).await?;
        blocking(move || self.store_manifest(&repository, reference, tags, &content_type, &bytes)).await
    }

    async fn receive_manifest(&self, request: Request<RequestBody>) -> Result<Bytes, Failure> {
        let too_large = || {
            Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                ErrorCode::SizeInvalid,
                format!("manifest larger than {MANIFEST_LIMIT_BYTES} bytes"),
            )
        };
        let mut body = request.into_body();
        if hyper::body::Body::size_hint(&body).lower() > MANIFEST_LIMIT_BYTES as u64 {
            discard(&mut body, self.limits.stall).await;
            return Err(too_large());
        }
        let mut bytes = BytesMut::new();
        let started = Instant::now();
        loop {
            let left = self.limits.body.saturating_sub(started.elapsed());
            let Ok(frame) = tokio::time::timeout(self.limits.stall.min(left), body.frame()).await else {
                return Err(if left < self.limits.stall { too_slow() } else { stalled() });
            };
            match frame {
                None => return Ok(bytes.freeze()),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        if bytes.len() + data.len() > MANIFEST_LIMIT_BYTES {
                            discard(&mut body, self.limits.stall).await;
                            return Err(too_large());
                        }
                        bytes.extend_from_slice(data);
                    }
                }
                Some(Err(_)) => return Err(invalid("the request ended early")),
            }
        }
    }

    fn store_manifest(
        &self,
        repository: &Repository,
        reference: ManifestReference,
        mut tags: Vec<Tag>,
        content_type: &str,
        bytes: &[u8],
    ) -> Result<Answer, Failure> {
        let parts: Parts = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        let media_type = check_media_type(&parts, content_type)?;
        let (digest, by_tag) = match reference {
            ManifestReference::Tag(tag) => {
                tags.insert(0, tag.clone());
                (Digest::of(Algorithm::Sha256, bytes), Some(tag))
            }
            ManifestReference::Digest(digest) => {
                if Digest::of(digest.algorithm(), bytes) != digest {
                    return Err(Failure::new(
                        StatusCode::BAD_REQUEST,
                        ErrorCode::DigestInvalid,
                        "provided digest did not match uploaded content",
                    ));
                }
                (digest, None)
            }
        };
        // Held while references are checked and added, so that collection cannot take what was just found.
        let _guard = self.storage.lock(false)?;
        if !self.policy.sparse {
            check_children(repository, &parts, &media_type)?;
        }
        let subject = parts.subject.as_ref().map(|subject| subject.digest.clone());
        let referrer = subject.is_some().then(|| referrer_descriptor(&parts, &media_type, &digest, bytes.len() as u64));
        let record = ManifestRecord { media_type, size: bytes.len() as u64, subject: subject.clone() };
        repository.put_manifest(&digest, bytes, &record, referrer.as_ref())?;
        self.manifests.forget(&repository.manifest_key(&digest));
        for tag in &tags {
            repository.set_tag(tag, &digest)?;
        }
        let mut answer = respond::empty(StatusCode::CREATED);
        respond::set(&mut answer, wire::header::CONTENT_DIGEST, &digest.to_string());
        let pulled_as = by_tag.as_ref().map_or(digest.to_string(), ToString::to_string);
        respond::set(&mut answer, "location", &format!("/v2/{}/manifests/{pulled_as}", repository.name()));
        if let Some(subject) = subject {
            respond::set(&mut answer, wire::header::SUBJECT, &subject.to_string());
        }
        let named: Vec<_> = tags.iter().skip(usize::from(by_tag.is_some())).map(Tag::as_str).collect();
        if !named.is_empty() {
            respond::set(&mut answer, wire::header::TAG, &named.join(", "));
        }
        Ok(answer)
    }

    pub(super) async fn delete_manifest(
        self: Arc<Self>,
        repository: Repository,
        reference: ManifestReference,
    ) -> Result<Answer, Failure> {
        blocking(move || {
            let removed = match &reference {
                ManifestReference::Tag(tag) => repository.remove_tag(tag)?,
                ManifestReference::Digest(digest) => {
                    self.manifests.forget(&repository.manifest_key(digest));
                    repository.remove_manifest(digest)?
                }
            };
            if removed { Ok(respond::empty(StatusCode::ACCEPTED)) } else { Err(self.unknown(&repository, &reference)) }
        })
        .await
    }
}

/// A media type without its parameters, in lower case.
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid, message)
}

/// The answer to a client that sends nothing any more.
pub(super) fn stalled() -> Failure {
    Failure::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::SizeInvalid, "nothing arrived for too long")
}

/// The answer to a client that sends so little at a time that its request would never end.
pub(super) fn too_slow() -> Failure {
    let message = "the request took too long; what arrived of an upload can be continued";
    Failure::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::SizeInvalid, message)
}

/// Reads what is left of a body that is not wanted, up to a limit: a client that is still sending would not read the answer.
pub(super) async fn discard(body: &mut RequestBody, stall: Duration) {
    let mut left: usize = 16 * 1024 * 1024;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(stall, body.frame()).await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Settles the type of a manifest: what it was sent as, else what it says, else what it looks like.
fn check_media_type(parts: &Parts, content_type: &str) -> Result<String, Failure> {
    if parts.schema_version == 1 {
        return Err(invalid("schema 1 manifests are not supported"));
    }
    let said = parts.media_type.as_deref().filter(|said| !said.is_empty());
    let generic = content_type.is_empty() || matches!(content_type, "application/json" | "application/octet-stream");
    if let Some(said) = said
        && !generic
        && !said.eq_ignore_ascii_case(content_type)
    {
        return Err(invalid(format!("sent as {content_type}, but says it is {said}")));
    }
    if parts.manifests.is_some() && (parts.layers.is_some() || parts.config.is_some()) {
        return Err(invalid("both an index and a manifest"));
    }
    let media_type = match said {
        _ if !generic => content_type,
        Some(said) => said,
        None if parts.manifests.is_some() => media_type::OCI_INDEX,
        None if parts.config.is_some() => media_type::OCI_MANIFEST,
        None => return Err(invalid("no media type")),
    };
    let known = media_type::is_index(media_type) || media_type::is_manifest(media_type);
    if known && parts.schema_version != 2 {
        return Err(invalid("schemaVersion is not 2"));
    }
    if media_type::is_index(media_type) && parts.manifests.is_none() {
        return Err(invalid("an index without manifests"));
    }
    if media_type::is_manifest(media_type) && parts.config.is_none() {
        return Err(invalid("a manifest without a config"));
    }
    Ok(media_type.to_owned())
}

/// Checks that what a manifest is made of is there.
fn check_children(repository: &Repository, parts: &Parts, media_type: &str) -> Result<(), Failure> {
    let mut missing: Option<Failure> = None;
    let mut note = |digest: &Digest| {
        let message = format!("{digest} is not in the repository");
        missing = Some(match missing.take() {
            None => Failure::new(StatusCode::BAD_REQUEST, ErrorCode::ManifestBlobUnknown, message),
            Some(failure) => failure.and(ErrorCode::ManifestBlobUnknown, message),
        });
    };
    if media_type::is_index(media_type) {
        for child in parts.manifests.iter().flatten() {
            // Build caches are indexes of blobs.
            if !repository.has_manifest(&child.digest)? && !repository.has_blob(&child.digest)? {
                note(&child.digest);
            }
        }
    } else {
        for blob in parts.config.iter().chain(parts.layers.iter().flatten()).chain(parts.blobs.iter().flatten()) {
            let elsewhere = media_type::is_nondistributable(&blob.media_type) || !blob.urls.is_empty();
            if !elsewhere && !repository.has_blob(&blob.digest)? {
                note(&blob.digest);
            }
        }
    }
    missing.map_or(Ok(()), Err)
}

/// The entry of a manifest in the list of its subject's referrers.
fn referrer_descriptor(parts: &Parts, media_type: &str, digest: &Digest, size: u64) -> Descriptor {
    let mut descriptor = Descriptor::new(media_type, digest.clone(), size);
    let own = parts.artifact_type.clone().filter(|own| !own.is_empty());
    descriptor.artifact_type = own.or_else(|| parts.config.as_ref().map(|config| config.media_type.clone()));
    descriptor.annotations = parts.annotations.clone().unwrap_or_default();
    descriptor
}
