//! Running a command in a sandbox: an overlay over the input's layers, whose upper folder becomes the result's.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use onetag_llb::{self as llb, ExecOp, MountKind, NetworkMode as Network, SecurityMode};
use onetag_oci::{Digest, Platform};
use onetag_sandbox::{ExitStatus, NetworkMode, Process, ProcessSpec, ResourceLimit, RootFs, Security};
use onetag_solver::{Class, ExecContext, Kind, LogStream, Op, OpError};
use onetag_store::{CopySnapshot, LayerId, Stack, Upper};

use super::definition::{content_mounts, definition_key, selection_key};
use super::mounts::{Held, cache_folders, prepare_mount};
use super::{Session, StepError};
use crate::snapshot::{Artifact, Snapshot};

/// See the module.
pub(super) struct ExecStep {
    session: Arc<Session>,
    definition: Digest,
    selection: Digest,
    exec: Box<ExecOp>,
    platform: Platform,
    name: String,
}

/// A writable mount whose content is a result.
struct Output {
    number: usize,
    below: Arc<Snapshot>,
    changes: Changes,
}

/// Where a step's changes go.
enum Changes {
    /// The upper folder of an overlay mount.
    Upper(Upper),
    /// A copy of everything, where this host refuses overlay mounts.
    Copy(Box<CopySnapshot>),
}

impl Changes {
    fn rootfs(&self, stack: &Stack) -> RootFs {
        match self {
            Self::Upper(upper) => RootFs::Overlay {
                lowers: stack.lowers.clone(),
                upper: upper.upper(),
                work: upper.work(),
                volatile: true,
            },
            Self::Copy(copy) => RootFs::Directory(copy.root()),
        }
    }

    fn commit(self) -> Result<LayerId, StepError> {
        match self {
            Self::Upper(upper) => Ok(upper.commit()?),
            Self::Copy(copy) => Ok(copy.commit()?),
        }
    }
}

/// A process that is about to start, and what has to stay until it has ended.
struct Prepared {
    spec: ProcessSpec,
    outputs: Vec<Output>,
    held: Vec<Held>,
}

impl ExecStep {
    pub(super) fn new(session: Arc<Session>, op: &llb::Op, exec: &ExecOp, name: String) -> Self {
        let platform = op.platform.clone().unwrap_or_else(|| session.native.clone());
        Self {
            session,
            definition: definition_key(op),
            selection: selection_key(op),
            exec: Box::new(exec.clone()),
            platform,
            name,
        }
    }

    fn process(&self) -> String {
        self.exec.meta.args.join(" ")
    }

    fn prepare(&self, inputs: &[Artifact], context: &ExecContext<'_>) -> Result<Prepared, StepError> {
        let mut outputs = Vec::new();
        let mut held = Vec::new();
        let mut mounts = Vec::new();
        let mut rootfs = None;
        let caches = cache_folders(&self.session, &self.exec.mounts, inputs, context, &mut held)?;
        for (position, mount) in self.exec.mounts.iter().enumerate() {
            let artifact = match mount.input {
                Some(index) => Some(inputs.get(index).ok_or(StepError::Input { index, operation: "exec" })?),
                None => None,
            };
            if matches!(mount.kind, MountKind::Bind) && (mount.output.is_some() || mount.target == "/") {
                let below = match artifact {
                    Some(artifact) => self.session.snapshot(artifact)?,
                    None => Arc::default(),
                };
                let stack = self.session.stack(&below, context)?;
                let changes = match self.session.is_without_overlay.load(Ordering::Relaxed) {
                    true => Changes::Copy(Box::new(self.session.store.copy_snapshot(&stack)?)),
                    false => Changes::Upper(self.session.store.new_upper(&stack)?),
                };
                let tree = changes.rootfs(&stack);
                match (mount.output, changes) {
                    (Some(number), changes) => outputs.push(Output { number, below, changes }),
                    (None, Changes::Upper(upper)) => held.push(Held::Upper(upper)),
                    (None, Changes::Copy(copy)) => held.push(Held::Copy(copy)),
                }
                if mount.target == "/" {
                    rootfs = Some(tree);
                } else {
                    mounts.push(super::mounts::bind(mount, tree));
                }
                continue;
            }
            let cache = caches.get(&position);
            if let Some(prepared) = prepare_mount(&self.session, mount, artifact, cache, context, &mut held)? {
                mounts.push(prepared);
            }
        }
        let rootfs = rootfs.ok_or(StepError::Unsupported("a process without a root file system"))?;
        let mut spec = ProcessSpec::new(rootfs, self.exec.meta.args.clone());
        spec.mounts = mounts;
        spec.read_only_rootfs = self.exec.mounts.iter().any(|mount| mount.target == "/" && mount.readonly);
        self.set_process(&mut spec, context)?;
        Ok(Prepared { spec, outputs, held })
    }

