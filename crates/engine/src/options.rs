//! What an [`Engine`](crate::Engine) is opened with.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use onetag_registry::client::{Hosts, ProxyOptions, WarningHook};
use onetag_sandbox::EmulatorChoice;
use onetag_store::layer::Limits;

/// Everything the engine needs to know about its surroundings. The caller reads the environment; the engine does not.
#[derive(Clone, Default)]
pub struct EngineOptions {
    /// The root folder of the local store; made when absent.
    pub root: PathBuf,
    /// The folder that holds Docker's `config.json` (`$DOCKER_CONFIG`, else `~/.docker`).
    pub docker_config: Option<PathBuf>,
    /// Podman's credential files, in order of preference (`$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`).
    pub auth_files: Vec<PathBuf>,
    /// Folders searched for QEMU user emulators before `search_path`.
    pub emulator_folders: Vec<PathBuf>,
    /// Which emulators may be used.
    pub emulator: EmulatorChoice,
    /// The folders of `$PATH`: emulators, credential helpers and network helpers are looked up here.
    pub search_path: Vec<PathBuf>,
    /// The environment of credential helpers.
    pub environment: Vec<(OsString, OsString)>,
    /// The proxies for registries and sources.
    pub proxies: ProxyOptions,
    /// What is configured for registries by host.
    pub hosts: Hosts,
    /// Attempts at a request to a registry that may fail in a row; the client's own number when `None`.
    pub attempts: Option<u32>,
    /// How long nothing may happen in a transfer before it counts as broken; the client's own time when `None`.
    pub stall: Option<Duration>,
    /// What a layer may demand of this machine when it is unpacked.
    pub limits: Limits,
    /// Takes warnings of registries, each once.
    pub warnings: Option<Arc<WarningHook>>,
    /// The value of the `User-Agent` header; the client's own when empty.
    pub user_agent: String,
}

impl std::fmt::Debug for EngineOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The environment may hold secrets.
        formatter.debug_struct("EngineOptions").field("root", &self.root).finish_non_exhaustive()
    }
}
