//! Reading blobs: verified while they arrive, resumed after a cut, large ones in parts when that pays.

use std::time::Instant;

use base64::Engine;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use onetag_oci::{Descriptor, Digest, Digester, Reference};
use url::Url;

use super::exchange::{Call, Exchange};
use super::hosts::{self, Endpoint};
use super::parts::{PartFailure, Parts};
use super::pull::{refuse_encoding, with_tls};
use super::scope::Scope;
use super::{Client, outside};
use crate::content::BlobSink;
use crate::error::{Error, RedactedUrl, Result};
use crate::wire::range;

impl Client {
    /// Fetches a blob of a repository; of the reference only the repository counts.
    ///
    /// Digest and size are verified while bytes arrive; a cut is resumed where it happened, wrong content fetched once more. A large
    /// blob that arrives slowly is fetched in several parts at once (see [`super::PartPolicy`]); the sink gets them in order.
    ///
    /// # Errors
    /// When it does not exist, keeps being wrong, or cannot be written.
    pub fn fetch_blob(&self, repository: &Reference, descriptor: &Descriptor, sink: &mut dyn BlobSink) -> Result<()> {
        if let Some(bytes) = embedded(descriptor) {
            return sink.write(&bytes).map_err(|source| sink_error(&descriptor.digest, source));
        }
        self.run(async |exchange| {
            let mut download = Download::new(descriptor, sink);
            let endpoints = hosts::for_pull(self.hosts(), repository.domain())?;
            download.fetch(exchange, endpoints, repository).await
        })
    }
}

/// Content that the descriptor carries itself, if it is what the descriptor says.
fn embedded(descriptor: &Descriptor) -> Option<Vec<u8>> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(descriptor.data.as_ref()?).ok()?;
    let genuine =
        bytes.len() as u64 == descriptor.size && Digest::of(descriptor.digest.algorithm(), &bytes) == descriptor.digest;
    genuine.then_some(bytes)
}

fn sink_error(digest: &Digest, source: std::io::Error) -> Error {
    Error::Sink { what: digest.to_string(), source }
}

/// A blob on its way to a sink.
struct Download<'a> {
    descriptor: &'a Descriptor,
    sink: &'a mut dyn BlobSink,
    digester: Option<Digester>,
    offset_bytes: u64,
    /// Whether the registry may still be asked for parts.
    in_parts: bool,
}

/// How an answer ended.
enum Arrival {
    /// With the blob's last byte.
    Whole,
    /// Early, because the rest is to be had faster in parts.
    Slow,
}

impl<'a> Download<'a> {
    fn new(descriptor: &'a Descriptor, sink: &'a mut dyn BlobSink) -> Self {
        let mut download = Download { descriptor, sink, digester: None, offset_bytes: 0, in_parts: true };
        download.reset_digester();
        download
    }

    fn reset_digester(&mut self) {
        self.digester = self.sink.digest().is_none().then(|| Digester::new(self.descriptor.digest.algorithm()));
    }

    async fn fetch(&mut self, exchange: &Exchange, endpoints: Vec<Endpoint>, repository: &Reference) -> Result<()> {
        let count = endpoints.len();
        let scope = Scope::pull(repository.path());
        for (index, endpoint) in endpoints.into_iter().enumerate() {
            let endpoint = exchange.settled(endpoint);
            let path = format!("{}/blobs/{}", repository.path(), self.descriptor.digest);
            let fetched = with_tls(exchange, endpoint, async |endpoint| {
                self.fetch_url(exchange, endpoint, &endpoint.url(&path), &scope).await
            });
            match fetched.await {
                Ok(()) => return Ok(()),
                Err(error @ (Error::Sink { .. } | Error::Runtime(_))) => return Err(error),
                Err(error) if index + 1 == count => return self.fetch_elsewhere(exchange, error).await,
                Err(_) => {}
            }
        }
        Err(Error::NotFound { what: self.descriptor.digest.to_string() })
    }

    /// Layers that may not be distributed name other places, which get no credentials.
    async fn fetch_elsewhere(&mut self, exchange: &Exchange, error: Error) -> Result<()> {
        if !error.is_not_found() {
            return Err(error);
        }
        for text in &self.descriptor.urls {
            let Ok(url) = Url::parse(text) else { continue };
            if url.scheme() != "https" || hosts::is_loopback(&url) {
                continue;
            }
            let mut base = url.clone();
            base.set_path("/");
            base.set_query(None);
            // No credentials are found under this name.
            let endpoint = Endpoint { registry: String::new(), base, mirrored: None, scheme_fixed: true };
            if self.fetch_url(exchange, &endpoint, &url, &Scope::default()).await.is_ok() {
                return Ok(());
            }
        }
        Err(error)
    }