    fn set_process(&self, spec: &mut ProcessSpec, context: &ExecContext<'_>) -> Result<(), StepError> {
        let meta = &self.exec.meta;
        spec.env.clone_from(&meta.env);
        self.add_proxy(&mut spec.env);
        self.add_secrets(&mut spec.env)?;
        spec.cwd = if meta.cwd.is_empty() { "/".to_owned() } else { meta.cwd.clone() };
        spec.user.clone_from(&meta.user);
        if !meta.hostname.is_empty() {
            spec.hostname.clone_from(&meta.hostname);
        }
        for host in &meta.extra_hosts {
            let address: IpAddr = host
                .ip
                .parse()
                .map_err(|_| StepError::Address { host: host.host.clone(), address: host.ip.clone() })?;
            spec.extra_hosts.push((host.host.clone(), address));
        }
        let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
        spec.resource_limits = meta
            .ulimits
            .iter()
            .map(|ulimit| ResourceLimit {
                name: ulimit.name.clone(),
                soft: limit(ulimit.soft),
                hard: limit(ulimit.hard),
            })
            .collect();
        spec.platform = self.platform.clone();
        spec.network = match self.exec.network {
            Network::Sandbox => self.session.network.mode(context),
            Network::None => NetworkMode::None,
            Network::Host if self.session.entitlements.network_host => NetworkMode::Host,
            Network::Host => return Err(StepError::NotAllowed { entitlement: "network.host" }),
        };
        spec.security = match self.exec.security {
            SecurityMode::Sandbox => Security::Default,
            SecurityMode::Insecure if self.session.entitlements.insecure => Security::Insecure,
            SecurityMode::Insecure => return Err(StepError::NotAllowed { entitlement: "security.insecure" }),
        };
        Ok(())
    }

    fn add_proxy(&self, env: &mut Vec<String>) {
        let Some(proxy) = &self.exec.meta.proxy else { return };
        let values = [
            ("HTTP_PROXY", &proxy.http),
            ("HTTPS_PROXY", &proxy.https),
            ("FTP_PROXY", &proxy.ftp),
            ("NO_PROXY", &proxy.no),
            ("ALL_PROXY", &proxy.all),
        ];
        for (name, value) in values.into_iter().filter(|(_, value)| !value.is_empty()) {
            for name in [name.to_owned(), name.to_lowercase()] {
                if !env.iter().any(|entry| entry.split('=').next() == Some(name.as_str())) {
                    env.push(format!("{name}={value}"));
                }
            }
        }
    }

    fn add_secrets(&self, env: &mut Vec<String>) -> Result<(), StepError> {
        for secret in &self.exec.secret_environment {
            match self.session.secrets.get(&secret.id) {
                Some(content) => env.push(format!("{}={}", secret.name, String::from_utf8_lossy(content))),
                None if secret.optional => {}
                None => return Err(StepError::SecretNotFound { id: secret.id.clone() }),
            }
        }
        Ok(())
    }

    fn attempt(&self, inputs: &[Artifact], context: &ExecContext<'_>) -> Result<Prepared, StepError> {
        let prepared = self.prepare(inputs, context)?;
        self.run(&prepared.spec, context)?;
        Ok(prepared)
    }

