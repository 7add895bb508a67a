//! Fetching what is no registry's: a file at a URL.

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use url::Url;

use super::exchange::{Exchange, retry_after};
use super::{Client, outside};
use crate::content::BlobSink;
use crate::error::{Error, RedactedUrl, Result};

/// What is known of a file at a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Download {
    /// The content is the one whose tag was given; nothing was written.
    pub is_unchanged: bool,
    /// The server's tag of the content.
    pub etag: Option<String>,
    /// When it was last changed, as HTTP writes times.
    pub last_modified: Option<String>,
}

impl Client {
    /// Fetches a file, without the credentials of registries; a user and password in the URL are used. With the tag of
    /// content that the caller has, nothing is fetched where it is still the same. Nothing is verified.
    ///
    /// # Errors
    /// Not an HTTP URL, no answer, an answer that is no success, or a sink that does not take the content.
    pub fn download(&self, url: &str, etag: Option<&str>, sink: &mut dyn BlobSink) -> Result<Download> {
        let mut target = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
            .ok_or_else(|| Error::NotFound { what: "a URL that is none".to_owned() })?;
        let authorization = basic(&target);
        // Both fail only for addresses without a host.
        let _ = target.set_username("");
        let _ = target.set_password(None);
        target.set_fragment(None);
        let mut headers = HeaderMap::new();
        if let Some(tag) = etag.and_then(|tag| HeaderValue::from_str(tag).ok()) {
            headers.insert(header::IF_NONE_MATCH, tag);
        }
        self.run(async |exchange| {
            let mut attempts = exchange.attempts();
            loop {
                match fetch(exchange, &target, &headers, authorization.clone(), sink).await {
                    Ok(download) => return Ok(download),
                    Err(error) => attempts.wait(error).await?,
                }
                outside(|| sink.restart()).map_err(|source| sink_error(&target, source))?;
            }
        })
    }
}

fn basic(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| crate::wire::query::decode(&text.replace('+', "%2B"));
    let pair = format!("{}:{}", decode(url.username())?, decode(url.password().unwrap_or_default())?);
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn sink_error(url: &Url, source: std::io::Error) -> Error {
    Error::Sink { what: RedactedUrl::new(url).to_string(), source }
}

async fn fetch(
    exchange: &Exchange,
    url: &Url,
    headers: &HeaderMap,
    authorization: Option<HeaderValue>,
    sink: &mut dyn BlobSink,
) -> Result<Download> {
    let method = Method::GET;
    let response = exchange.send_plain(method.clone(), url, headers.clone(), Bytes::new(), authorization).await?;
    let status = response.status();
    let text = |name: header::HeaderName| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let mut download =
        Download { is_unchanged: false, etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) };
    if status == StatusCode::NOT_MODIFIED && headers.contains_key(header::IF_NONE_MATCH) {
        download.is_unchanged = true;
        return Ok(download);
    }
    if !status.is_success() {
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(retry_after);
        let url = RedactedUrl::new(url);
        return Err(Error::Status { method, url, status, errors: Vec::new(), retry_after });
    }
    let mut body = response.into_body();
    loop {
        let frame = tokio::time::timeout(exchange.stall(), body.frame()).await;
        let frame = frame.map_err(|_| Error::Stalled {
            method: method.clone(),
            url: RedactedUrl::new(url),
            after: exchange.stall(),
        })?;
        let Some(frame) = frame else { return Ok(download) };
        let frame = frame.map_err(|error| Error::Transport {
            method: method.clone(),
            url: RedactedUrl::new(url),
            source: Box::new(error),
        })?;
        if let Some(bytes) = frame.data_ref() {
            outside(|| sink.write(bytes)).map_err(|source| sink_error(url, source))?;
        }
    }
}
