//! An OCI distribution registry: the whole API over a [`Storage`](storage::Storage).
//!
//! [`Server::bind`] takes the address, [`Server::run`] answers until a [`Shutdown`] is triggered and then lets requests under way
//! end. Everything a client was told is stored (`201`, `202`) is durable.

mod blobs;
mod cache;
mod lists;
mod manifests;
mod registry;
mod repository;
mod respond;
mod route;
pub mod storage;
mod uploads;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;

use registry::Registry;
use storage::{FilesystemStorage, Storage, StorageError};

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the registry's content; created when missing.
    pub root: PathBuf,
    /// Address and port to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Listen on an address that others can reach although there is neither TLS nor a password.
    pub allow_unprotected: bool,
    /// What is allowed.
    pub policy: Policy,
    /// How much is allowed.
    pub limits: Limits,
}

impl Options {
    /// Defaults for a folder: `127.0.0.1:5000`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Options {
            root: root.into(),
            address: SocketAddr::from(([127, 0, 0, 1], 5000)),
            allow_unprotected: false,
            policy: Policy::default(),
            limits: Limits::default(),
        }
    }
}

/// What a registry allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Nothing may be pushed or deleted.
    pub read_only: bool,
    /// Manifests and indexes may refer to content that is not here.
    pub sparse: bool,
}

/// How much a registry allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest blob, in bytes.
    pub blob_bytes: u64,
    /// Most uploads under way at once.
    pub uploads: usize,
    /// How long a client may send nothing while it should.
    pub stall: Duration,
    /// How long an upload may rest before what arrived of it is removed.
    pub upload_age: Duration,
    /// How long requests under way may take after the server was asked to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            blob_bytes: u64::MAX,
            uploads: 4096,
            stall: Duration::from_secs(60),
            upload_age: Duration::from_secs(24 * 60 * 60),
            grace: Duration::from_secs(10),
        }
    }
}

/// A server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The address is reachable from elsewhere, and nothing protects the content.
    #[error(
        "refusing to listen on {address}: others can reach it, and neither TLS nor a password protects the registry"
    )]
    Unprotected {
        /// The address.
        address: SocketAddr,
    },
    /// The folder cannot be used.
    #[error("cannot use the registry's storage")]
    Storage(#[from] StorageError),
    /// No threads or event queue.
    #[error("cannot start the server's runtime")]
    Runtime(#[source] io::Error),
}

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
    registry: Arc<Registry>,
    limits: Limits,
}

impl Server {
    /// Opens the storage and takes the address.
    ///
    /// # Errors
    /// When the address is taken or may not be used, or the storage cannot be opened.
    pub fn bind(options: &Options) -> Result<Self, ServerError> {
        let address = options.address;
        if !address.ip().is_loopback() && !options.allow_unprotected {
            return Err(ServerError::Unprotected { address });
        }
        let listener = TcpListener::bind(address).map_err(|source| ServerError::Listen { address, source })?;
        let storage = Arc::new(FilesystemStorage::open(&options.root)?);
        Self::serve_on(listener, storage, options)
    }

    /// A registry on a listener and a storage that exist already; the address is not checked.
    ///
    /// # Errors
    /// When the listener does not tell its address.
    pub fn serve_on(listener: TcpListener, storage: Arc<dyn Storage>, options: &Options) -> Result<Self, ServerError> {
        let address =
            listener.local_addr().map_err(|source| ServerError::Listen { address: options.address, source })?;
        let registry = Arc::new(Registry::new(storage, options.limits, options.policy));
        Ok(Server { listener, address, registry, limits: options.limits })
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
        let housekeeping = tokio::spawn(keep_house(self.registry.clone(), self.limits.upload_age));
        let connections = hyper_util::server::graceful::GracefulShutdown::new();
        let http = http_server();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.triggered() => break,
            };
            let Ok((stream, _)) = accepted else {
                // No more file descriptors, most likely: others will be closed in time.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let connection = http.serve_connection(TokioIo::new(stream), service(self.registry.clone()));
            let connection = connections.watch(connection.into_owned());
            tokio::spawn(async move {
                // A connection that breaks concerns its client alone.
                let _ = connection.await;
            });
        }
        drop(listener);
        housekeeping.abort();
        let _ = tokio::time::timeout(self.limits.grace, connections.shutdown()).await;
        Ok(())
    }
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
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60)).max_buf_size(512 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_send_buf_size(1024 * 1024)
        .max_concurrent_streams(64);
    builder
}

type Answering = std::pin::Pin<Box<dyn Future<Output = Result<respond::Answer, std::convert::Infallible>> + Send>>;

fn service(
    registry: Arc<Registry>,
) -> impl hyper::service::Service<
    http::Request<hyper::body::Incoming>,
    Response = respond::Answer,
    Error = std::convert::Infallible,
    Future = Answering,
> + Clone {
    service_fn(move |request| {
        let registry = registry.clone();
        let answering: Answering =
            Box::pin(async move { Ok(registry.answer(request).await.unwrap_or_else(respond::Failure::into_answer)) });
        answering
    })
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