    fn run(&self, spec: &ProcessSpec, context: &ExecContext<'_>) -> Result<(), StepError> {
        let failed = |source| StepError::Sandbox { process: self.process(), source };
        let mut process = self.session.sandbox.spawn(spec).map_err(failed)?;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let process = Arc::new(process);
        let killed: Arc<Process> = Arc::clone(&process);
        let _guard = context.on_cancel(move || killed.kill());
        std::thread::scope(|scope| {
            scope.spawn(|| pass_on(stderr, LogStream::Stderr, context));
            pass_on(stdout, LogStream::Stdout, context);
        });
        let status = process.wait().map_err(failed)?;
        if context.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let code = status.exit_code();
        let valid = &self.exec.meta.valid_exit_codes;
        if valid.contains(&code) || (valid.is_empty() && code == 0) {
            return Ok(());
        }
        match status {
            ExitStatus::OutOfMemory => Err(StepError::OutOfMemory { process: self.process(), code }),
            ExitStatus::Code(_) | ExitStatus::Signal(_) => {
                Err(StepError::ExitCode { process: self.process(), code, hint: onetag_sandbox::single_id_hint() })
            }
        }
    }
}

/// Passes a process's output on until it ends.
fn pass_on(stream: Option<File>, kind: LogStream, context: &ExecContext<'_>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => context.log(kind, &buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // The other end is gone; how the process ended says the rest.
            Err(_) => return,
        }
    }
}

impl Op<Artifact> for ExecStep {
    fn kind(&self) -> Kind {
        Kind::Step(self.definition.clone())
    }

    fn selection(&self) -> Option<Digest> {
        Some(self.selection.clone())
    }

    fn class(&self) -> Class {
        self.session.step_class(Some(&self.platform))
    }

    fn content_inputs(&self) -> Vec<usize> {
        let mounts: Vec<usize> = content_mounts(&self.exec);
        let mut by_content: HashMap<usize, bool> = HashMap::new();
        for (position, mount) in self.exec.mounts.iter().enumerate() {
            if let Some(input) = mount.input {
                *by_content.entry(input).or_insert(true) &= mounts.contains(&position);
            }
        }
        let mut inputs: Vec<usize> = by_content.into_iter().filter(|(_, all)| *all).map(|(input, _)| input).collect();
        inputs.sort_unstable();
        inputs
    }

    fn content_key(
        &self,
        index: usize,
        input: &Artifact,
        context: &ExecContext<'_>,
    ) -> Result<Option<Digest>, OpError> {
        let selectors: Vec<&str> = self
            .exec
            .mounts
            .iter()
            .filter(|mount| mount.input == Some(index))
            .map(|mount| mount.selector.as_str())
            .collect();
        Ok(Some(self.session.content_of_paths(input, &selectors, context)?))
    }

    fn is_at_hand(&self, _: usize, input: &Artifact) -> bool {
        self.session.is_at_hand(input)
    }

    fn execute(&self, inputs: &[Artifact], context: &ExecContext<'_>) -> Result<Vec<Artifact>, OpError> {
        if self.exec.network == Network::Sandbox {
            self.session.network.begin();
        }
        let Prepared { spec, outputs, held } = match self.attempt(inputs, context) {
            Err(error)
                if error.is_overlay_refused() && !self.session.is_without_overlay.swap(true, Ordering::Relaxed) =>
            {
                context.warn("this host refuses overlay mounts: files are copied for each step instead");
                self.attempt(inputs, context)?
            }
            result => result?,
        };
        drop((spec, held));
        let count = outputs.iter().map(|output| output.number + 1).max().unwrap_or_default();
        let mut results: Vec<Option<Artifact>> = vec![None; count];
        for output in outputs {
            let layer = output.changes.commit()?;
            results[output.number] = Some(self.session.finish_layer(&output.below, layer, &self.name)?);
        }
        let empty = || Artifact::Snapshot(Arc::default());
        Ok(results.into_iter().map(|result| result.unwrap_or_else(empty)).collect())
    }
}