    async fn fetch_url(&mut self, exchange: &Exchange, endpoint: &Endpoint, url: &Url, scope: &Scope) -> Result<()> {
        let mut attempts = exchange.attempts();
        let mut wrong = false;
        loop {
            let before = self.offset_bytes;
            let arrived = match self.fetch_rest(exchange, endpoint, url, scope).await {
                Ok(Arrival::Slow) => self.fetch_parts(exchange, endpoint, url, scope).await,
                arrived => arrived,
            };
            let failed = match arrived {
                Ok(Arrival::Whole) => self.verify(),
                // A registry without ranges: the rest comes as it did before.
                Ok(Arrival::Slow) => continue,
                Err(error) => Err(error),
            };
            let error = match failed {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if matches!(error, Error::DigestMismatch { .. } | Error::SizeMismatch { .. }) && !wrong {
                // Once more from the beginning: a broken proxy or disk may have been in the way.
                wrong = true;
                outside(|| self.sink.restart()).map_err(|source| sink_error(&self.descriptor.digest, source))?;
                self.offset_bytes = 0;
                self.reset_digester();
                continue;
            }
            if self.offset_bytes > before {
                attempts.progressed();
            }
            exchange.wait(&mut attempts, endpoint, error).await?;
        }
    }

    fn verify(&mut self) -> Result<()> {
        let actual = match &self.digester {
            Some(digester) => Some(digester.clone().finish()),
            None => self.sink.digest(),
        };
        match actual {
            Some(actual) if actual != self.descriptor.digest => {
                Err(Error::DigestMismatch { what: self.descriptor.digest.to_string(), actual })
            }
            _ => Ok(()),
        }
    }

    /// Fetches what is missing behind the bytes that arrived before.
    async fn fetch_rest(
        &mut self,
        exchange: &Exchange,
        endpoint: &Endpoint,
        url: &Url,
        scope: &Scope,
    ) -> Result<Arrival> {
        let size = self.descriptor.size;
        if self.offset_bytes == size && size > 0 {
            return Ok(Arrival::Whole);
        }
        let what = self.descriptor.digest.to_string();
        let mut call = Call::new(endpoint, Method::GET, url.clone(), scope, &what);
        if self.offset_bytes > 0 {
            call = call.header(header::RANGE, &format!("bytes={}-", self.offset_bytes));
        }
        let response = exchange.call_once(&call).await?;
        refuse_encoding(&response, url)?;
        let mut skip = self.bytes_to_skip(&response, url)?;
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let expected = size - self.offset_bytes + skip;
        if let Some(actual) = length.filter(|length: &u64| *length != expected) {
            let (expected, actual) = (size, actual.saturating_add(self.offset_bytes).saturating_sub(skip));
            return Err(Error::SizeMismatch { what, expected, actual });
        }
        self.in_parts &= takes_ranges(&response);
        let (started, before) = (Instant::now(), self.offset_bytes);
        let mut body = response.into_body();
        loop {
            let frame = match tokio::time::timeout(exchange.stall(), body.frame()).await {
                Err(_) => {
                    let (url, after) = (RedactedUrl::new(url), exchange.stall());
                    return Err(Error::Stalled { method: Method::GET, url, after });
                }
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(broken(url, error)),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(mut data) = frame.into_data() else { continue };
            if skip > 0 {
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(data.len());
                skip -= skipped as u64;
                data = data.slice(skipped..);
            }
            self.take(&data)?;
            let (arrived, missing) = (self.offset_bytes - before, size - self.offset_bytes);
            if self.in_parts && exchange.parts().pay(started.elapsed(), arrived, missing) {
                return Ok(Arrival::Slow);
            }
        }
        if self.offset_bytes < size {
            return Err(broken(url, std::io::Error::from(std::io::ErrorKind::UnexpectedEof)));
        }
        Ok(Arrival::Whole)
    }

    /// Fetches what is missing in parts, several at once; what has arrived in order is handed on at once.
    async fn fetch_parts(
        &mut self,
        exchange: &Exchange,
        endpoint: &Endpoint,
        url: &Url,
        scope: &Scope,
    ) -> Result<Arrival> {
        let what = self.descriptor.digest.to_string();
        let parts = Parts { exchange, endpoint, url, scope, size_bytes: self.descriptor.size, what: &what };
        let parallel = exchange.parts().parallel;
        let ranges = parts.ranges(self.offset_bytes);
        let mut arriving = stream::iter(ranges).map(|(first, end)| parts.fetch(first, end)).buffered(parallel);
        while let Some(part) = arriving.next().await {
            match part {
                Ok(chunks) => chunks.iter().try_for_each(|chunk| self.take(chunk))?,
                Err(PartFailure::Ignored) => {
                    self.in_parts = false;
                    return Ok(Arrival::Slow);
                }
                Err(PartFailure::Failed(error)) => {
                    self.in_parts = false;
                    return Err(error);
                }
            }
        }
        Ok(Arrival::Whole)
    }

    /// How many bytes at the front of an answer arrived before already.
    fn bytes_to_skip(&self, response: &Response<Incoming>, url: &Url) -> Result<u64> {
        if self.offset_bytes == 0 {
            return Ok(0);
        }
        if response.status() != StatusCode::PARTIAL_CONTENT {
            // A registry without ranges sends everything again.
            return Ok(self.offset_bytes);
        }
        let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
        match range.and_then(range::parse_content) {
            Some((first, _, total))
                if first <= self.offset_bytes && total.is_none_or(|total| total == self.descriptor.size) =>
            {
                Ok(self.offset_bytes - first)
            }
            _ => {
                let problem = "a part that was not asked for".to_owned();
                Err(Error::Protocol { url: RedactedUrl::new(url), problem })
            }
        }
    }

    fn take(&mut self, data: &Bytes) -> Result<()> {
        let arrived = self.offset_bytes + data.len() as u64;
        if arrived > self.descriptor.size {
            let what = self.descriptor.digest.to_string();
            return Err(Error::SizeMismatch { what, expected: self.descriptor.size, actual: arrived });
        }
        if let Some(digester) = &mut self.digester {
            digester.update(data);
        }
        outside(|| self.sink.write(data)).map_err(|source| sink_error(&self.descriptor.digest, source))?;
        self.offset_bytes = arrived;
        Ok(())
    }
}

/// Whether an answer leaves hope that parts can be asked for.
fn takes_ranges(response: &Response<Incoming>) -> bool {
    response.headers().get(header::ACCEPT_RANGES).is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"bytes"))
}

pub(super) fn broken(url: &Url, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Transport { method: Method::GET, url: RedactedUrl::new(url), source: Box::new(error) }
}
