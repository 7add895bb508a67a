//! One large blob in several parts at once, for registries and networks that are slow by the connection.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use url::Url;

use super::blob::broken;
use super::exchange::{Call, Exchange};
use super::hosts::Endpoint;
use super::pull::refuse_encoding;
use super::scope::Scope;
use crate::error::{Error, RedactedUrl, Result};
use crate::wire::range;

/// When a large blob is fetched in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartPolicy {
    /// How long a blob arrives over one connection before parts are thought of; they are asked for when the rest would take at
    /// least twice as long again.
    pub after: Duration,
    /// Bytes of one part. Each part under way is kept in memory until those before it have arrived.
    pub part_bytes: u64,
    /// Parts under way at once; fewer than two means never.
    pub parallel: usize,
}

impl Default for PartPolicy {
    fn default() -> Self {
        PartPolicy { after: Duration::from_secs(1), part_bytes: 4 * 1024 * 1024, parallel: 4 }
    }
}

impl PartPolicy {
    /// Whether what is missing is to be had faster in parts, after so much has arrived in such a time.
    pub(super) fn pay(&self, elapsed: Duration, arrived_bytes: u64, missing_bytes: u64) -> bool {
        self.parallel > 1
            && elapsed >= self.after
            && missing_bytes >= self.part_bytes.saturating_mul(2)
            && missing_bytes / 2
                >= (arrived_bytes as f64 * self.after.as_secs_f64() / elapsed.as_secs_f64().max(1e-9)) as u64
    }
}

/// A blob whose parts are fetched.
pub(super) struct Parts<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) endpoint: &'a Endpoint,
    pub(super) url: &'a Url,
    pub(super) scope: &'a Scope,
    pub(super) size_bytes: u64,
    pub(super) what: &'a str,
}

/// Why a part did not arrive.
pub(super) enum PartFailure {
    /// The registry does not give parts.
    Ignored,
    /// Anything else.
    Failed(Error),
}

impl From<Error> for PartFailure {
    fn from(error: Error) -> Self {
        PartFailure::Failed(error)
    }
}

impl Parts<'_> {
    /// The parts from a position to the blob's end: first byte, and the one behind the last.
    pub(super) fn ranges(&self, offset_bytes: u64) -> impl Iterator<Item = (u64, u64)> + use<> {
        let (size, part) = (self.size_bytes, self.exchange.parts().part_bytes.max(1));
        let mut next = offset_bytes;
        std::iter::from_fn(move || {
            let first = next;
            next = first.saturating_add(part).min(size);
            (first < size).then_some((first, next))
        })
    }

    /// Fetches one part; after a cut only what is missing of it.
    pub(super) async fn fetch(&self, first: u64, end: u64) -> Result<Vec<Bytes>, PartFailure> {
        let mut attempts = self.exchange.attempts();
        let mut chunks = Vec::new();
        let mut next = first;
        loop {
            let before = next;
            let error = match self.fetch_once(&mut next, end, &mut chunks).await {
                Ok(()) => return Ok(chunks),
                Err(PartFailure::Ignored) => return Err(PartFailure::Ignored),
                Err(PartFailure::Failed(error)) => error,
            };
            if next > before {
                attempts.progressed();
            }
            attempts.wait(error).await?;
        }
    }

    async fn fetch_once(&self, next: &mut u64, end: u64, chunks: &mut Vec<Bytes>) -> Result<(), PartFailure> {
        let call = Call::new(self.endpoint, Method::GET, self.url.clone(), self.scope, self.what)
            .header(header::RANGE, &format!("bytes={next}-{}", end - 1));
        let response = match self.exchange.call_once(&call).await {
            Err(Error::Status { status: StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::NOT_IMPLEMENTED, .. }) => {
                return Err(PartFailure::Ignored);
            }
            answered => answered?,
        };
        refuse_encoding(&response, self.url)?;
        if !self.is_the_part(&response, *next, end) {
            return Err(PartFailure::Ignored);
        }
        let mut body = response.into_body();
        while *next < end {
            let frame = match tokio::time::timeout(self.exchange.stall(), body.frame()).await {
                Err(_) => return Err(self.exchange.stalled(&Method::GET, self.url).into()),
                Ok(None) => {
                    return Err(broken(self.url, std::io::Error::from(std::io::ErrorKind::UnexpectedEof)).into());
                }
                Ok(Some(Err(error))) => return Err(broken(self.url, error).into()),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.len() as u64 > end - *next {
                let problem = "more than the part that was asked for".to_owned();
                return Err(Error::Protocol { url: RedactedUrl::new(self.url), problem }.into());
            }
            *next += data.len() as u64;
            chunks.push(data);
        }
        Ok(())
    }

    /// Whether an answer is the part that was asked for, rather than the whole or something else.
    fn is_the_part(&self, response: &Response<Incoming>, first: u64, end: u64) -> bool {
        let said = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
        response.status() == StatusCode::PARTIAL_CONTENT
            && said.and_then(range::parse_content).is_some_and(|(start, last, total)| {
                start == first && last == end - 1 && total.is_none_or(|total| total == self.size_bytes)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_pay_for_what_is_large_and_slow() {
        let policy = PartPolicy { after: Duration::from_secs(1), part_bytes: 4, parallel: 4 };
        let second = Duration::from_secs(1);
        assert!(policy.pay(second, 100, 200));
        assert!(!policy.pay(second, 100, 199), "the rest is here in less than two seconds");
        assert!(!policy.pay(second / 2, 100, 1000), "too early to say");
        assert!(!policy.pay(second, 0, 7), "too little is missing");
        assert!(policy.pay(4 * second, 400, 200), "the rate counts, not the time");
        assert!(!PartPolicy { parallel: 1, ..policy }.pay(second, 1, 1000));
        assert!(PartPolicy { after: Duration::ZERO, ..policy }.pay(Duration::ZERO, 1000, 8));
    }
}
