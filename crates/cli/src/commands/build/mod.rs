//! `onetag build`: arguments, and what happens around the build.

mod call;
mod engine_hint;
mod flags;
mod plan;
mod record;
mod report;
mod request;
mod sources;
mod summary;
mod vcs;
mod verify;

use std::path::PathBuf;

use clap::Args;
use onetag_engine::build::{BuildError, BuildOutcome};
use onetag_engine::builders::{Builders, LOCAL_DRIVER};

use crate::arguments::Foreign;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::interrupt;
use crate::output;
use crate::progress::{Display, Mode};

/// Build an image for one or many platforms
#[derive(Args, Debug)]
pub struct BuildArguments {
    /// The context: a folder, a git repository, a URL, or - for an archive or a Dockerfile on standard input
    #[arg(value_name = "PATH | URL | -")]
    context: String,
    /// Add a custom host-to-IP mapping (format: host:ip)
    #[arg(long, value_name = "HOST:IP", value_delimiter = ',')]
    add_host: Vec<String>,
    /// Allow extra privileged entitlement (network.host, security.insecure)
    #[arg(long, value_name = "ENTITLEMENT")]
    allow: Vec<String>,
    /// Take a base that is a bare manifest of another platform
    #[arg(long)]
    allow_platform_mismatch: bool,
    /// Push, load or write the platforms that could be built when others fail; implies --keep-going
    #[arg(long)]
    allow_partial: bool,
    /// Add annotation to the image
    #[arg(long, value_name = "[TYPE:]KEY=VALUE")]
    annotation: Vec<String>,
    /// Attestation parameters
    #[arg(long, value_name = "type=…")]
    attest: Vec<String>,
    /// Where attestations go: into the index, or beside the images
    #[arg(long, value_name = "PLACE", default_value = "index", value_parser = ["index", "referrers"])]
    attest_as: String,
    /// Set build-time variables; NAME alone takes the value from here
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Additional build contexts (NAME=PATH, docker-image://…, oci-layout://…, target:…, a URL)
    #[arg(long, value_name = "NAME=CONTEXT")]
    build_context: Vec<String>,
    /// External cache sources (user/app:cache, type=local,src=path/to/dir)
    #[arg(long, value_name = "NAME | type=…")]
    cache_from: Vec<String>,
    /// Cache export destinations (user/app:cache, type=local,dest=path/to/dir, type=inline)
    #[arg(long, value_name = "NAME | type=…")]
    cache_to: Vec<String>,
    /// Ask for something else than a build (check, outline, targets; format: NAME[,format=json])
    #[arg(long, value_name = "METHOD", default_value = "build")]
    call: String,
    /// Shorthand for --call=check
    #[arg(long)]
    check: bool,
    /// Set the parent cgroup for the RUN instructions during build
    #[arg(long, value_name = "GROUP", default_value = "")]
    cgroup_parent: String,
    /// Name of the Dockerfile (default: PATH/Dockerfile)
    #[arg(long, short, value_name = "FILE")]
    file: Option<String>,
    /// Write the image ID to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Finish the other platforms when one fails
    #[arg(long)]
    keep_going: bool,
    /// Set metadata for an image
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Put the image, all its platforms, into the local store
    #[arg(long)]
    load: bool,
    /// Take the digests of this lock file, which has to have all images (default: onetag.lock beside the Dockerfile)
    #[arg(long, value_name = "FILE", conflicts_with = "no_lock")]
    lock: Option<PathBuf>,
    /// Write build result metadata to a file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Set the networking mode for the RUN instructions during build (default, host, none)
    #[arg(long, value_name = "MODE", default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Use no lock file
    #[arg(long)]
    no_lock: bool,
    /// Do not cache specified stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Output destination (format: type=local,dest=path)
    #[arg(long, short, value_name = "type=…")]
    output: Vec<String>,
    /// Tell what the build would do, and do nothing of it (format: text, json)
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    plan: Option<plan::PlanFormat>,
    /// Set target platforms for build
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<String>,
    /// Set type of progress output (auto, plain, tty, quiet, rawjson)
    #[arg(long, value_name = "MODE")]
    progress: Option<String>,
    /// Shorthand for --attest=type=provenance
    #[arg(long, value_name = "VALUE")]
    provenance: Option<String>,
    /// Always ask registries for referenced images
    #[arg(long)]
    pull: bool,
    /// Push the image, all its platforms, to its registry
    #[arg(long)]
    push: bool,
    /// Push by digest alone, to the repository of --tag: no tag is moved
    #[arg(long)]
    push_by_digest: bool,
    /// Write what was pushed, and of what it was built, to a file that `imagetools merge` reads
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Suppress the build output and print image ID on success
    #[arg(long, short)]
    quiet: bool,
    /// Shorthand for --attest=type=sbom
    #[arg(long, value_name = "VALUE")]
    sbom: Option<String>,
    /// Secret to expose to the build (format: id=mysecret[,src=/local/secret])
    #[arg(long, value_name = "id=…")]
    secret: Vec<String>,
    /// Shared memory size for build containers
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// SSH agent socket to expose to the build (format: default|<id>[=<socket>])
    #[arg(long, value_name = "ID[=SOCKET]")]
    ssh: Vec<String>,
    /// Image identifier (format: [registry/]repository[:tag])
    #[arg(long, short, value_name = "NAME")]
    tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Build twice without the cache and tell what differs
    #[arg(long)]
    verify_reproducible: bool,
    #[command(flatten)]
    foreign: Foreign<flags::BuildFlags>,
}

impl BuildArguments {
    /// The graph for one platform, with nothing built.
    pub(in crate::commands) fn graph(
        &self,
        context: &Context,
        unique: Option<&str>,
    ) -> CommandResult<onetag_llb::Graph> {
        self.foreign.settle()?;
        self.refuse_results()?;
        if self.is_context_remote() {
            context.enter_namespace()?;
        }
        let mut request = self.request(context)?;
        if let Some(unique) = unique {
            unique.clone_into(&mut request.local_unique);
        }
        if request.platforms.len() > 1 {
            return Err(CommandError::new("a definition is for one platform").with_hint("--platform linux/arm64"));
        }
        let mode = if self.quiet { Mode::Quiet } else { Mode::choose(self.progress.as_deref())? };
        let cancel = interrupt::listen();
        let display = Display::start(mode, format!("building with \"default\" instance using {LOCAL_DRIVER} driver"));
        let report = report::Report::new(&display);
        let graphs = context.engine()?.graphs(&request, &cancel, &|event| report.event(event));
        drop(report);
        display.finish();
        Ok(graphs.map_err(explain)?.into_iter().next().unwrap_or_default())
    }

