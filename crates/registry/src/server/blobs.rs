//! Blobs: reading, probing and removing them.

use std::sync::Arc;

use http::{Request, Response, StatusCode, header};
use onetag_oci::Digest;

use super::registry::{Registry, blocking, header_text};
use super::repository::Repository;
use super::request::RequestBody;
use super::respond::{self, Answer, Failure, ResponseBody, StoredBody};
use super::storage::Context;
use crate::wire;
use crate::wire::errors::ErrorCode;
use crate::wire::range::{self, Requested};

/// Blobs up to this size are read before the answer begins.
const SMALL_BYTES: u64 = 64 * 1024;

impl Registry {
    pub(super) fn head_blob(&self, repository: &Repository, digest: &Digest) -> Result<Answer, Failure> {
        let Some(size) = repository.blob_size(digest)? else { return Err(unknown(digest)) };
        if !self.policy.read_only {
            // Who asks is about to refer to it.
            repository.touch_blob(digest)?;
        }
        let mut answer = Response::new(ResponseBody::Full(None));
        describe(&mut answer, digest);
        respond::set(&mut answer, "content-length", &size.to_string());
        Ok(answer)
    }

    pub(super) fn get_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        request: &Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        let Some(content) = repository.blob(digest)? else { return Err(unknown(digest)) };
        let size = content.size_bytes();
        let entity_tag = format!("\"{digest}\"");
        if header_text(request, &header::IF_NONE_MATCH).is_some_and(|tags| tags.contains(&entity_tag)) {
            let mut answer = respond::empty(StatusCode::NOT_MODIFIED);
            describe(&mut answer, digest);
            return Ok(answer);
        }
        // A range is conditional on the entity tag when the client says so.
        let condition = header_text(request, &header::IF_RANGE).is_none_or(|tag| tag == entity_tag);
        let requested = header_text(request, &header::RANGE).filter(|_| condition);
        let requested = requested.map_or(Requested::Whole, |value| range::parse_request(value, size));
        let (status, first, length) = match requested {
            Requested::Whole => (StatusCode::OK, 0, size),
            Requested::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
            Requested::Unsatisfiable => {
                return Err(Failure::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    ErrorCode::SizeInvalid,
                    "range outside of the blob",
                )
                .with_header("content-range", format!("bytes */{size}")));
            }
        };
        let body = if length <= SMALL_BYTES {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            let read = content.read_at(&mut bytes, first).context("reading content", digest)?;
            bytes.truncate(read);
            ResponseBody::Full(Some(bytes.into()).filter(|bytes: &bytes::Bytes| !bytes.is_empty()))
        } else {
            ResponseBody::Stored(StoredBody::new(content, first, length))
        };
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        describe(&mut answer, digest);
        respond::set(&mut answer, "content-length", &length.to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            let value = format!("bytes {first}-{}/{size}", first + length - 1);
            respond::set(&mut answer, "content-range", &value);
        }
        Ok(answer)
    }

    pub(super) async fn delete_blob(
        self: Arc<Self>,
        repository: Repository,
        digest: Digest,
    ) -> Result<Answer, Failure> {
        blocking(move || {
            if repository.unlink_blob(&digest)? {
                Ok(respond::empty(StatusCode::ACCEPTED))
            } else {
                Err(unknown(&digest))
            }
        })
        .await
    }
}

fn describe(answer: &mut Answer, digest: &Digest) {
    let digest = digest.to_string();
    respond::set(answer, "content-type", "application/octet-stream");
    respond::set(answer, "accept-ranges", "bytes");
    respond::set(answer, "cache-control", "max-age=31536000, immutable");
    respond::set(answer, "etag", &format!("\"{digest}\""));
    respond::set(answer, wire::header::CONTENT_DIGEST, &digest);
}

fn unknown(digest: &Digest) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, "blob unknown to registry")
        .with_detail(serde_json::json!({ "digest": digest.as_str() }))
}
