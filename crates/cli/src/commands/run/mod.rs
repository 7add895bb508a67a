//! `onetag run`: an image's program in the foreground, natively or emulated.

mod flags;
mod mounts;
mod security;
mod session;

use std::io::IsTerminal;

use clap::Args;
use onetag_engine::images::{Chosen, ImageError, LocalImage, choose, find};
use onetag_engine::pull::PlatformSelection;
use onetag_engine::run::{RunError, RunRequest, start};
use onetag_oci::{Platform, Reference};
use onetag_sandbox::{CapabilityChanges, Limits, NetworkMode, ProcessSpec, ResourceLimit, Security, Stdio};

use super::pull::pull_with_progress;
use super::ways_out::image_error;
use crate::arguments::{Foreign, go_bool, parse_host, parse_size};
use crate::context::Context;
use crate::error::{CommandError, CommandResult, ErrorKind};
use crate::output;

/// Create and run a new container from an image
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct RunArguments {
    /// The image, then the command and its arguments
    #[arg(value_name = "IMAGE [COMMAND] [ARG...]", required = true, num_args = 1.., trailing_var_arg = true)]
    image_and_command: Vec<String>,
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Number of CPUs
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// Add a host device to the container
    #[arg(long, value_name = "DEVICE[:PATH]")]
    device: Vec<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Set environment variables; NAME alone takes the value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Print usage
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Container host name
    #[arg(long, short = 'h', value_name = "NAME")]
    hostname: Option<String>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Keep STDIN open
    #[arg(long, short)]
    interactive: bool,
    /// Memory limit
    #[arg(long, short, value_name = "BYTES")]
    memory: Option<String>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Assign a name to the container: its host name here
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The network: host, none or default
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// The platform to run; `all` runs each in turn
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Pull image before running (always, missing, never)
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"])]
    pull: String,
    /// Suppress the pull output
    #[arg(long, short)]
    quiet: bool,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Automatically remove the container when it exits: always so
    #[arg(long)]
    rm: bool,
    /// Security options: no-new-privileges, seccomp=unconfined, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Proxy received signals to the process
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = go_bool)]
    sig_proxy: bool,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Allocate a pseudo-TTY
    #[arg(long, short)]
    tty: bool,
    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Bind mount a folder
    #[arg(long, short, value_name = "FOLDER:PATH[:OPTIONS]")]
    volume: Vec<String>,
    /// Working directory inside the container
    #[arg(long, short, value_name = "PATH")]
    workdir: Option<String>,
    #[command(flatten)]
    foreign: Foreign<flags::RunFlags>,
}

impl RunArguments {
    /// Runs the command. Whatever goes wrong before the program runs is exit status 125, unless it is the program
    /// that is missing (127) or cannot be executed (126).
    pub fn run(&self, context: &Context) -> CommandResult {
        let not_started = |error: CommandError| match error.kind {
            ErrorKind::Failure => error.with_kind(ErrorKind::NotStarted),
            _ => error,
        };
        self.foreign.settle().map_err(not_started)?;
        let code = self.execute(context).map_err(not_started)?;
        if code == 0 { Ok(()) } else { Err(CommandError::exit(code)) }
    }

    fn execute(&self, context: &Context) -> CommandResult<u8> {
        if self.tty && self.interactive && !std::io::stdin().is_terminal() {
            return Err(CommandError::new("the input device is not a TTY").with_kind(ErrorKind::Failure));
        }
        context.enter_namespace()?;
        let platform = match self.platform.as_deref() {
            Some("all") => return self.all(context),
            platform => context.platform(platform)?,
        };
        let chosen = self.image(context, platform.as_ref())?;
        if chosen.differs_from_host {
            output::note(format!(
                "WARNING: The requested image's platform ({}) does not match the detected host platform ({}) and no specific platform was requested",
                chosen.platform,
                Platform::host().normalize(),
            ));
        }
        self.start(context, &chosen)
    }

