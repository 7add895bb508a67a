//! Writing: blobs, of which size and digest are known or not yet, and manifests.

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use hyper::body::Incoming;
use onetag_oci::{Descriptor, Digest, Reference};
use url::Url;

use super::exchange::{self, Call, Exchange, Upload};
use super::hosts::{self, Endpoint};
use super::pull::{blob_exists, head_manifest, with_tls};
use super::scope::Scope;
use super::{Client, outside};
use crate::content::{BlobSource, GrowingSource};
use crate::error::{Error, RedactedUrl, Result};
use crate::wire::{self, range};

/// Redirects of one upload followed.
const REDIRECT_LIMIT: usize = 5;

/// How a blob got into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there already.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was transferred.
    Uploaded,
}

impl Client {
    /// Pushes a blob to a repository, unless it is there, or can be mounted from one of the others.
    ///
    /// # Errors
    /// When the registry does not take it or the source cannot be read.
    pub fn push_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        source: &dyn BlobSource,
        mount_from: &[Reference],
    ) -> Result<Pushed> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), repository.domain())?);
            with_tls(exchange, endpoint, async |endpoint| {
                let target = Target::new(exchange, endpoint, repository, mount_from);
                target.push(descriptor, source).await
            })
            .await
        })
    }

    /// Pushes a blob while it is being written; gives its digest and size when both it and the transfer are complete.
    ///
    /// # Errors
    /// When the registry does not take it, or the source fails.
    pub fn push_growing(&self, repository: &Reference, source: &dyn GrowingSource) -> Result<(Digest, u64)> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), repository.domain())?);
            with_tls(exchange, endpoint, async |endpoint| {
                Target::new(exchange, endpoint, repository, &[]).push_growing(source).await
            })
            .await
        })
    }

    /// Pushes a manifest under the reference's tag, or its digest when it has no tag. Gives the manifest's digest.
    ///
    /// Where the registry does not keep lists of referrers itself, the list of the manifest's subject is updated too.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn push_manifest(&self, reference: &Reference, bytes: &[u8], media_type: &str) -> Result<Digest> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), reference.domain())?);
            with_tls(exchange, endpoint, async |endpoint| {
                super::lists::push_with_referrers(exchange, endpoint, reference, bytes, media_type).await
            })
            .await
        })
    }
}

/// Pushes one manifest; gives its digest and whether the registry took note of its subject.
pub(crate) async fn put_manifest(
    exchange: &Exchange,
    endpoint: &Endpoint,
    reference: &Reference,
    bytes: &[u8],
    media_type: &str,
) -> Result<(Digest, bool)> {
    let what = reference.familiar();
    let algorithm = reference.digest().map_or(onetag_oci::Algorithm::Sha256, Digest::algorithm);
    let digest = Digest::of(algorithm, bytes);
    if let Some(wanted) = reference.digest()
        && *wanted != digest
    {
        return Err(Error::DigestMismatch { what, actual: digest });
    }
    let target = reference.tag().map_or_else(|| digest.to_string(), str::to_owned);
    let url = endpoint.url(&format!("{}/manifests/{target}", reference.path()));
    let scope = Scope::push(reference.path());
    let own = own_media_type(bytes);
    let call = Call::new(endpoint, Method::PUT, url.clone(), &scope, &what)
        .header(header::CONTENT_TYPE, own.as_deref().unwrap_or(media_type))
        .body(Bytes::copy_from_slice(bytes));
    let response = exchange.call(&call).await?;
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(said) = text(wire::header::CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok())
        && said != Digest::of(said.algorithm(), bytes)
    {
        return Err(Error::DigestMismatch { what, actual: said });
    }
    let subject_noted = text(wire::header::SUBJECT).is_some();
    let status = response.status();
    exchange::drain(response, exchange.stall()).await;
    // Registries that stored something say 201; any other that says it went well is asked.
    if status != StatusCode::CREATED {
        let asked =
            if reference.tag().is_some() { reference.clone() } else { reference.clone().with_digest(digest.clone()) };
        let stored = head_manifest(exchange, endpoint, &asked).await;
        if !stored.is_ok_and(|stored| stored.digest == digest) {
            return Err(nothing_stored(&url, status));
        }
    }
    Ok((digest, subject_noted))
}

/// The type that a manifest says it has. It must not be sent as anything else.
fn own_media_type(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    serde_json::from_slice::<Typed>(bytes).ok()?.media_type.filter(|own| !own.is_empty())
}

/// A repository that blobs are pushed to.
struct Target<'a> {
    exchange: &'a Exchange,
    endpoint: &'a Endpoint,
    path: &'a str,
    mount_from: Vec<&'a str>,
    scope: Scope,
}

/// An upload that a registry has begun.
struct Session {
    location: Url,
    received_bytes: u64,
    /// Whether anything was sent that the registry may or may not have taken.
    uncertain: bool,
}

