//! Reading: tags to descriptors, manifests, whether blobs exist.

use http::{Method, Response, StatusCode, header};
use hyper::body::Incoming;
use onetag_oci::{Descriptor, Digest, ManifestDocument, Reference, media_type};
use url::Url;

use super::Client;
use super::exchange::{Call, Exchange, read_body};
use super::hosts::{self, Endpoint};
use super::scope::Scope;
use crate::error::{Error, RedactedUrl, Result};
use crate::wire::{self, MANIFEST_LIMIT_BYTES};

/// Types of manifests asked for, most wanted first.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
                      application/json;q=0.1, */*;q=0.1";

/// A manifest as it was served.
pub(crate) struct Served {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<String>,
}

impl Client {
    /// What a reference points to, without fetching it where the registry allows that.
    ///
    /// # Errors
    /// When it does not exist or cannot be asked for.
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        let reference = reference.clone().with_default_tag();
        self.run(async |exchange| {
            self.on_endpoints(exchange, &reference, async |endpoint| {
                head_manifest(exchange, endpoint, &reference).await
            })
            .await
        })
    }

    /// The manifest or index that a reference points to, verified against the reference's digest if it has one.
    ///
    /// # Errors
    /// When it does not exist, is not what its digest says, or is none that can be used.
    pub fn manifest(&self, reference: &Reference) -> Result<ManifestDocument> {
        let reference = reference.clone().with_default_tag();
        let served = self.run(async |exchange| {
            self.on_endpoints(exchange, &reference, async |endpoint| get_manifest(exchange, endpoint, &reference).await)
                .await
        })?;
        ManifestDocument::parse(served.bytes, served.media_type.as_deref())
            .map_err(|source| Error::Document { what: reference.familiar(), source })
    }

    /// Whether a repository has a blob.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub fn blob_exists(&self, repository: &Reference, digest: &Digest) -> Result<bool> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), repository.domain())?);
            let scope = Scope::pull(repository.path());
            with_tls(exchange, endpoint, async |endpoint| {
                blob_exists(exchange, endpoint, repository.path(), digest, &scope).await
            })
            .await
        })
    }

    /// The size in bytes that a registry tells of a repository's blob, without its content.
    ///
    /// # Errors
    /// When there is no such blob, or the registry cannot be asked.
    pub fn blob_size(&self, repository: &Reference, digest: &Digest) -> Result<Option<u64>> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), repository.domain())?);
            let scope = Scope::pull(repository.path());
            with_tls(exchange, endpoint, async |endpoint| {
                let headers = head_blob(exchange, endpoint, repository.path(), digest, &scope).await?;
                let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
                Ok(length.and_then(|length| length.parse().ok()))
            })
            .await
        })
    }

    /// Asks mirrors and then the registry, until one has an answer; the registry's own answer is the last word.
    async fn on_endpoints<T>(
        &self,
        exchange: &Exchange,
        reference: &Reference,
        ask: impl AsyncFn(&Endpoint) -> Result<T>,
    ) -> Result<T> {
        let mut endpoints = hosts::for_pull(self.hosts(), reference.domain())?;
        let Some(origin) = endpoints.pop() else {
            return Err(Error::NotFound { what: reference.familiar() });
        };
        for mirror in endpoints {
            if let Ok(answer) = with_tls(exchange, exchange.settled(mirror), &ask).await {
                return Ok(answer);
            }
        }
        with_tls(exchange, exchange.settled(origin), ask).await
    }
}

/// Asks an endpoint, and over TLS if it may speak only that.
pub(crate) async fn with_tls<T>(
    exchange: &Exchange,
    endpoint: Endpoint,
    mut ask: impl AsyncFnMut(&Endpoint) -> Result<T>,
) -> Result<T> {
    match ask(&endpoint).await {
        Err(error) if exchange.may_speak_tls(&endpoint, &error) => {}
        answer => return answer,
    }
    if let Some(secure) = endpoint.over_tls() {
        let answer = ask(&secure).await;
        if !matches!(answer, Err(Error::Tls { .. } | Error::Connect { .. } | Error::Transport { .. })) {
            exchange.note_protocol(&endpoint.base, true);
            return answer;
        }
    }
    // It does not speak TLS either, so the attempt before failed for another reason.
    exchange.note_protocol(&endpoint.base, false);
    ask(&endpoint).await
}

/// What comes behind `manifests/`.
fn manifest_path(reference: &Reference) -> String {
    let target = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => "latest".to_owned(),
    };
    format!("{}/manifests/{target}", reference.path())
}

pub(crate) async fn head_manifest(
    exchange: &Exchange,
    endpoint: &Endpoint,
    reference: &Reference,
) -> Result<Descriptor> {
    let what = reference.familiar();
    let scope = Scope::pull(reference.path());
    let url = endpoint.url(&manifest_path(reference));
    let call = Call::new(endpoint, Method::HEAD, url, &scope, &what).header(header::ACCEPT, ACCEPT);
    match exchange.call(&call).await {
        Ok(response) => {
            if let Some(descriptor) = described(reference, &response) {
                return Ok(descriptor);
            }
        }
        Err(Error::Status {
            status: StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::BAD_REQUEST,
            ..
        }) => {}
        Err(error) => return Err(error),
    }
    let served = get_manifest(exchange, endpoint, reference).await?;
    let document = ManifestDocument::parse(served.bytes, served.media_type.as_deref())
        .map_err(|source| Error::Document { what, source })?;
    let mut descriptor = document.descriptor();
    if let Some(digest) = reference.digest() {
        descriptor.digest = digest.clone();
    }
    Ok(descriptor)
}

/// A descriptor from the headers of an answer; `None` when they do not say enough.
fn described(reference: &Reference, response: &Response<Incoming>) -> Option<Descriptor> {
    let text = |name: &str| response.headers().get(name)?.to_str().ok();
    let media_type = text("content-type")?.split(';').next()?.trim();
    if !media_type::is_index(media_type) && !media_type::is_manifest(media_type) {
        return None;
    }
    let size = text("content-length")?.parse().ok().filter(|size| *size > 0)?;
    let digest = match reference.digest() {
        Some(digest) => digest.clone(),
        None => text(wire::header::CONTENT_DIGEST)?.parse().ok()?,
    };
    Some(Descriptor::new(media_type, digest, size))
}

/// Fetches a manifest and verifies it against the reference's digest and what the registry says of it.
pub(crate) async fn get_manifest(exchange: &Exchange, endpoint: &Endpoint, reference: &Reference) -> Result<Served> {
    let what = reference.familiar();
    let mut attempts = exchange.attempts();
    loop {
        match get_manifest_once(exchange, endpoint, reference, &what).await {
            Ok(served) => return Ok(served),
            Err(error) => exchange.wait(&mut attempts, endpoint, error).await?,
        }
    }
}

async fn get_manifest_once(
    exchange: &Exchange,
    endpoint: &Endpoint,
    reference: &Reference,
    what: &str,
) -> Result<Served> {
    let scope = Scope::pull(reference.path());
    let url = endpoint.url(&manifest_path(reference));
    let call = Call::new(endpoint, Method::GET, url.clone(), &scope, what).header(header::ACCEPT, ACCEPT);
    let response = exchange.call_once(&call).await?;
    refuse_encoding(&response, &url)?;
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let media_type = text("content-type").map(|text| text.split(';').next().unwrap_or(text).trim().to_owned());
    let said: Option<Digest> = text(wire::header::CONTENT_DIGEST).and_then(|text| text.parse().ok());
    let length: Option<usize> = text("content-length").and_then(|text| text.parse().ok());
    let bytes = match read_body(response, MANIFEST_LIMIT_BYTES, &Method::GET, &url, exchange.stall()).await {
        Err(Error::TooLarge { limit_bytes, .. }) => return Err(Error::TooLarge { what: what.to_owned(), limit_bytes }),
        read => read?,
    };
    if let Some(length) = length.filter(|length| *length != bytes.len()) {
        let (expected, actual) = (length as u64, bytes.len() as u64);
        return Err(Error::SizeMismatch { what: what.to_owned(), expected, actual });
    }
    for expected in reference.digest().into_iter().chain(said.as_ref()) {
        let actual = Digest::of(expected.algorithm(), &bytes);
        if actual != *expected {
            return Err(Error::DigestMismatch { what: what.to_owned(), actual });
        }
    }
    Ok(Served { bytes: bytes.to_vec(), media_type: media_type.filter(|text| !is_generic(text)) })
}

/// Types that say nothing about a manifest; its content then decides.
fn is_generic(media_type: &str) -> bool {
    matches!(media_type, "" | "application/json" | "application/octet-stream" | "text/plain")
}

/// Content that was compressed for the way is nothing that was asked for, and may be a bomb.
pub(super) fn refuse_encoding(response: &Response<Incoming>, url: &Url) -> Result<()> {
    match response.headers().get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()) {
        None | Some("identity" | "") => Ok(()),
        Some(encoding) => {
            let problem = format!("content encoding {encoding:?}, which was not asked for");
            Err(Error::Protocol { url: RedactedUrl::new(url), problem })
        }
    }
}

/// Whether a repository has a blob.
pub(crate) async fn blob_exists(
    exchange: &Exchange,
    endpoint: &Endpoint,
    path: &str,
    digest: &Digest,
    scope: &Scope,
) -> Result<bool> {
    match head_blob(exchange, endpoint, path, digest, scope).await {
        Ok(_) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a registry tells of a blob.
async fn head_blob(
    exchange: &Exchange,
    endpoint: &Endpoint,
    path: &str,
    digest: &Digest,
    scope: &Scope,
) -> Result<http::HeaderMap> {
    let what = digest.to_string();
    let url = endpoint.url(&format!("{path}/blobs/{digest}"));
    let response = exchange.call(&Call::new(endpoint, Method::HEAD, url, scope, &what)).await?;
    Ok(response.headers().clone())
}