    /// Runs every platform of the image that is here, one after another, and prints a table of how they ended.
    fn all(&self, context: &Context) -> CommandResult<u8> {
        let name = &self.image_and_command[0];
        let store = context.engine()?.store()?;
        let image = match find(store, name) {
            Err(ImageError::NotFound { .. }) if self.pull != "never" => self.pull_all(context)?,
            _ if self.pull == "always" => self.pull_all(context)?,
            found => found.map_err(explain)?,
        };
        let entries = onetag_engine::images::entries(store, &image.descriptor)?;
        let mut table = crate::tabwriter::TabWriter::new(0, 3);
        table.line("PLATFORM\tRESULT\tEXIT");
        let mut is_partial = false;
        let mut worst = 0;
        for entry in entries.iter().filter(|entry| !entry.is_attestation) {
            let Some(platform) = &entry.platform else { continue };
            if !entry.is_complete() {
                table.line(format!("{platform}\tnot here\t-"));
                is_partial = true;
                continue;
            }
            let result = choose(store, &image, Some(platform))
                .map_err(CommandError::from)
                .and_then(|chosen| self.start(context, &chosen));
            let (code, shown) = match result {
                Ok(0) => (0, "ok"),
                Ok(code) => (code, "failed"),
                Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    output::note(error.render(crate::error::Voice::Own).trim_end());
                    (error.kind.exit_code().max(1), "not run")
                }
            };
            worst = worst.max(code);
            table.line(format!("{platform}\t{shown}\t{code}"));
        }
        output::note(table.finish().trim_end());
        if is_partial {
            output::note(format!("hint: onetag pull --all-platforms {name}"));
        }
        Ok(worst)
    }

    /// All platforms of an image that is not here.
    fn pull_all(&self, context: &Context) -> CommandResult<LocalImage> {
        let name = &self.image_and_command[0];
        let reference = Reference::parse(name)?.with_default_tag();
        if !self.quiet && self.pull != "always" {
            output::note(format!("Unable to find image '{}' locally", reference.familiar()));
        }
        pull_with_progress(context, &reference, &PlatformSelection::All, true, !self.quiet)?;
        find(context.engine()?.store()?, name).map_err(explain)
    }

    /// The local image; what is not here is pulled, and said to be.
    fn image(&self, context: &Context, platform: Option<&Platform>) -> CommandResult<Chosen> {
        let name = &self.image_and_command[0];
        let store = context.engine()?.store()?;
        let found = match self.pull.as_str() {
            "always" => None,
            _ => match find(store, name).and_then(|image| choose(store, &image, platform)) {
                Ok(chosen) => return Ok(chosen),
                Err(error) => Some(error),
            },
        };
        let is_absent = matches!(found, None | Some(ImageError::NotFound { .. } | ImageError::NotHere { .. }));
        let reference = Reference::parse(name);
        let (true, true, Ok(reference)) = (is_absent, self.pull != "never", reference) else {
            let error = found.map_or_else(|| CommandError::new(format!("no such image: {name}")), explain);
            return Err(error);
        };
        let reference = reference.with_default_tag();
        if !self.quiet && self.pull != "always" {
            let of = platform.map(|platform| format!(" for {platform}")).unwrap_or_default();
            output::note(format!("Unable to find image '{}'{of} locally", reference.familiar()));
        }
        let selection =
            platform.map_or(PlatformSelection::Host, |platform| PlatformSelection::These(vec![platform.clone()]));
        pull_with_progress(context, &reference, &selection, true, !self.quiet)?;
        let image = find(store, name)?;
        choose(store, &image, platform).map_err(explain)
    }

    fn start(&self, context: &Context, chosen: &Chosen) -> CommandResult<u8> {
        let request = self.request()?;
        let mut adjustments = self.adjustments()?;
        adjustments.terminal = self.tty.then(session::window);
        let signals = session::Signals::take(self.sig_proxy);
        let container = start(context.engine()?, chosen, &request, |spec| adjustments.apply(spec)).map_err(not_run)?;
        if container.is_copied() && !self.quiet {
            output::note("note: this host refuses overlay mounts: the image's files were copied for the container");
        }
        let code = session::attend(container, self.interactive, signals)?;
        Ok(u8::try_from(code).unwrap_or(u8::MAX))
    }

    fn request(&self) -> CommandResult<RunRequest> {
        let mut environment = Vec::new();
        for path in &self.env_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| CommandError::from(error).context(format!("cannot read {path}")))?;
            let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
            environment.extend(lines.filter_map(with_value));
        }
        environment.extend(self.env.iter().filter_map(|entry| with_value(entry)));
        if self.tty && !environment.iter().any(|entry| entry.starts_with("TERM=")) {
            environment.insert(0, "TERM=xterm".to_owned());
        }
        Ok(RunRequest {
            command: self.image_and_command[1..].to_vec(),
            entrypoint: self.entrypoint.clone(),
            environment,
            working_directory: self.workdir.clone(),
            user: self.user.clone(),
        })
    }

    fn adjustments(&self) -> CommandResult<Adjustments> {
        let mut mounts = Vec::new();
        for volume in &self.volume {
            mounts.push(mounts::volume(volume)?);
        }
        for mount in &self.mount {
            mounts.push(mounts::mount(mount)?);
        }
        for device in &self.device {
            mounts.push(mounts::device(device)?);
        }
        for tmpfs in &self.tmpfs {
            mounts.push(mounts::tmpfs(tmpfs)?);
        }
        let mut resource_limits = Vec::new();
        for text in &self.ulimit {
            let limit = onetag_engine::flags::parse_ulimit(text)?;
            let value = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
            resource_limits.push(ResourceLimit { name: limit.name, soft: value(limit.soft), hard: value(limit.hard) });
        }
        Ok(Adjustments {
            mounts,
            network: network(self.network.as_deref())?,
            security: if self.privileged { Security::Insecure } else { Security::Default },
            options: security::options(&self.security_opt)?,
            capabilities: CapabilityChanges { add: self.cap_add.clone(), drop: self.cap_drop.clone() },
            resource_limits,
            limits: Limits {
                memory_bytes: self.memory.as_deref().map(parse_size).transpose()?,
                memory_swap_bytes: None,
                pids: self.pids_limit.and_then(|limit| u64::try_from(limit).ok()),
                cpu_thousandths: self.cpus.map(|cpus| (cpus * 1000.0) as u64),
            },
            shm_size: self.shm_size.as_deref().map(parse_size).transpose()?,
            extra_hosts: self.add_host.iter().map(|host| parse_host(host)).collect::<CommandResult<_>>()?,
            hostname: self.hostname.clone().or_else(|| self.name.clone()).unwrap_or_else(session::made_up_name),
            groups: self.group_add.clone(),
            read_only: self.read_only,
            init: self.init,
            interactive: self.interactive,
            terminal: None,
        })
    }
}