impl<'a> Target<'a> {
    fn new(
        exchange: &'a Exchange,
        endpoint: &'a Endpoint,
        repository: &'a Reference,
        mount_from: &'a [Reference],
    ) -> Self {
        let same = |other: &&Reference| other.domain() == repository.domain() && other.path() != repository.path();
        let mount_from: Vec<_> = mount_from.iter().filter(same).map(Reference::path).collect();
        Target { exchange, endpoint, path: repository.path(), mount_from, scope: Scope::push(repository.path()) }
    }

    async fn push(&self, descriptor: &Descriptor, source: &dyn BlobSource) -> Result<Pushed> {
        if source.size() != descriptor.size {
            let what = descriptor.digest.to_string();
            return Err(Error::SizeMismatch { what, expected: descriptor.size, actual: source.size() });
        }
        if blob_exists(self.exchange, self.endpoint, self.path, &descriptor.digest, &self.scope).await? {
            return Ok(Pushed::Existed);
        }
        let mut session = None;
        for from in &self.mount_from {
            match self.mount(&descriptor.digest, from).await? {
                None => return Ok(Pushed::Mounted),
                // The upload begun in place of the mount is used unless a later mount succeeds.
                Some(begun) => {
                    if let Some(unused) = session.replace(begun) {
                        self.cancel(&unused).await;
                    }
                }
            }
        }
        let mut attempts = self.exchange.attempts();
        loop {
            match self.upload(&mut session, descriptor, source).await {
                Ok(()) => return Ok(Pushed::Uploaded),
                Err((error, progressed)) => {
                    if progressed {
                        attempts.progressed();
                    }
                    if let Err(error) = attempts.wait_if(may_begin_again(&error, session.as_ref()), error).await {
                        if let Some(session) = session {
                            self.cancel(&session).await;
                        }
                        return Err(error);
                    }
                }
            }
            // The answer may have been lost, not the blob.
            if session.as_ref().is_some_and(|session| session.uncertain)
                && blob_exists(self.exchange, self.endpoint, self.path, &descriptor.digest, &self.scope).await?
            {
                return Ok(Pushed::Uploaded);
            }
        }
    }

    /// Asks for a mount; `None` when it was done, else the upload that the registry began instead.
    async fn mount(&self, digest: &Digest, from: &str) -> Result<Option<Session>> {
        let mut url = self.endpoint.url(&format!("{}/blobs/uploads/", self.path));
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        let scope = self.scope.clone().and(&Scope::pull(from));
        let what = digest.to_string();
        let call =
            Call::new(self.endpoint, Method::POST, url.clone(), &scope, &what).header(header::CONTENT_LENGTH, "0");
        let response = match self.exchange.call(&call).await {
            Ok(response) => response,
            // Not being allowed to read the other repository is no reason not to push to this one.
            Err(Error::Unauthorized { .. } | Error::Denied { .. } | Error::NotFound { .. }) => {
                return self.begin(digest.algorithm()).await.map(Some);
            }
            Err(error) => return Err(error),
        };
        if response.status() == StatusCode::CREATED {
            exchange::drain(response, self.exchange.stall()).await;
            return Ok(None);
        }
        self.session(&url, response).await.map(Some)
    }

    async fn begin(&self, algorithm: onetag_oci::Algorithm) -> Result<Session> {
        let mut url = self.endpoint.url(&format!("{}/blobs/uploads/", self.path));
        if algorithm != onetag_oci::Algorithm::Sha256 {
            url.query_pairs_mut().append_pair("digest-algorithm", algorithm.name());
        }
        let call = Call::new(self.endpoint, Method::POST, url.clone(), &self.scope, self.path)
            .header(header::CONTENT_LENGTH, "0");
        let response = self.exchange.call(&call).await?;
        self.session(&url, response).await
    }

    async fn session(&self, url: &Url, response: Response<Incoming>) -> Result<Session> {
        let location = exchange::location(url, response.headers(), "upload")?;
        exchange::drain(response, self.exchange.stall()).await;
        Ok(Session { location, received_bytes: 0, uncertain: false })
    }

    /// Asks how much of an upload has arrived; `None` when the registry does not know it any more, or does not tell.
    async fn status(&self, session: &Session) -> Option<Session> {
        let call = Call::new(self.endpoint, Method::GET, session.location.clone(), &self.scope, self.path);
        let response = self.exchange.call_once(&call).await.ok()?;
        if response.status() != StatusCode::NO_CONTENT {
            return None;
        }
        let received = response.headers().get(header::RANGE)?.to_str().ok().and_then(range::parse_received)?;
        let location = match response.headers().contains_key(header::LOCATION) {
            true => exchange::location(&session.location, response.headers(), "upload").ok()?,
            false => session.location.clone(),
        };
        // One byte and none are written alike.
        let received_bytes = if received <= 1 { 0 } else { received };
        Some(Session { location, received_bytes, uncertain: false })
    }

