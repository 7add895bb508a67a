//! Runs images: a stack of the image's layers, a writable layer on top, a process in it.

use onetag_oci::{ContainerConfig, DiffId};
use onetag_sandbox::{ExitStatus, Process, ProcessSpec, RootFs};
use onetag_store::{CopySnapshot, LayerId, Stack, Store, Upper};
use rayon::prelude::*;
use thiserror::Error;

use crate::Engine;
use crate::images::Chosen;

/// What a container without a PATH gets.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run in an image, beside what its configuration says.
#[derive(Clone, Debug, Default)]
pub struct RunRequest {
    /// The command; the image's where it is empty.
    pub command: Vec<String>,
    /// In place of the image's entry point. The image's command is then left out too.
    pub entrypoint: Option<String>,
    /// `NAME=value`, over the image's environment.
    pub environment: Vec<String>,
    /// In place of the image's working directory.
    pub working_directory: Option<String>,
    /// In place of the image's user.
    pub user: Option<String>,
}

/// Why a container could not be started.
#[derive(Debug, Error)]
pub enum RunError {
    /// Neither the image nor the request names a command.
    #[error("no command specified")]
    NoCommand,
    /// The manifest and the config do not name the same number of layers.
    #[error("the image has {layers} layers and its config names {diff_ids}")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Diff ids of the config.
        diff_ids: usize,
    },
    /// The layers could not be unpacked.
    #[error(transparent)]
    Store(#[from] onetag_store::Error),
    /// The process could not be started.
    #[error(transparent)]
    Sandbox(#[from] onetag_sandbox::Error),
}

/// A running container. Dropping it ends the process and removes what it wrote.
pub struct Container {
    // declared before the upper layer, so that the process is gone when that is removed
    process: Process,
    files: Files,
}

/// The files of a container, which go with it.
enum Files {
    /// The upper folder of an overlay mount.
    Upper(#[allow(dead_code, reason = "dropping it is what counts")] Upper),
    /// A copy of everything, where this host refuses overlay mounts.
    Copy(#[allow(dead_code, reason = "dropping it is what counts")] Box<CopySnapshot>),
}

impl Container {
    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Whether the image's files were copied for it, because this host refuses overlay mounts.
    pub fn is_copied(&self) -> bool {
        matches!(self.files, Files::Copy(_))
    }

    /// The process, for taking its streams.
    pub fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits for the process to end and removes what it wrote.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn wait(&self) -> Result<ExitStatus, RunError> {
        Ok(self.process.wait()?)
    }
}

/// Starts a container. `adjust` sets what the request leaves open: streams, mounts, limits.
///
/// # Errors
/// When the layers cannot be unpacked or the process not be started.
pub fn start(
    engine: &Engine,
    image: &Chosen,
    request: &RunRequest,
    adjust: impl FnOnce(&mut ProcessSpec),
) -> Result<Container, RunError> {
    let store = engine.store()?;
    let arguments = arguments(&image.config.config, request)?;
    let (stack, upper) = std::thread::scope(|scope| {
        // What its platform needs is readied meanwhile. Where that fails, starting the process says why.
        scope.spawn(|| engine.sandbox().prepare(std::slice::from_ref(&image.platform)).is_ok());
        let stack = store.stack(&unpack(store, image)?)?;
        let upper = store.new_upper(&stack)?;
        Ok::<_, RunError>((stack, upper))
    })?;
    let lowers = stack.lowers.clone();
    let rootfs = RootFs::Overlay { lowers, upper: upper.upper(), work: upper.work(), volatile: true };
    let mut spec = ProcessSpec::new(rootfs, arguments);
    configure(&mut spec, &image.config.config, request);
    spec.platform = image.platform.clone();
    adjust(&mut spec);
    let refused = match engine.sandbox().spawn(&spec) {
        Ok(process) => return Ok(Container { process, files: Files::Upper(upper) }),
        Err(error) => error,
    };
    if !refused.is_overlay_refused() {
        return Err(refused.into());
    }
    drop(upper);
    copied(engine, store, &stack, spec)
}

/// The same without an overlay mount.
fn copied(engine: &Engine, store: &Store, stack: &Stack, mut spec: ProcessSpec) -> Result<Container, RunError> {
    let copy = store.copy_snapshot(stack)?;
    spec.rootfs = RootFs::Directory(copy.root());
    let process = engine.sandbox().spawn(&spec)?;
    Ok(Container { process, files: Files::Copy(Box::new(copy)) })
}

/// Unpacks the image's layers, several at a time, and names them, the lowest first.
fn unpack(store: &Store, image: &Chosen) -> Result<Vec<LayerId>, RunError> {
    let diff_ids: &[DiffId] = &image.config.rootfs.diff_ids;
    let layers = &image.manifest.layers;
    if layers.len() != diff_ids.len() {
        return Err(RunError::LayerCount { layers: layers.len(), diff_ids: diff_ids.len() });
    }
    layers
        .par_iter()
        .zip(diff_ids)
        .try_for_each(|(layer, diff_id)| store.ensure_layer(diff_id, &layer.digest, &layer.media_type).map(drop))?;
    Ok(diff_ids.iter().cloned().map(LayerId::Diff).collect())
}

/// What is executed: the entry point and the command, each the request's where it has one.
fn arguments(config: &ContainerConfig, request: &RunRequest) -> Result<Vec<String>, RunError> {
    let mut arguments = match &request.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => Vec::new(),
        Some(entrypoint) => vec![entrypoint.clone()],
        None => config.entrypoint.clone().unwrap_or_default(),
    };
    if !request.command.is_empty() {
        arguments.extend(request.command.iter().cloned());
    } else if request.entrypoint.is_none() {
        arguments.extend(config.cmd.iter().flatten().cloned());
    }
    if arguments.is_empty() { Err(RunError::NoCommand) } else { Ok(arguments) }
}

fn configure(spec: &mut ProcessSpec, config: &ContainerConfig, request: &RunRequest) {
    let mut environment = config.env.clone();
    if !environment.iter().any(|entry| entry.starts_with("PATH=")) {
        environment.insert(0, DEFAULT_PATH.to_owned());
    }
    for entry in &request.environment {
        let name = entry.split('=').next().unwrap_or_default();
        environment.retain(|known| known.split('=').next() != Some(name));
        environment.push(entry.clone());
    }
    spec.env = environment;
    let folder = request.working_directory.clone().unwrap_or_else(|| config.working_dir.clone());
    spec.cwd = if folder.is_empty() { "/".to_owned() } else { folder };
    spec.user = request.user.clone().unwrap_or_else(|| config.user.clone());
}

#[cfg(test)]
mod tests {
    use onetag_oci::ContainerConfig;

    use super::{RunError, RunRequest, arguments, configure};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn entry_points_and_commands_combine_as_dockers() {
        let config = ContainerConfig {
            entrypoint: Some(words("/entry -e")),
            cmd: Some(words("cmd")),
            ..ContainerConfig::default()
        };
        let run = |entrypoint: Option<&str>, command: &str| {
            let request = RunRequest {
                command: words(command),
                entrypoint: entrypoint.map(str::to_owned),
                ..RunRequest::default()
            };
            arguments(&config, &request)
        };
        assert_eq!(run(None, "").unwrap(), words("/entry -e cmd"));
        assert_eq!(run(None, "other x").unwrap(), words("/entry -e other x"));
        assert_eq!(run(Some("sh"), "").unwrap(), words("sh"));
        assert_eq!(run(Some("sh"), "-c y").unwrap(), words("sh -c y"));
        assert!(matches!(run(Some(""), ""), Err(RunError::NoCommand)));
    }

    #[test]
    fn the_request_wins_over_the_image() {
        let config = ContainerConfig { env: words("A=1 B=2"), user: "web".to_owned(), ..ContainerConfig::default() };
        let mut spec = onetag_sandbox::ProcessSpec::new(onetag_sandbox::RootFs::Directory("/".into()), words("x"));
        let request = RunRequest { environment: words("B=3 C=4"), ..RunRequest::default() };
        configure(&mut spec, &config, &request);
        assert_eq!(spec.env[1..], words("A=1 B=3 C=4"));
        assert_eq!((spec.cwd.as_str(), spec.user.as_str()), ("/", "web"));
    }
}