/// What the flags change of the process.
struct Adjustments {
    mounts: Vec<onetag_sandbox::Mount>,
    network: NetworkMode,
    security: Security,
    options: security::Options,
    capabilities: CapabilityChanges,
    resource_limits: Vec<ResourceLimit>,
    limits: Limits,
    shm_size: Option<u64>,
    extra_hosts: Vec<(String, std::net::IpAddr)>,
    hostname: String,
    groups: Vec<String>,
    read_only: bool,
    init: bool,
    interactive: bool,
    terminal: Option<(u16, u16)>,
}

impl Adjustments {
    fn apply(self, spec: &mut ProcessSpec) {
        spec.env.push(format!("HOSTNAME={}", self.hostname));
        spec.mounts = self.mounts;
        spec.network = self.network;
        spec.security = self.security;
        spec.no_new_privileges = self.options.no_new_privileges;
        (spec.unfiltered, spec.unmasked) = (self.options.unfiltered, self.options.unmasked);
        spec.capabilities = self.capabilities;
        spec.resource_limits = self.resource_limits;
        spec.limits = self.limits;
        spec.shm_size_bytes = self.shm_size.unwrap_or(spec.shm_size_bytes);
        spec.extra_hosts = self.extra_hosts;
        spec.hostname = self.hostname;
        spec.additional_groups = self.groups;
        spec.read_only_rootfs = self.read_only;
        spec.init = self.init;
        spec.terminal = self.terminal;
        spec.stdin = if self.interactive { Stdio::Inherit } else { Stdio::Null };
        spec.stdout = Stdio::Inherit;
        spec.stderr = Stdio::Inherit;
    }
}

/// `NAME` alone takes its value from our environment, and is left out where it has none.
fn with_value(entry: &str) -> Option<String> {
    match entry.split_once('=') {
        Some(_) => Some(entry.to_owned()),
        None => std::env::var(entry).ok().map(|value| format!("{entry}={value}")),
    }
}

fn network(name: Option<&str>) -> CommandResult<NetworkMode> {
    match name {
        None | Some("host" | "default" | "bridge") => Ok(NetworkMode::Host),
        Some("none") => Ok(NetworkMode::None),
        Some(other) => Err(CommandError::new(format!("network {other} not found"))
            .with_hint("networks are host (also as default and bridge) and none")),
    }
}

/// With the ways out of an image that is here for other platforms.
fn explain(error: ImageError) -> CommandError {
    image_error(error, "run")
}

/// The program could not be started: the status tells whether it is missing or cannot be executed.
fn not_run(error: RunError) -> CommandError {
    let RunError::Sandbox(cause) = &error else { return error.into() };
    let kind = match cause.exit_code() {
        127 => ErrorKind::NotFound,
        126 => ErrorKind::NotExecutable,
        _ => ErrorKind::NotStarted,
    };
    let hint = cause.hint();
    let error = CommandError::from(error).with_kind(kind);
    hint.into_iter().fold(error, CommandError::with_hint)
}