    /// Checks that a blob was stored. Registries that did say 201; any other that says it went well is asked for the blob.
    async fn confirm(&self, url: &Url, response: &Response<Incoming>, digest: &Digest) -> Result<()> {
        check_stored(url, response, digest)?;
        let created = response.status() == StatusCode::CREATED;
        if created || blob_exists(self.exchange, self.endpoint, self.path, digest, &self.scope).await? {
            return Ok(());
        }
        Err(nothing_stored(url, response.status()))
    }

    /// Lets the registry forget an upload; nothing depends on whether it does.
    async fn cancel(&self, session: &Session) {
        let call = Call::new(self.endpoint, Method::DELETE, session.location.clone(), &self.scope, self.path);
        if let Ok(response) = self.exchange.call_once(&call).await {
            exchange::drain(response, self.exchange.stall()).await;
        }
    }

    /// Brings a session into a state in which it is known what has arrived.
    async fn settle(&self, session: &mut Option<Session>, algorithm: onetag_oci::Algorithm) -> Result<Session> {
        match session.take() {
            Some(known) if !known.uncertain => Ok(known),
            Some(uncertain) => match self.status(&uncertain).await {
                Some(known) if known.received_bytes > 0 => Ok(known),
                _ => {
                    self.cancel(&uncertain).await;
                    self.begin(algorithm).await
                }
            },
            None => self.begin(algorithm).await,
        }
    }

    /// One attempt to upload what has not arrived yet. An error comes with whether anything of it had been sent before.
    async fn upload(
        &self,
        session: &mut Option<Session>,
        descriptor: &Descriptor,
        source: &dyn BlobSource,
    ) -> Result<(), (Error, bool)> {
        let known = self.settle(session, descriptor.digest.algorithm()).await.map_err(|error| (error, false))?;
        let what = descriptor.digest.to_string();
        let offset = known.received_bytes.min(descriptor.size);
        let held = session.insert(known);
        held.uncertain = true;
        if offset > 0 && offset < descriptor.size {
            let range = format!("{offset}-{}", descriptor.size - 1);
            let open = |at: u64| source.open(offset + at);
            let length = Some(descriptor.size - offset);
            let headers = [(header::CONTENT_RANGE, range)];
            let sent = self.send(Method::PATCH, held.location.clone(), &headers, &open, length, &what).await;
            let response = sent.map_err(|error| (error, true))?;
            held.location =
                exchange::location(&held.location, response.headers(), "upload").map_err(|error| (error, false))?;
            held.received_bytes = descriptor.size;
            exchange::drain(response, self.exchange.stall()).await;
        }
        let rest = if offset > 0 { 0 } else { descriptor.size };
        let open = |at: u64| source.open(if rest == 0 { descriptor.size } else { at });
        let url = with_digest(&held.location, &descriptor.digest);
        let sent = self.send(Method::PUT, url, &[], &open, Some(rest), &what).await;
        let response = sent.map_err(|error| (error, false))?;
        self.confirm(&held.location, &response, &descriptor.digest).await.map_err(|error| (error, false))?;
        exchange::drain(response, self.exchange.stall()).await;
        *session = None;
        Ok(())
    }

    async fn push_growing(&self, source: &dyn GrowingSource) -> Result<(Digest, u64)> {
        let mut session: Option<Session> = None;
        let mut attempts = self.exchange.attempts();
        let algorithm = onetag_oci::Algorithm::Sha256;
        loop {
            let known = self.settle(&mut session, algorithm).await?;
            let offset = known.received_bytes;
            let held = session.insert(known);
            held.uncertain = true;
            let open = |at: u64| source.open(offset + at);
            let what = "a blob that is being written";
            let location = held.location.clone();
            match self.send(Method::PATCH, location, &[], &open, None, what).await {
                Ok(response) => {
                    held.location = exchange::location(&held.location, response.headers(), "upload")?;
                    exchange::drain(response, self.exchange.stall()).await;
                    break;
                }
                Err(error) if refuses_streams(&error) => return self.push_finished(session, source).await,
                Err(error) => {
                    // With what was learnt from a refusal the next attempt, from where this one ended, may be let in.
                    let again = error.is_transient() || matches!(error, Error::Unauthorized { .. });
                    attempts.wait_if(again, error).await?;
                }
            }
        }
        let (digest, size) = finish(source)?;
        let Some(held) = session.as_ref() else { return self.push_finished(None, source).await };
        let url = with_digest(&held.location, &digest);
        let what = digest.to_string();
        let empty = |_: u64| Ok(Box::new(std::io::empty()) as Box<dyn std::io::Read + Send>);
        match self.send(Method::PUT, url, &[], &empty, Some(0), &what).await {
            Ok(response) => {
                self.confirm(&held.location, &response, &digest).await?;
                exchange::drain(response, self.exchange.stall()).await;
                Ok((digest, size))
            }
            Err(error) if error.is_transient() || error.is_not_found() => self.push_finished(session, source).await,
            Err(error) => Err(error),
        }
    }

