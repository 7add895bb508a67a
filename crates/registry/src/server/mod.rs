//! An OCI distribution registry: the whole API over a [`Storage`](storage::Storage).
//!
//! [`Server::bind`] takes the address, [`Server::run`] answers until a [`Shutdown`] is triggered and then lets requests under way
//! end. Everything a client was told is stored (`201`, `202`) is durable.

mod blobs;
mod cache;
mod collect;
mod front;
mod lists;
mod log;
mod manifests;
mod options;
mod passwords;
mod registry;
mod repository;
mod request;
mod respond;
mod route;
pub mod storage;
mod uploads;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::tls;
use crate::wire;

/// How long the TLS handshake of a client may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest warning shown to users, in bytes; clients take no more than 4096 with everything around it.
const WARNING_LIMIT: usize = 4000;

pub use collect::{CollectOptions, Collected, collect};
pub use log::{AccessLog, AccessRecord};
pub use options::{Collection, Limits, Options, Policy, ServerError, TlsFiles};

use passwords::Passwords;
use registry::Registry;
use request::RequestBody;
use respond::{Answer, Failure};
use storage::{FilesystemStorage, Storage};

/// Asks a server to stop; clones ask the same one.
#[derive(Debug, Clone)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
}

impl Shutdown {
    /// A request to stop that has not been made yet.
    pub fn new() -> Self {
        Shutdown { sender: Arc::new(watch::Sender::new(false)) }
    }

    /// Asks the server to stop: it takes no more connections and lets requests under way end.
    pub fn trigger(&self) {
        self.sender.send_replace(true);
    }

    async fn triggered(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives as long as self, so waiting cannot fail.
        let _ = receiver.wait_for(|stop| *stop).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown::new()
    }
}

/// A registry that listens but does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    limits: Limits,
    collection: Option<Collection>,
}

/// What all connections share.
struct Shared {
    registry: Arc<Registry>,
    passwords: Option<Passwords>,
    access_log: Option<Arc<AccessLog>>,
    warning: Option<HeaderValue>,
}

impl Server {
    /// Opens the storage and takes the address.
    ///
    /// # Errors
    /// When the address is taken or may not be used, or the storage cannot be opened.
    pub fn bind(options: &Options) -> Result<Self, ServerError> {
        let address = options.address;
        if let Some(missing) = options.unprotected() {
            return Err(ServerError::Unprotected { address, missing });
        }
        let listener = TcpListener::bind(address).map_err(|source| ServerError::Listen { address, source })?;
        let storage = Arc::new(FilesystemStorage::open(&options.root)?);
        Self::serve_on(listener, storage, options)
    }

    /// A registry on a listener and a storage that exist already; the address is not checked.
    ///
    /// # Errors
    /// When the listener does not tell its address, or certificate or password file cannot be used.
    pub fn serve_on(listener: TcpListener, storage: Arc<dyn Storage>, options: &Options) -> Result<Self, ServerError> {
        let address =
            listener.local_addr().map_err(|source| ServerError::Listen { address: options.address, source })?;
        let passwords = match &options.htpasswd {
            None => None,
            Some(path) => Some(
                Passwords::open(path.clone())
                    .map_err(|source| ServerError::Passwords { path: path.clone(), source })?,
            ),
        };
        let registry = Arc::new(Registry::new(storage, options.limits, options.policy));
        let tls = options.tls.as_ref().map(acceptor).transpose()?;
        let warning = options.warning.as_deref().map(warning).transpose()?;
        let shared = Arc::new(Shared { registry, passwords, access_log: options.access_log.clone(), warning });
        Ok(Server { listener, address, shared, tls, limits: options.limits, collection: options.collection })
    }

    /// The address listened on, with its real port.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until asked to stop. Blocks.
    ///
    /// # Errors
    /// When the runtime cannot be started.
    pub fn run(self, shutdown: &Shutdown) -> Result<(), ServerError> {
        let runtime = runtime()?;
        let result = runtime.block_on(self.accept(shutdown));
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    }

