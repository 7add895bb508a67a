//! Requests and answers: authorization, redirects, failures, time limits and repetition.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::mpsc;
use url::Url;

use super::auth::Authenticator;
use super::body::RequestBody;
use super::connect::{Connector, proxy_authorization};
use super::hosts::{Endpoint, is_loopback};
use super::parts::PartPolicy;
use super::retry::{Attempts, RetryPolicy};
use super::scope::Scope;
use crate::credential::CredentialProvider;
use crate::error::{Error, RedactedUrl, Result};
use crate::wire::errors;

/// Redirects followed for one request.
const REDIRECT_LIMIT: usize = 10;
/// Bytes read of an answer that says what went wrong.
const ERROR_BODY_LIMIT: usize = 64 * 1024;
/// Bytes of a blob that are read and handed to the connection at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// One request of the API.
pub(crate) struct Call<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) scope: &'a Scope,
    /// Reference or digest that errors name.
    pub(crate) what: &'a str,
}

impl<'a> Call<'a> {
    pub(crate) fn new(endpoint: &'a Endpoint, method: Method, url: Url, scope: &'a Scope, what: &'a str) -> Self {
        Call { endpoint, method, url, headers: HeaderMap::new(), body: Bytes::new(), scope, what }
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

/// A body that is read while it is sent.
pub(crate) struct Upload<'a> {
    /// Where it comes from.
    pub(crate) reader: Box<dyn Read + Send + 'a>,
    /// Its length, when that is known.
    pub(crate) length_bytes: Option<u64>,
    /// Counts what was handed to the connection.
    pub(crate) sent_bytes: u64,
}

/// The pool of connections and everything that requests share.
pub(crate) struct Exchange {
    pool: Pool<Connector, RequestBody>,
    connector: Connector,
    auth: Authenticator,
    user_agent: HeaderValue,
    policy: RetryPolicy,
    stall: Duration,
    parts: PartPolicy,
    proxy: Option<HeaderValue>,
    /// Hosts of this machine of which it is known whether they speak TLS.
    speaks_tls: Mutex<HashMap<String, bool>>,
    warnings: Option<Arc<super::WarningHook>>,
    warned: Mutex<Vec<String>>,
}

/// What an exchange is made of.
pub(crate) struct ExchangeOptions {
    pub(crate) connector: Connector,
    pub(crate) credentials: Arc<dyn CredentialProvider>,
    pub(crate) user_agent: String,
    pub(crate) policy: RetryPolicy,
    pub(crate) stall: Duration,
    pub(crate) parts: PartPolicy,
    pub(crate) http_proxy: Option<Url>,
    pub(crate) warnings: Option<Arc<super::WarningHook>>,
}

impl Exchange {
    pub(crate) fn new(options: ExchangeOptions) -> Self {
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(16)
            .http1_max_buf_size(1024 * 1024)
            .http2_initial_stream_window_size(2 * 1024 * 1024)
            .http2_initial_connection_window_size(8 * 1024 * 1024)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .build(options.connector.clone());
        let user_agent = HeaderValue::from_str(&options.user_agent);
        Exchange {
            pool,
            connector: options.connector,
            auth: Authenticator::new(options.credentials),
            user_agent: user_agent.unwrap_or(HeaderValue::from_static("onetag")),
            policy: options.policy,
            stall: options.stall,
            parts: options.parts,
            proxy: options
                .http_proxy
                .as_ref()
                .and_then(proxy_authorization)
                .and_then(|value| HeaderValue::from_str(&value).ok()),
            speaks_tls: Mutex::default(),
            warnings: options.warnings,
            warned: Mutex::default(),
        }
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(crate) fn stall(&self) -> Duration {
        self.stall
    }

    pub(crate) fn parts(&self) -> &PartPolicy {
        &self.parts
    }

    pub(crate) fn attempts(&self) -> Attempts {
        Attempts::new(self.policy)
    }

    /// The endpoint with the scheme that was found out.
    pub(crate) fn settled(&self, endpoint: Endpoint) -> Endpoint {
        let authority = endpoint.base.authority().to_owned();
        let secure = lock(&self.speaks_tls).get(&authority).copied().unwrap_or(false);
        if secure { endpoint.over_tls().unwrap_or(endpoint) } else { endpoint }
    }

    /// Makes a request, again as often as the policy allows, and gives the answer when it is a success.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Result<Response<Incoming>> {
        let mut attempts = self.attempts();
        loop {
            match self.call_once(call).await {
                Ok(response) => return Ok(response),
                Err(error) => self.wait(&mut attempts, call.endpoint, error).await?,
            }
        }
    }