    /// Pushes a source that grew once more, now that it is complete.
    async fn push_finished(&self, session: Option<Session>, source: &dyn GrowingSource) -> Result<(Digest, u64)> {
        if let Some(session) = &session {
            self.cancel(session).await;
        }
        let (digest, size) = finish(source)?;
        let descriptor = Descriptor::new("application/octet-stream", digest.clone(), size);
        self.push(&descriptor, &Finished { source, size }).await?;
        Ok((digest, size))
    }

    /// Sends a body to an upload's address, from the position that `open` is given; follows redirects and deals with refusals.
    async fn send(
        &self,
        method: Method,
        mut url: Url,
        headers: &[(header::HeaderName, String)],
        open: &(dyn Fn(u64) -> std::io::Result<Box<dyn std::io::Read + Send>> + Sync),
        length_bytes: Option<u64>,
        what: &str,
    ) -> Result<Response<Incoming>> {
        let mut refused = false;
        for _ in 0..=REDIRECT_LIMIT {
            let mut call = Call::new(self.endpoint, method.clone(), url.clone(), &self.scope, what)
                .header(header::CONTENT_TYPE, "application/octet-stream");
            for (name, value) in headers {
                call = call.header(name.clone(), value);
            }
            if let Some(length) = length_bytes {
                call = call.header(header::CONTENT_LENGTH, &length.to_string());
            }
            let reader = outside(|| open(0)).map_err(|source| Error::Source { what: what.to_owned(), source })?;
            let mut upload = Upload { reader, length_bytes, sent_bytes: 0 };
            let response = self.exchange.send_upload(&call, &mut upload).await?;
            if response.status().is_success() {
                return Ok(response);
            }
            if let Some(target) = exchange::redirect_target(&method, &url, &response)? {
                url = target;
                continue;
            }
            if response.status() == StatusCode::UNAUTHORIZED && !refused {
                refused = self.exchange.refused(self.endpoint, &self.scope, &response)?;
                // Of a body without a length nobody knows how much was taken: the caller has to ask first.
                if refused && (length_bytes.is_some() || upload.sent_bytes == 0) {
                    continue;
                }
            }
            return Err(self.exchange.failure(self.endpoint, &method, &url, what, response).await);
        }
        Err(Error::Protocol { url: RedactedUrl::new(&url), problem: "too many redirects".to_owned() })
    }
}

/// A growing source that has stopped growing.
struct Finished<'a> {
    source: &'a dyn GrowingSource,
    size: u64,
}

impl BlobSource for Finished<'_> {
    fn open(&self, offset_bytes: u64) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        self.source.open(offset_bytes)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

fn finish(source: &dyn GrowingSource) -> Result<(Digest, u64)> {
    outside(|| source.finish())
        .map_err(|source| Error::Source { what: "a blob that is being written".to_owned(), source })
}

/// Whether another attempt makes sense: also when the registry has forgotten the upload, or disagrees on how much has arrived.
fn may_begin_again(error: &Error, session: Option<&Session>) -> bool {
    let lost = error.status().is_some_and(|status| matches!(status.as_u16(), 404 | 416));
    error.is_transient() || lost && session.is_some_and(|session| session.uncertain)
}

fn nothing_stored(url: &Url, status: StatusCode) -> Error {
    Error::Protocol { url: RedactedUrl::new(url), problem: format!("status {} but stored nothing", status.as_u16()) }
}

fn refuses_streams(error: &Error) -> bool {
    error.status().is_some_and(|status| matches!(status.as_u16(), 400 | 404 | 405 | 411 | 413 | 416 | 501))
}

fn with_digest(location: &Url, digest: &Digest) -> Url {
    let mut url = location.clone();
    url.query_pairs_mut().append_pair("digest", digest.as_str());
    url
}

/// Checks that a registry that says what it stored says the right thing.
fn check_stored(url: &Url, response: &Response<Incoming>, digest: &Digest) -> Result<()> {
    let said = response.headers().get(wire::header::CONTENT_DIGEST).and_then(|value| value.to_str().ok());
    match said.and_then(|text| text.parse::<Digest>().ok()) {
        Some(said) if said.algorithm() == digest.algorithm() && said != *digest => {
            let problem = format!("digest {said} for {digest}");
            Err(Error::Protocol { url: RedactedUrl::new(url), problem })
        }
        _ => Ok(()),
    }
}