    /// Answers until the process is asked to end (SIGINT, SIGTERM), and then lets requests under way end. Blocks.
    ///
    /// # Errors
    /// When the runtime cannot be started or signals cannot be listened to.
    pub fn run_until_signal(self) -> Result<(), ServerError> {
        use tokio::signal::unix::{SignalKind, signal};
        let shutdown = Shutdown::new();
        let runtime = runtime()?;
        let stop = shutdown.clone();
        let result = runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Runtime)?;
            let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Runtime)?;
            tokio::spawn(async move {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                stop.trigger();
            });
            self.accept(&shutdown).await
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    }

    /// Answers on a thread of its own until the result is dropped.
    pub fn spawn(self) -> Running {
        let shutdown = Shutdown::new();
        let address = self.address;
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || self.run(&stop));
        Running { address, shutdown, thread: Some(thread) }
    }

    async fn accept(self, shutdown: &Shutdown) -> Result<(), ServerError> {
        self.listener.set_nonblocking(true).map_err(ServerError::Runtime)?;
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(ServerError::Runtime)?;
        let housekeeping = tokio::spawn(keep_house(self.shared.registry.clone(), self.limits.upload_age));
        let collecting = self.collection.map(|collection| tokio::spawn(keep_clean(self.shared.clone(), collection)));
        let connections = GracefulShutdown::new();
        let places = Arc::new(tokio::sync::Semaphore::new(self.limits.connections));
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await;
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                next = next => next,
                () = shutdown.triggered() => break,
            };
            let Ok((stream, client)) = accepted else {
                // No more file descriptors, most likely: others will be closed in time.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let watcher = connections.watcher();
            let (shared, tls) = (self.shared.clone(), self.tls.clone());
            let (stall, stop) = (self.limits.stall, shutdown.sender.subscribe());
            tokio::spawn(async move {
                let _place = place;
                match tls {
                    Some(acceptor) => serve_tls(shared, stream, client, acceptor, watcher).await,
                    // A connection that breaks concerns its client alone.
                    None => {
                        if let Ok(Some(rest)) = front::serve(&shared, stream, client, stall, stop).await {
                            serve(shared, rest, client, watcher).await;
                        }
                    }
                }
            });
        }
        drop(listener);
        housekeeping.abort();
        if let Some(collecting) = collecting {
            collecting.abort();
        }
        let _ = tokio::time::timeout(self.limits.grace, connections.shutdown()).await;
        Ok(())
    }
}

/// Serves a connection over TLS to its end.
async fn serve_tls(
    shared: Arc<Shared>,
    stream: tokio::net::TcpStream,
    client: SocketAddr,
    acceptor: tokio_rustls::TlsAcceptor,
    watcher: Watcher,
) {
    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        serve(shared, stream, client, watcher).await;
    }
}

/// Serves a connection to its end, whatever its requests are. One that breaks concerns its client alone.
async fn serve(
    shared: Arc<Shared>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: SocketAddr,
    watcher: Watcher,
) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let shared = shared.clone();
        async move { Ok::<_, std::convert::Infallible>(shared.answer(request.map(RequestBody::Arriving), client).await) }
    });
    let http = http_server();
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let _ = watcher.watch(connection).await;
}

impl Shared {
    /// Answers a request of somebody who is allowed to make it, and logs it.
    async fn answer(&self, request: Request<RequestBody>, client: SocketAddr) -> Answer {
        let (time, started) = (SystemTime::now(), Instant::now());
        let logged = self.access_log.as_ref().map(|log| {
            let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            (log, method, protocol(request.version()), path, agent.unwrap_or_default().to_owned())
        });
        let head = *request.method() == Method::HEAD;
        let (answered, user) = self.authorized(request).await;
        let mut cause = None;
        let mut answer = answered.unwrap_or_else(|failure| {
            cause.clone_from(&failure.cause);
            let answer = failure.into_answer();
            if head { registry::without_body(answer) } else { answer }
        });
        if let Some(warning) = &self.warning {
            answer.headers_mut().insert(header::WARNING, warning.clone());
        }
        if let Some((log, method, protocol, path, user_agent)) = logged {
            let size = answer.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            log(&AccessRecord {
                time,
                client,
                user: user.as_deref(),
                method: method.as_str(),
                protocol,
                path: &path,
                user_agent: &user_agent,
                status: answer.status().as_u16(),
                size_bytes: size.filter(|_| !head).unwrap_or(0),
                took: started.elapsed(),
                cause: cause.as_deref(),
            });
        }
        answer
    }

