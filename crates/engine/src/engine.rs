//! The opened product.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use onetag_registry::credential::{ConfigFiles, ProcessHelpers};
use onetag_registry::{Client, ClientOptions, CredentialProvider};
use onetag_sandbox::{Sandbox, SandboxOptions};
use onetag_store::Store;

use crate::EngineOptions;
use crate::content::archive::ArchiveView;
use crate::content::{ArchiveKind, ArchiveName, ContentError, Location};
use crate::probes::StoredProbes;

/// The store, the registry client and the sandbox, each made when first needed. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: EngineOptions,
    store: OnceLock<Store>,
    client: OnceLock<Client>,
    sandbox: OnceLock<Sandbox>,
    archives: Mutex<HashMap<(ArchiveKind, PathBuf), Arc<ArchiveView>>>,
}

impl Inner {
    pub(crate) fn store(&self) -> Result<&Store, onetag_store::Error> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Store::open_with_limits(&self.options.root, self.options.limits.clone())?;
        Ok(self.store.get_or_init(|| store))
    }
}

impl Engine {
    /// Opens the engine. Touches nothing yet; errors of the store or the configuration appear on first use.
    pub fn open(options: EngineOptions) -> Self {
        let inner = Inner {
            options,
            store: OnceLock::new(),
            client: OnceLock::new(),
            sandbox: OnceLock::new(),
            archives: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What the engine was opened with.
    pub fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    /// The local store.
    ///
    /// # Errors
    /// Its folder cannot be made or read.
    pub fn store(&self) -> Result<&Store, onetag_store::Error> {
        self.inner.store()
    }

    /// The registry client. It connects when it is first asked for something.
    ///
    /// # Errors
    /// The proxies of the options are no addresses.
    pub fn client(&self) -> Result<&Client, onetag_registry::Error> {
        if let Some(client) = self.inner.client.get() {
            return Ok(client);
        }
        let client = Client::new(self.client_options()?);
        Ok(self.inner.client.get_or_init(|| client))
    }

    /// A client like [`Engine::client`] that shows these credentials instead of those that are kept.
    ///
    /// # Errors
    /// As [`Engine::client`].
    pub fn client_with(&self, credentials: Arc<dyn CredentialProvider>) -> Result<Client, onetag_registry::Error> {
        Ok(Client::new(ClientOptions { credentials, ..self.client_options()? }))
    }

    fn client_options(&self) -> Result<ClientOptions, onetag_registry::Error> {
        let options = &self.inner.options;
        let mut client = ClientOptions { credentials: Arc::new(self.credentials()), ..ClientOptions::default() };
        if !options.user_agent.is_empty() {
            client.user_agent.clone_from(&options.user_agent);
        }
        client.proxies = options.proxies.clone();
        client.hosts = options.hosts.clone();
        client.warnings.clone_from(&options.warnings);
        client.retry.attempts = options.attempts.unwrap_or(client.retry.attempts);
        client.stall = options.stall.unwrap_or(client.stall);
        Ok(client)
    }

    /// The files and helpers that keep credentials of registries.
    pub fn credentials(&self) -> ConfigFiles {
        let options = &self.inner.options;
        let mut files: Vec<_> = options.docker_config.iter().map(|folder| folder.join("config.json")).collect();
        files.extend(options.auth_files.iter().cloned());
        let helpers = ProcessHelpers { folders: options.search_path.clone(), environment: options.environment.clone() };
        ConfigFiles::new(files, Arc::new(helpers))
    }

    /// An archive, opened once. `location` MUST be in one.
    pub(crate) fn archive(&self, location: &Location) -> Result<Arc<ArchiveView>, ContentError> {
        let Location::Archive(ArchiveName { kind, place }) = location else {
            return Err(ContentError::NotFound { what: location.to_string() });
        };
        let key = (*kind, place.path.clone());
        let mut archives = self.inner.archives.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = archives.get(&key) {
            return Ok(known.clone());
        }
        let opened = Arc::new(ArchiveView::open(*kind, &place.path, &self.store()?.root().join("tmp"))?);
        archives.insert(key, opened.clone());
        Ok(opened)
    }

    /// What starts processes.
    pub fn sandbox(&self) -> &Sandbox {
        self.inner.sandbox.get_or_init(|| {
            let options = &self.inner.options;
            let mut sandbox = SandboxOptions::default();
            sandbox.interpreter_folders.clone_from(&options.emulator_folders);
            sandbox.search_path.clone_from(&options.search_path);
            sandbox.kept_folders = vec![crate::emulators::folder(&options.root)];
            sandbox.emulator = options.emulator;
            sandbox.probe_memory = Some(Arc::new(StoredProbes(Arc::downgrade(&self.inner))));
            Sandbox::new(sandbox)
        })
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").field("options", &self.options).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(formatter)
    }
}