    /// Makes a request once: with authorization, which may take several requests, and following redirects.
    pub(crate) async fn call_once(&self, call: &Call<'_>) -> Result<Response<Incoming>> {
        let mut refused = 0;
        loop {
            let authorization = self.auth.header(self, call.endpoint, call.scope).await?;
            let sent = authorization.is_some();
            let response = self.follow(call, authorization).await?;
            if response.status().is_success() {
                return Ok(response);
            }
            if response.status() == StatusCode::UNAUTHORIZED && refused < 2 {
                refused += 1;
                if self.auth.learn(call.endpoint, call.scope, response.headers(), sent)? {
                    drain(response, self.stall).await;
                    continue;
                }
            }
            return Err(self.failure(call.endpoint, &call.method, &call.url, call.what, response).await);
        }
    }

    /// Notes a refusal of a request that cannot be repeated as it is; gives whether repeating it makes sense.
    pub(crate) fn refused(&self, endpoint: &Endpoint, scope: &Scope, response: &Response<Incoming>) -> Result<bool> {
        self.auth.learn(endpoint, scope, response.headers(), true)
    }

    async fn follow(&self, call: &Call<'_>, authorization: Option<HeaderValue>) -> Result<Response<Incoming>> {
        let mut url = call.url.clone();
        for _ in 0..=REDIRECT_LIMIT {
            let own = url.origin() == call.endpoint.base.origin();
            let shown = authorization.as_ref().filter(|_| own);
            let request = self.request(&call.method, &url, &call.headers, shown)?;
            let request = request.map(|()| RequestBody::full(call.body.clone()));
            let response = self.send(request, &url).await?;
            match redirect_target(&call.method, &url, &response)? {
                None => return Ok(response),
                Some(target) => {
                    drain(response, self.stall).await;
                    url = target;
                }
            }
        }
        let problem = "too many redirects".to_owned();
        Err(Error::Protocol { url: RedactedUrl::new(&call.url), problem })
    }

    /// Sends a body that is read on this thread while it goes out. Neither redirects nor refusals are dealt with: the caller looks
    /// at the answer, because only it can open the content again.
    pub(crate) async fn send_upload(&self, call: &Call<'_>, upload: &mut Upload<'_>) -> Result<Response<Incoming>> {
        let own = call.url.origin() == call.endpoint.base.origin();
        let authorization = self.auth.header(self, call.endpoint, call.scope).await?.filter(|_| own);
        let request = self.request(&call.method, &call.url, &call.headers, authorization.as_ref())?;
        let (sender, chunks) = mpsc::channel(2);
        let body = RequestBody::Stream { chunks, remaining_bytes: upload.length_bytes };
        let answer = self.pool.request(request.map(|()| body));
        tokio::pin!(answer);
        let mut sender = Some(sender);
        let stalled = || self.stalled(&call.method, &call.url);
        while let Some(open) = &sender {
            let chunk = read_chunk(&mut upload.reader, upload.length_bytes.map(|all| all - upload.sent_bytes));
            let chunk = match chunk {
                Ok(chunk) if chunk.is_empty() => {
                    sender = None;
                    continue;
                }
                Ok(chunk) => chunk,
                Err(source) => {
                    // An error in place of a chunk keeps the registry from taking a part for the whole.
                    let _ = open.try_send(Err(std::io::ErrorKind::UnexpectedEof.into()));
                    return Err(Error::Source { what: call.what.to_owned(), source });
                }
            };
            let length = chunk.len() as u64;
            tokio::select! {
                biased;
                answered = &mut answer => return self.answered(answered, &call.method, &call.url),
                sent = open.send(Ok(chunk)) => match sent {
                    Ok(()) => upload.sent_bytes += length,
                    // The connection has no more use for the body; its answer says why.
                    Err(_) => sender = None,
                },
                () = tokio::time::sleep(self.stall) => return Err(stalled()),
            }
        }
        // Storing what arrived may take a registry a while.
        let patience = self.stall.saturating_mul(5);
        match tokio::time::timeout(patience, answer).await {
            Ok(answered) => self.answered(answered, &call.method, &call.url),
            Err(_) => Err(stalled()),
        }
    }

