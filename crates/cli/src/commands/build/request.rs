//! From the flags of `build` to what the engine is asked to do.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use onetag_dockerfile::NoCache;
use onetag_dockerfile::values::parse_bool;
use onetag_engine::Entitlements;
use onetag_engine::build::{BuildContext, BuildRequest, DockerfileSource, LockChoice};
use onetag_engine::cache::{CacheExport, CacheImport};
use onetag_engine::export::{ExportOptions, SharedWriter, Target};
use onetag_engine::flags;
use onetag_engine::provenance::{AttestationPlace, ProvenanceError, ProvenanceMode, ProvenanceOptions};
use onetag_llb::{HostIp, NetworkMode, Ulimit};
use onetag_oci::{Platform, Reference};

use super::{BuildArguments, vcs};
use crate::arguments::{parse_host, parse_size};
use crate::context::{Context, variable};
use crate::error::{CommandError, CommandResult};
use crate::output;

impl BuildArguments {
    /// The request.
    pub(in crate::commands) fn request(&self, context: &Context) -> CommandResult<BuildRequest> {
        let sources = self.sources(context)?;
        let mut request = BuildRequest::new(PathBuf::from("."));
        request.context = sources.context;
        request.dockerfile = sources.dockerfile;
        request.scratch = sources.scratch;
        request.platforms = self.platforms(context)?;
        request.tags = self.tags()?;
        request.target = self.target.clone().filter(|target| !target.is_empty());
        request.build_args = self.build_args();
        request.labels = self.label.iter().map(|label| pair(label)).collect();
        if let BuildContext::Local(folder) = &request.context {
            let dockerfile = match &request.dockerfile {
                DockerfileSource::Path(path) => Some(path.as_path()),
                _ => None,
            };
            request.labels.extend(vcs::labels(folder, dockerfile));
        }
        request.no_cache = match (self.no_cache, self.no_cache_filter.is_empty()) {
            (true, _) => NoCache::Always,
            (false, true) => NoCache::Never,
            (false, false) => NoCache::Stages(self.no_cache_filter.clone()),
        };
        request.pull = self.pull;
        request.network = network(&self.network)?;
        for host in &self.add_host {
            let (host, address) = parse_host(host)?;
            request.extra_hosts.push(HostIp { host, ip: address.to_string() });
        }
        request.shm_size_bytes = match &self.shm_size {
            Some(text) => i64::try_from(parse_size(text)?)?,
            None => 0,
        };
        for text in &self.ulimit {
            let limit = flags::parse_ulimit(text)?;
            request.ulimits.push(Ulimit { name: limit.name, soft: limit.soft, hard: limit.hard });
        }
        request.cgroup_parent.clone_from(&self.cgroup_parent);
        request.build_contexts = flags::parse_contexts(&self.build_context)?;
        request.secrets = self.secrets()?;
        request.ssh = self.ssh()?;
        let allowed = flags::parse_allow(&self.allow)?.entitlements;
        request.entitlements = Entitlements {
            insecure: allowed.iter().any(|name| name == "security.insecure"),
            // Who types `--network host` has said so; buildx asks for no second word either.
            network_host: request.network == NetworkMode::Host || allowed.iter().any(|name| name == "network.host"),
        };
        request.outputs = self.outputs()?;
        request.annotations.clone_from(&self.annotation);
        request.lock = match (&self.lock, self.no_lock) {
            (Some(path), _) => LockChoice::File(path.clone()),
            (None, true) => LockChoice::Ignored,
            (None, false) => LockChoice::Beside,
        };
        self.caches(&mut request)?;
        self.attestations(&mut request)?;
        request.allow_platform_mismatch = self.allow_platform_mismatch;
        request.keep_going = self.keep_going || self.allow_partial;
        request.allow_partial = self.allow_partial;
        Ok(request)
    }

    /// Provenance for the image and for the metadata file.
    fn attestations(&self, request: &mut BuildRequest) -> CommandResult {
        let mut wanted = self.attest.clone();
        for (kind, value) in [("provenance", &self.provenance), ("sbom", &self.sbom)] {
            let value = value.as_deref().map(|value| flags::canonical_attestation(kind, value)).unwrap_or_default();
            wanted.extend(Some(value).filter(|value| !value.is_empty()));
        }
        let wanted = flags::parse_attestations(&wanted)?;
        request.provenance = ProvenanceOptions::parse(&wanted).map_err(|error| match error {
            ProvenanceError::Sbom => CommandError::from(error)
                .with_hint("scan the pushed image with a scanner of your own, such as syft, and attach what it finds"),
            error => error.into(),
        })?;
        if self.attest_as == "referrers" {
            request.attestation_place = AttestationPlace::Referrers;
            let is_pushed = request.outputs.iter().any(|output| matches!(output.target, Target::Push));
            if request.provenance.is_some() && !is_pushed {
                output::note("WARNING: --attest-as referrers: nothing is pushed, and only registries list referrers");
            }
        }
        // Nothing is attested unless asked for, so there is no default to switch off; a value that means nothing is
        // an error as it is there.
        if let Some(value) = variable("BUILDX_NO_DEFAULT_ATTESTATIONS")
            && parse_bool(&value).is_none()
        {
            return Err(CommandError::new(format!("invalid BUILDX_NO_DEFAULT_ATTESTATIONS: {value:?} is no boolean")));
        }
        if self.metadata_file.is_some() {
            request.recorded_provenance = match variable("BUILDX_METADATA_PROVENANCE").as_deref() {
                Some("max") => Some(ProvenanceMode::Max),
                Some("disabled") => None,
                Some(value) if parse_bool(value) == Some(false) => None,
                _ => Some(ProvenanceMode::Min),
            };
        }
        if (request.provenance.is_some() || request.recorded_provenance.is_some())
            && let BuildContext::Local(folder) = &request.context
        {
            request.vcs = vcs::describe(folder);
        }
        Ok(())
    }

