//! What a command is given: the environment, read once and in one place, and the engine made of it.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use onetag_engine::{Engine, EngineOptions};
use onetag_oci::Platform;
use onetag_registry::client::ProxyOptions;
use onetag_sandbox::EmulatorChoice;

use crate::configuration::Configuration;
use crate::error::{CommandError, CommandResult};

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Override the configured builder instance
    #[arg(long, global = true, value_name = "NAME", hide = true)]
    pub builder: Option<String>,
    /// Enable debug output
    #[arg(long, short = 'D', global = true, hide = true)]
    pub debug: bool,
    /// Which emulators may be used (auto, host, private, none)
    #[arg(long, global = true, value_name = "CHOICE", hide = true, value_parser = emulator)]
    pub emulator: Option<EmulatorChoice>,
}

/// The surroundings of a command.
#[derive(Debug)]
pub struct Context {
    /// Flags that every command takes.
    pub global: Global,
    engine: OnceCell<Engine>,
}

impl Context {
    /// Nothing is read or opened yet.
    pub fn new(global: Global) -> Self {
        Self { global, engine: OnceCell::new() }
    }

    /// The engine, opened on first use.
    pub fn engine(&self) -> CommandResult<&Engine> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Engine::open(EngineOptions { emulator: self.emulator()?, ..options()? });
        Ok(self.engine.get_or_init(|| engine))
    }

    /// For commands that unpack, execute or change the store's trees: as an ordinary user they do so inside a user
    /// namespace. Must come before anything starts a thread.
    pub fn enter_namespace(&self) -> CommandResult {
        onetag_sandbox::enter_user_namespace().map_err(|error| {
            let hint = error.hint();
            let error = CommandError::from(error);
            hint.into_iter().fold(error, CommandError::with_hint)
        })?;
        Ok(())
    }

    /// The emulators that `--emulator` or ONETAG_EMULATOR allows.
    fn emulator(&self) -> CommandResult<EmulatorChoice> {
        match (self.global.emulator, variable("ONETAG_EMULATOR")) {
            (Some(choice), _) => Ok(choice),
            (None, Some(text)) => {
                emulator(&text).map_err(|error| CommandError::new(error).context("invalid ONETAG_EMULATOR"))
            }
            (None, None) => Ok(EmulatorChoice::default()),
        }
    }

    /// The builder that `--builder` or BUILDX_BUILDER names.
    pub fn builder_name(&self) -> Option<String> {
        self.global.builder.clone().or_else(|| variable("BUILDX_BUILDER"))
    }

    /// The platform that `--platform` or DOCKER_DEFAULT_PLATFORM names.
    pub fn platform(&self, flag: Option<&str>) -> CommandResult<Option<Platform>> {
        match flag.map(str::to_owned).or_else(|| variable("DOCKER_DEFAULT_PLATFORM")) {
            None => Ok(None),
            Some(text) => parse_platform(&text).map(Some),
        }
    }
}

/// Platforms as users write them, several flags or one with commas.
///
/// # Errors
/// As [`parse_platform`].
pub fn parse_platforms(texts: &[String]) -> CommandResult<Vec<Platform>> {
    texts.iter().map(|text| parse_platform(text)).collect()
}

fn emulator(text: &str) -> Result<EmulatorChoice, String> {
    text.parse().map_err(|error: onetag_sandbox::Error| error.to_string())
}

/// A platform as users write it.
///
/// # Errors
/// Naming what is wrong and what was meant.
pub fn parse_platform(text: &str) -> CommandResult<Platform> {
    text.trim().parse::<Platform>().map_err(|error| {
        CommandError::from(error)
            .context(format!("invalid platform {text:?}"))
            .with_hint("platforms are written os/arch[/variant], such as linux/arm64 or linux/arm/v7")
    })
}

/// An environment variable that is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn folder(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The user's home folder: `$HOME`, which commands like sudo keep right.
pub fn home() -> Option<PathBuf> {
    folder("HOME")
}

/// The store's root folder.
fn root() -> CommandResult<PathBuf> {
    if let Some(root) = folder("ONETAG_ROOT") {
        return Ok(std::path::absolute(root)?);
    }
    if rustix::process::geteuid().is_root() && folder("XDG_DATA_HOME").is_none() && !onetag_is_nested() {
        return Ok(PathBuf::from("/var/lib/onetag"));
    }
    let data = folder("XDG_DATA_HOME").or_else(|| home().map(|home| home.join(".local/share")));
    data.map(|data| data.join("onetag")).ok_or_else(|| {
        CommandError::new("cannot tell where the store is: neither ONETAG_ROOT, XDG_DATA_HOME nor HOME is set")
            .with_hint("export ONETAG_ROOT=/path/to/store")
    })
}

/// Whether "root" is only the root of the namespace that an ordinary user entered: its id outside is another.
fn onetag_is_nested() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut first = map.lines().next().unwrap_or_default().split_ascii_whitespace();
    !matches!((first.next(), first.next()), (Some("0"), Some("0")) | (None, _))
}

/// Docker's configuration folder.
pub fn docker_config() -> Option<PathBuf> {
    folder("DOCKER_CONFIG").or_else(|| home().map(|home| home.join(".docker")))
}

/// The proxies of the environment; what is no address is as good as absent, as in Go.
fn proxies() -> ProxyOptions {
    let either = |lower: &str, upper: &str| variable(lower).or_else(|| variable(upper));
    let proxy = |text: Option<String>| {
        let text = text?;
        if text.contains("://") { text.parse().ok() } else { format!("http://{text}").parse().ok() }
    };
    let exceptions = either("no_proxy", "NO_PROXY").unwrap_or_default();
    ProxyOptions {
        http: proxy(either("http_proxy", "HTTP_PROXY")),
        https: proxy(either("https_proxy", "HTTPS_PROXY")),
        exceptions: exceptions.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect(),
    }
}

/// The configuration file: the one that ONETAG_CONFIG names, else the user's, else the machine's.
fn configuration() -> CommandResult<Configuration> {
    let own = folder("XDG_CONFIG_HOME").or_else(|| home().map(|home| home.join(".config")));
    let mut usual: Vec<PathBuf> = own.map(|folder| folder.join("onetag/config.toml")).into_iter().collect();
    usual.push(PathBuf::from("/etc/onetag/config.toml"));
    Configuration::read(folder("ONETAG_CONFIG"), &usual)
}

fn options() -> CommandResult<EngineOptions> {
    let configuration = configuration()?;
    let mut auth_files: Vec<PathBuf> = folder("REGISTRY_AUTH_FILE").into_iter().collect();
    auth_files.extend(folder("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")));
    Ok(EngineOptions {
        root: root()?,
        docker_config: docker_config(),
        auth_files,
        emulator_folders: folder("ONETAG_EMULATORS").into_iter().collect(),
        emulator: EmulatorChoice::default(),
        search_path: std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
        environment: std::env::vars_os().collect(),
        proxies: proxies(),
        hosts: configuration.hosts,
        attempts: configuration.attempts,
        stall: configuration.stall,
        limits: configuration.limits,
        warnings: Some(Arc::new(|host: &str, text: &str| crate::output::note(format!("warning: {host} says: {text}")))),
        user_agent: format!("onetag/{}", env!("CARGO_PKG_VERSION")),
    })
}