    /// What a command that builds nothing has no use for.
    fn refuse_results(&self) -> CommandResult {
        let given = [
            ("--push", self.push),
            ("--load", self.load),
            ("--output", !self.output.is_empty()),
            ("--metadata-file", self.metadata_file.is_some()),
            ("--iidfile", self.iidfile.is_some()),
            ("--check", self.check),
            ("--call", self.call != "build"),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((flag, _)) => Err(CommandError::new(format!("{flag} has no meaning here: nothing is built"))
                .with_hint(format!("leave {flag} out, or type onetag build"))),
        }
    }

    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        self.foreign.settle()?;
        let mode = if self.quiet { Mode::Quiet } else { Mode::choose(self.progress.as_deref())? };
        let builders = Builders::new(&context.engine()?.options().root);
        let builder = builders.get(context.builder_name().as_deref())?;
        let call = self.asked()?;
        if call.is_none() || self.is_context_remote() {
            context.enter_namespace()?;
        }
        let request = self.request(context)?;
        if let Some(call) = call {
            return call::answer(&call, context.engine()?, &request, mode);
        }
        self.check_record(&request)?;
        let engine = context.engine()?;
        let cancel = interrupt::listen();
        let description = format!("building with \"{}\" instance using {LOCAL_DRIVER} driver", builder.name);
        if let Some(format) = self.plan {
            return plan::print(engine, &request, format, mode, description, &cancel);
        }
        // One of an earlier build would pass for that of a build that failed.
        if let Some(path) =
            self.iidfile.as_deref().filter(|path| path.symlink_metadata().is_ok_and(|file| file.is_file()))
        {
            std::fs::remove_file(path).map_err(|error| cannot("remove", path, error))?;
        }
        let display = Display::start(mode, description);
        let report = report::Report::new(&display);
        let sink = |event| report.event(event);
        let verified = self.verify_reproducible.then(|| engine.verify_reproducible(&request, &cancel, &sink));
        let result = match verified.transpose() {
            Ok(Some(verification)) if request.outputs.is_empty() || !verification.differences.is_empty() => {
                Ok(Err(verification))
            }
            // What was verified is in the cache, and goes where it should from there.
            Ok(_) => engine.build(&request, &cancel, &sink).map(Ok),
            Err(error) => Err(error),
        };
        let metadata = match &result {
            Ok(Ok(outcome)) if self.metadata_file.is_some() => Some(report.metadata(outcome, &builder.name)),
            _ => None,
        };
        let (warnings, steps) = report.finish();
        display.finish();
        if cancel.is_cancelled() && result.is_err() {
            return Err(CommandError::interrupted());
        }
        if matches!(mode, Mode::Plain | Mode::Tty) {
            warned(&warnings);
        }
        if request.outputs.is_empty() && !self.quiet && !self.verify_reproducible {
            output::note(format!(
                "WARNING: No output specified with {LOCAL_DRIVER} driver. Build result will only remain in the build cache. \
                 To push result image into registry use --push or to load image into the local store use --load"
            ));
        }
        let outcome = match result.map_err(explain)? {
            Ok(outcome) => outcome,
            Err(verification) => {
                return verify::tell(&verification, request.build_args.contains_key("SOURCE_DATE_EPOCH"));
            }
        };
        if matches!(mode, Mode::Plain | Mode::Tty) {
            summarize(&steps, &outcome);
        }
        missing(&outcome);
        if let Some(hint) = engine_hint::hint(&request, &outcome).filter(|_| !self.quiet) {
            output::note(format!("hint: {hint}"));
        }
        // a builder that was removed meanwhile has no record to keep
        let _ = builders.touch(&builder.name, jiff::Timestamp::now().to_string());
        self.finish(&outcome, metadata)?;
        self.write_record(&request, &outcome)
    }

