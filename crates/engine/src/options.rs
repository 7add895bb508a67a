//! What an [`Engine`](crate::Engine) is opened with.

use std::path::PathBuf;

/// Everything the engine needs to know about its surroundings. The caller reads the environment; the engine does not.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// The root folder of the local store; made when absent.
    pub root: PathBuf,
    /// The folder that holds Docker's `config.json` (`$DOCKER_CONFIG`, else `~/.docker`).
    pub docker_config: Option<PathBuf>,
    /// Podman's credential files, in order of preference (`$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`).
    pub auth_files: Vec<PathBuf>,
    /// Folders searched for QEMU user emulators before `search_path`.
    pub emulator_folders: Vec<PathBuf>,
    /// The folders of `$PATH`: emulators, credential helpers and network helpers are looked up here.
    pub search_path: Vec<PathBuf>,
    /// The proxy variables and their values as the environment has them (`HTTP_PROXY`, `https_proxy`, …).
    pub proxies: Vec<(String, String)>,
    /// The value of the `User-Agent` header.
    pub user_agent: String,
}