    async fn authorized(&self, request: Request<RequestBody>) -> (Result<Answer, Failure>, Option<String>) {
        let mut user = None;
        if let Some(passwords) = &self.passwords
            && request.uri().path() != "/healthz"
        {
            user = passwords.user(request.headers().get(header::AUTHORIZATION)).await;
            if user.is_none() {
                let code = wire::errors::ErrorCode::Unauthorized;
                let failure = Failure::new(StatusCode::UNAUTHORIZED, code, "authentication required")
                    .with_header("www-authenticate", "Basic realm=\"onetag registry\", charset=\"UTF-8\"");
                return (Err(failure), None);
            }
        }
        (self.registry.clone().answer(request).await, user)
    }
}

/// The header that shows a text to users, in the only form that clients take.
fn warning(text: &str) -> Result<HeaderValue, ServerError> {
    let fits = text.len() <= WARNING_LIMIT
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
    let value = fits.then(|| HeaderValue::from_str(&format!("299 - \"{text}\"")).ok()).flatten();
    value.ok_or(ServerError::Warning { limit_bytes: WARNING_LIMIT })
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// TLS with a certificate and key from files.
fn acceptor(files: &TlsFiles) -> Result<tokio_rustls::TlsAcceptor, ServerError> {
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;
    let failed = |path: &std::path::Path, problem: String| ServerError::Tls {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, problem),
    };
    let chain = tls::certificates(&files.certificate)
        .map_err(|source| ServerError::Tls { path: files.certificate.clone(), source })?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| failed(&files.key, error.to_string()))?;
    let builder = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&files.certificate, error.to_string()))?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| failed(&files.certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
}

fn runtime() -> Result<tokio::runtime::Runtime, ServerError> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("registry")
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)
}

fn http_server() -> hyper_util::server::conn::auto::Builder<TokioExecutor> {
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60)).max_buf_size(128 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_send_buf_size(1024 * 1024)
        .max_concurrent_streams(64);
    builder
}

/// Removes uploads that nobody continues.
async fn keep_house(registry: Arc<Registry>, upload_age: Duration) {
    let mut interval = tokio::time::interval(Duration::from_secs(10 * 60).min(upload_age));
    loop {
        interval.tick().await;
        registry.uploads.expire(upload_age.min(Duration::from_secs(60 * 60)));
        let storage = registry.storage.clone();
        // What cannot be removed now is tried again.
        let _ = tokio::task::spawn_blocking(move || storage.expire_staged(upload_age)).await;
    }
}

/// Collects garbage now and then.
async fn keep_clean(shared: Arc<Shared>, collection: Collection) {
    loop {
        tokio::time::sleep(collection.every).await;
        let storage = shared.registry.storage.clone();
        // What fails now is tried again the next time.
        let _ = tokio::task::spawn_blocking(move || collect(&storage, collection.options)).await;
    }
}

/// A server on a thread of its own; dropping it stops the server.
pub struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    thread: Option<std::thread::JoinHandle<Result<(), ServerError>>>,
}

impl Running {
    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server and waits for it.
    ///
    /// # Errors
    /// When the server had failed.
    pub fn stop(mut self) -> Result<(), ServerError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), ServerError> {
        self.shutdown.trigger();
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A failure was one of starting up; there is nothing left to stop then.
        let _ = self.join();
    }
}
