//! The client: blocking outside, one pool of connections inside.
//!
//! A [`Client`] is cheap to make and to clone. Its runtime (two threads) starts with the first request; the calling thread itself
//! hashes, reads sources and writes sinks, so that transfers made from several threads run in parallel. It MUST NOT be called from a
//! thread that runs an asynchronous runtime; sources and sinks may call it.

mod auth;
mod blob;
mod body;
mod connect;
mod download;
mod exchange;
pub(crate) mod hosts;
mod lists;
mod parts;
mod pull;
mod push;
mod retry;
mod scope;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Runtime;

pub use connect::ProxyOptions;
pub use download::Download;
pub use hosts::{HostOptions, Hosts, KeyPair};
pub use parts::PartPolicy;
pub use push::Pushed;
pub use retry::RetryPolicy;

use crate::credential::{Anonymous, CredentialProvider};
use crate::error::{Error, Result};
use crate::tls::TlsSettings;
use connect::Connector;
use exchange::{Exchange, ExchangeOptions};

/// Takes a registry's warning: its host and the text.
pub type WarningHook = dyn Fn(&str, &str) + Send + Sync;

/// How a client is to be.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where credentials come from.
    pub credentials: Arc<dyn CredentialProvider>,
    /// What is configured for hosts.
    pub hosts: Hosts,
    /// Proxies.
    pub proxies: ProxyOptions,
    /// Repetition of requests.
    pub retry: RetryPolicy,
    /// How long nothing may happen before a transfer counts as broken.
    pub stall: Duration,
    /// Large blobs in parts.
    pub parts: PartPolicy,
    /// How the client names itself.
    pub user_agent: String,
    /// Takes warnings of registries, each once.
    pub warnings: Option<Arc<WarningHook>>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            credentials: Arc::new(Anonymous),
            hosts: Hosts::new(),
            proxies: ProxyOptions::default(),
            retry: RetryPolicy::default(),
            stall: Duration::from_secs(60),
            parts: PartPolicy::default(),
            user_agent: concat!("onetag/", env!("CARGO_PKG_VERSION")).to_owned(),
            warnings: None,
        }
    }
}

/// Talks to registries.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    options: ClientOptions,
    started: OnceLock<Started>,
}

struct Started {
    runtime: Option<Runtime>,
    exchange: Exchange,
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Connections need no farewell, and dropping may happen on a thread that must not wait.
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// A client that has not done anything yet.
    pub fn new(options: ClientOptions) -> Self {
        Client { inner: Arc::new(Inner { options, started: OnceLock::new() }) }
    }

    fn hosts(&self) -> &Hosts {
        &self.inner.options.hosts
    }

    /// Runs a request to its end on this thread; the connections live on the runtime's.
    fn run<T>(&self, work: impl AsyncFnOnce(&Exchange) -> Result<T>) -> Result<T> {
        let started = self.started()?;
        match &started.runtime {
            Some(runtime) => runtime.block_on(work(&started.exchange)),
            None => Err(Error::Runtime(std::io::ErrorKind::NotConnected.into())),
        }
    }

    fn started(&self) -> Result<&Started> {
        if let Some(started) = self.inner.started.get() {
            return Ok(started);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("client")
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let options = &self.inner.options;
        let tls = TlsSettings::new(options.hosts.clone());
        let exchange = Exchange::new(ExchangeOptions {
            connector: Connector::new(tls, options.proxies.clone()),
            credentials: options.credentials.clone(),
            user_agent: options.user_agent.clone(),
            policy: options.retry,
            stall: options.stall,
            parts: options.parts,
            http_proxy: options.proxies.http.clone(),
            warnings: options.warnings.clone(),
        });
        // When two threads get here at once, one of them made its runtime in vain.
        Ok(self.inner.started.get_or_init(|| Started { runtime: Some(runtime), exchange }))
    }
}

/// Runs what the caller brought along (a source, a sink) outside of the runtime, so that it may block, and may use this client.
pub(crate) fn outside<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("started", &self.inner.started.get().is_some()).finish_non_exhaustive()
    }
}