    /// Sends one request with its own header and without looking at the answer; redirects within its origin are followed.
    pub(crate) async fn send_plain(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Incoming>> {
        let mut target = url.clone();
        for _ in 0..=REDIRECT_LIMIT {
            let shown = authorization.as_ref().filter(|_| target.origin() == url.origin());
            let request = self.request(&method, &target, &headers, shown)?;
            let response = self.send(request.map(|()| RequestBody::full(body.clone())), &target).await?;
            match redirect_target(&method, &target, &response)? {
                // A form with a secret in it goes nowhere else.
                Some(next) if next.origin() == url.origin() || method == Method::GET => target = next,
                _ => return Ok(response),
            }
        }
        Err(Error::Protocol { url: RedactedUrl::new(url), problem: "too many redirects".to_owned() })
    }

    fn request(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Request<()>> {
        let mut request = Request::builder().method(method).uri(url.as_str()).body(()).map_err(|error| {
            Error::Transport { method: method.clone(), url: RedactedUrl::new(url), source: Box::new(error) }
        })?;
        *request.headers_mut() = headers.clone();
        request.headers_mut().insert(header::USER_AGENT, self.user_agent.clone());
        if let Some(value) = authorization {
            request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        if let Some(value) = self.proxy.as_ref().filter(|_| url.scheme() == "http" && self.connector.is_proxied(url)) {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value.clone());
        }
        Ok(request)
    }

    async fn send(&self, request: Request<RequestBody>, url: &Url) -> Result<Response<Incoming>> {
        let method = request.method().clone();
        match tokio::time::timeout(self.stall, self.pool.request(request)).await {
            Ok(answered) => self.answered(answered, &method, url),
            Err(_) => Err(self.stalled(&method, url)),
        }
    }

    pub(super) fn stalled(&self, method: &Method, url: &Url) -> Error {
        Error::Stalled { method: method.clone(), url: RedactedUrl::new(url), after: self.stall }
    }

    fn answered(
        &self,
        answered: Result<Response<Incoming>, hyper_util::client::legacy::Error>,
        method: &Method,
        url: &Url,
    ) -> Result<Response<Incoming>> {
        match answered {
            Ok(response) => {
                // Servers that want TLS say 400 to anything else.
                if url.scheme() == "http" && response.status() != StatusCode::BAD_REQUEST && is_loopback(url) {
                    lock(&self.speaks_tls).entry(url.authority().to_owned()).or_insert(false);
                }
                self.show_warnings(url, response.headers());
                Ok(response)
            }
            Err(error) if error.is_connect() => {
                let host = url.authority().rsplit('@').next().unwrap_or_default().to_owned();
                let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
                let source = source.map(copy_io).unwrap_or_else(|| std::io::Error::other(error));
                match source.kind() {
                    std::io::ErrorKind::InvalidData if url.scheme() == "https" => Err(Error::Tls { host, source }),
                    _ => Err(Error::Connect { host, source }),
                }
            }
            Err(error) => {
                Err(Error::Transport { method: method.clone(), url: RedactedUrl::new(url), source: Box::new(error) })
            }
        }
    }

    /// Turns an answer that is no success into an error.
    pub(crate) async fn failure(
        &self,
        endpoint: &Endpoint,
        method: &Method,
        url: &Url,
        what: &str,
        response: Response<Incoming>,
    ) -> Error {
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(retry_after);
        let body = read_body(response, ERROR_BODY_LIMIT, method, url, self.stall).await;
        let errors = body.map(|body| errors::parse(&body)).unwrap_or_default();
        let registry = endpoint.registry.clone();
        let what = what.to_owned();
        match status {
            StatusCode::NOT_FOUND => Error::NotFound { what },
            StatusCode::UNAUTHORIZED => {
                Error::Unauthorized { registry, what, had_credentials: self.auth.has_credential(endpoint), errors }
            }
            StatusCode::FORBIDDEN => Error::Denied { registry, what, errors },
            status => Error::Status { method: method.clone(), url: RedactedUrl::new(url), status, errors, retry_after },
        }
    }

    /// Waits before another attempt at an endpoint, or gives the error back when there is to be none.
    pub(crate) async fn wait(&self, attempts: &mut Attempts, endpoint: &Endpoint, error: Error) -> Result<()> {
        // The next attempt is one over TLS, at once.
        if self.may_speak_tls(endpoint, &error) { Err(error) } else { attempts.wait(error).await }
    }

    /// Whether the first attempt without TLS at a host of this machine failed in the way that TLS makes it fail.
    pub(crate) fn may_speak_tls(&self, endpoint: &Endpoint, error: &Error) -> bool {
        let garbled = matches!(error, Error::Transport { .. })
            || matches!(error, Error::Status { status: StatusCode::BAD_REQUEST, errors, .. } if errors.is_empty());
        let guessed = !endpoint.scheme_fixed && endpoint.base.scheme() == "http";
        guessed && garbled && !lock(&self.speaks_tls).contains_key(endpoint.base.authority())
    }

    /// Notes whether a host of this machine speaks TLS.
    pub(crate) fn note_protocol(&self, base: &Url, tls: bool) {
        lock(&self.speaks_tls).insert(base.authority().to_owned(), tls);
    }

    fn show_warnings(&self, url: &Url, headers: &HeaderMap) {
        let Some(hook) = &self.warnings else { return };
        for value in headers.get_all(header::WARNING).iter().take(16) {
            let text = value.to_str().ok().and_then(|text| text.strip_prefix("299 - \"")?.strip_suffix('"'));
            // Several may stand in one header.
            for text in text.into_iter().flat_map(|text| text.split("\", 299 - \"")) {
                let mut warned = lock(&self.warned);
                let host = url.host_str().unwrap_or_default();
                let line = format!("{host}: {text}");
                if warned.len() < 256 && !warned.contains(&line) {
                    hook(host, text);
                    warned.push(line);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn copy_io(error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), error.to_string())
}

/// Reads the next chunk, full unless it is the last one; a reader that has only a little gives only that.
fn read_chunk(reader: &mut dyn Read, remaining_bytes: Option<u64>) -> std::io::Result<Bytes> {
    let size =
        remaining_bytes.map_or(CHUNK_BYTES, |left| usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES));
    if size == 0 {
        return Ok(Bytes::new());
    }
    let mut chunk = BytesMut::zeroed(size);
    loop {
        match super::outside(|| reader.read(&mut chunk)) {
            Ok(0) if remaining_bytes.is_some() => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                chunk.truncate(read);
                return Ok(chunk.freeze());
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Where an answer sends the client to, if it does.
pub(crate) fn redirect_target(method: &Method, url: &Url, response: &Response<Incoming>) -> Result<Option<Url>> {
    let followed = match response.status().as_u16() {
        301..=303 => matches!(*method, Method::GET | Method::HEAD),
        307 | 308 => true,
        _ => false,
    };
    if !followed {
        return Ok(None);
    }
    location(url, response.headers(), "redirect").map(Some)
}

/// The address in a `Location` header, which must not leave TLS.
pub(crate) fn location(url: &Url, headers: &HeaderMap, what: &str) -> Result<Url> {
    let problem = |problem: String| Error::Protocol { url: RedactedUrl::new(url), problem };
    let value = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let Some(value) = value else { return Err(problem(format!("a {what} without a location"))) };
    let mut target = url.join(value).map_err(|error| problem(format!("a {what} to nowhere: {error}")))?;
    let downgraded = url.scheme() == "https" && target.scheme() == "http";
    if downgraded && target.host_str() == url.host_str() && target.port() == url.port() {
        // A registry behind a proxy that ends TLS, and does not know it.
        if target.set_scheme("https").is_ok() {
            return Ok(target);
        }
    }
    if downgraded || !matches!(target.scheme(), "http" | "https") {
        return Err(problem(format!("a {what} away from TLS, to {}", RedactedUrl::new(&target))));
    }
    Ok(target)
}

/// Reads a whole body up to a limit.
pub(crate) async fn read_body(
    response: Response<Incoming>,
    limit_bytes: usize,
    method: &Method,
    url: &Url,
    stall: Duration,
) -> Result<Bytes> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    loop {
        match tokio::time::timeout(stall, body.frame()).await {
            Err(_) => {
                return Err(Error::Stalled { method: method.clone(), url: RedactedUrl::new(url), after: stall });
            }
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Ok(frame))) => {
                let Some(data) = frame.data_ref() else { continue };
                if bytes.len() + data.len() > limit_bytes {
                    return Err(Error::TooLarge { what: RedactedUrl::new(url).to_string(), limit_bytes });
                }
                bytes.extend_from_slice(data);
            }
            Ok(Some(Err(error))) => {
                let url = RedactedUrl::new(url);
                return Err(Error::Transport { method: method.clone(), url, source: Box::new(error) });
            }
        }
    }
}

/// Reads the rest of a short body, so that its connection can be used again; a long one is cut off.
pub(crate) async fn drain(response: Response<Incoming>, stall: Duration) {
    let mut body = response.into_body();
    let mut left = ERROR_BODY_LIMIT;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(stall, body.frame()).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

pub(super) fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}