    fn finish(&self, outcome: &BuildOutcome, metadata: Option<serde_json::Value>) -> CommandResult {
        let id = outcome.config_digest.as_ref().or(outcome.descriptor.as_ref().map(|descriptor| &descriptor.digest));
        if let (Some(path), Some(id)) = (&self.iidfile, id) {
            write(path, id.as_str().as_bytes())?;
        }
        if let (Some(path), Some(metadata)) = (&self.metadata_file, metadata) {
            write(path, &onetag_oci::go_json_indent(&metadata, "  "))?;
        }
        if let (true, Some(id)) = (self.quiet, id) {
            output::line(id.as_str())?;
        }
        Ok(())
    }
}

/// Says what each of several platforms came to.
fn summarize(steps: &summary::Steps, outcome: &BuildOutcome) {
    if let Some(table) = steps.table(outcome) {
        output::note(format!("\n{}", table.trim_end()));
    }
    for advice in steps.advice(outcome) {
        output::note(advice);
    }
}

/// Says which platforms are missing of what was built, and why.
fn missing(outcome: &BuildOutcome) {
    for failed in &outcome.failed {
        if let Some(excerpt) = failed.error.excerpt() {
            output::note(excerpt.trim_end());
        }
        output::note(format!("WARNING: {} is missing: {}", failed.platform, failed.cause()));
    }
}

/// Says how many warnings there were, in short.
fn warned(warnings: &[String]) {
    let count = match warnings.len() {
        0 => return,
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    };
    output::note(format!("\n {count} found:"));
    for warning in warnings {
        output::note(format!(" - {warning}"));
    }
}

fn write(path: &std::path::Path, content: &[u8]) -> CommandResult {
    std::fs::write(path, content).map_err(|error| cannot("write", path, error))
}

fn cannot(what: &str, path: &std::path::Path, error: std::io::Error) -> CommandError {
    CommandError::from(error).context(format!("cannot {what} {}", path.display()))
}

/// With the lines of the Dockerfile that it is about, and the way out.
fn explain(error: BuildError) -> CommandError {
    let excerpt = error
        .excerpt()
        .map(|excerpt| if excerpt.ends_with('\n') { excerpt.to_owned() } else { format!("{excerpt}\n") });
    let hints = error.hints();
    let mut error = super::registry_error(error).context("failed to build");
    error.excerpt = excerpt;
    hints.into_iter().fold(error, CommandError::with_hint)
}