    /// Caches to read and to write; what is accepted without effect is said.
    fn caches(&self, request: &mut BuildRequest) -> CommandResult {
        let mut notes = Vec::new();
        request.cache_from = CacheImport::parse(&flags::parse_cache(&self.cache_from)?, &mut notes)?;
        request.cache_to = CacheExport::parse(&flags::parse_cache(&self.cache_to)?, &mut notes)?;
        for note in notes {
            output::note(format!("WARNING: {note}"));
        }
        Ok(())
    }

    fn platforms(&self, context: &Context) -> CommandResult<Vec<Platform>> {
        if self.platform.is_empty() {
            return Ok(context.platform(None)?.into_iter().collect());
        }
        // A platform that is given twice is in the index twice, as with buildx.
        flags::parse_platforms(&self.platform, &Platform::host()).map_err(|error| {
            CommandError::from(error)
                .with_hint("platforms are written os/arch[/variant], such as linux/arm64 or linux/arm/v7")
        })
    }

    fn tags(&self) -> CommandResult<Vec<Reference>> {
        let parse = |tag: &String| {
            Reference::parse(tag)
                .map(Reference::with_default_tag)
                .map_err(|error| CommandError::from(error).context(format!("invalid tag {tag:?}")))
        };
        self.tag.iter().map(parse).collect()
    }

    fn build_args(&self) -> BTreeMap<String, String> {
        let mut arguments = BTreeMap::new();
        if let Some(epoch) = variable("SOURCE_DATE_EPOCH") {
            arguments.insert("SOURCE_DATE_EPOCH".to_owned(), epoch);
        }
        for argument in &self.build_arg {
            match argument.split_once('=') {
                Some((name, value)) => {
                    arguments.insert(name.to_owned(), value.to_owned());
                }
                None => {
                    if let Ok(value) = std::env::var(argument) {
                        arguments.insert(argument.clone(), value);
                    }
                }
            }
        }
        arguments
    }

    fn secrets(&self) -> CommandResult<BTreeMap<String, Vec<u8>>> {
        let mut secrets = BTreeMap::new();
        for secret in flags::parse_secrets(&self.secret)? {
            let names_variable = secret.path.is_empty() && std::env::var_os(&secret.id).is_some();
            let variable = match secret.variable.as_str() {
                "" if names_variable => secret.id.as_str(),
                variable => variable,
            };
            let content = if variable.is_empty() {
                let path = if secret.path.is_empty() { &secret.id } else { &secret.path };
                std::fs::read(path).map_err(|error| {
                    CommandError::from(error).context(format!("failed to read secret {:?} from {path}", secret.id))
                })?
            } else {
                std::env::var_os(variable).unwrap_or_default().into_encoded_bytes()
            };
            secrets.insert(secret.id, content);
        }
        Ok(secrets)
    }

    fn ssh(&self) -> CommandResult<BTreeMap<String, PathBuf>> {
        let mut sockets = BTreeMap::new();
        let mut asked = flags::parse_ssh(&self.ssh)?;
        if asked.is_empty() && self.is_context_over_ssh() {
            // As buildx does.
            asked.push(flags::Ssh { id: "default".to_owned(), paths: Vec::new() });
        }
        for ssh in asked {
            let socket = match ssh.paths.as_slice() {
                [] => variable("SSH_AUTH_SOCK").map(PathBuf::from).ok_or_else(|| {
                    CommandError::new(format!(
                        "invalid empty ssh agent socket for {:?}: SSH_AUTH_SOCK is not set",
                        ssh.id
                    ))
                    .with_hint("eval $(ssh-agent) && ssh-add")
                })?,
                [path] => PathBuf::from(path),
                _ => {
                    return Err(CommandError::new("several keys for one --ssh are not supported")
                        .with_hint("ssh-add KEY… and --ssh default"));
                }
            };
            if !is_socket(&socket) {
                return Err(CommandError::new(format!("--ssh {}: {} is no socket", ssh.id, socket.display()))
                    .with_hint("ssh-add KEY and --ssh default"));
            }
            // Whoever connects to it may be in another folder.
            sockets.insert(ssh.id, std::path::absolute(socket)?);
        }
        Ok(sockets)
    }

    fn outputs(&self) -> CommandResult<Vec<ExportOptions>> {
        let stdout: SharedWriter = Arc::new(Mutex::new(Box::new(std::io::stdout())));
        let mut outputs = Vec::new();
        for output in flags::parse_outputs(&self.output)? {
            let archive = matches!(output.kind.as_str(), "oci" | "docker" | "tar");
            if archive && output.destination == "-" && std::io::stdout().is_terminal() {
                return Err(CommandError::new("dest file is required when the output is a terminal")
                    .with_hint(format!("-o type={},dest=FILE", output.kind)));
            }
            outputs.extend(ExportOptions::parse(&output, Some(&stdout))?);
        }
        if self.push && !self.push_by_digest {
            outputs.push(ExportOptions::new(Target::Push));
        }
        if self.push_by_digest {
            outputs.push(ExportOptions { push_by_digest: true, ..ExportOptions::new(Target::Push) });
        }
        if self.load {
            outputs.push(ExportOptions::new(Target::Store));
        }
        Ok(outputs)
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

fn network(name: &str) -> CommandResult<NetworkMode> {
    match name {
        "" | "default" | "sandbox" => Ok(NetworkMode::Sandbox),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        other => Err(CommandError::new(format!("network mode {other:?} not supported by buildkit"))
            .with_hint("modes are default, host and none")),
    }
}
