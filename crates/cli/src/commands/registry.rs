//! `onetag registry`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use onetag_registry::server::storage::{FilesystemStorage, Storage};
use onetag_registry::server::{
    AccessRecord, CollectOptions, Collected, Collection, Options, Server, ServerError, TlsFiles, collect,
};

use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::{output, units};

/// Serve a registry
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Serve an OCI distribution registry until interrupted
    Serve(ServeArguments),
    /// Remove what no repository of a registry needs any more, while it goes on serving
    Gc(CollectArguments),
}

/// Serve an OCI distribution registry until interrupted
#[derive(Args, Debug)]
pub struct ServeArguments {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    addr: String,
    /// The folder of its content
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Speak TLS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Ask for the users and passwords of this file (`htpasswd -B` makes it)
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Take no pushes and no deletions
    #[arg(long)]
    read_only: bool,
    /// Take manifests and indexes whose content is not all there
    #[arg(long)]
    allow_sparse: bool,
    /// Listen where others can reach it, although TLS or passwords are missing
    #[arg(long)]
    allow_unprotected: bool,
    /// Largest blob taken, in bytes
    #[arg(long, value_name = "BYTES")]
    max_blob_size: Option<u64>,
    /// End a request when nothing arrives or can be sent for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    stall_timeout: u32,
    /// End a request whose body has not arrived after so many minutes, however steadily it trickles
    #[arg(long, value_name = "MINUTES", default_value_t = 1440, value_parser = clap::value_parser!(u32).range(1..))]
    upload_timeout: u32,
    /// Forget an upload that nobody has continued for so many minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 1440, value_parser = clap::value_parser!(u32).range(1..))]
    upload_expiry: u32,
    /// A text that clients show to their users with every answer
    #[arg(long, value_name = "TEXT")]
    warning: Option<String>,
    /// Write a line of JSON a request to standard error
    #[arg(long)]
    access_log: bool,
    /// Remove what is not needed any more every so many minutes
    #[arg(long, value_name = "MINUTES")]
    gc_every: Option<u32>,
}

/// Remove what no repository of a registry needs any more
#[derive(Args, Debug)]
pub struct CollectArguments {
    /// The folder of the registry's content
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Remove manifests too that no tag leads to
    #[arg(long)]
    untagged: bool,
    /// Keep what was pushed in so many minutes: a manifest that needs it may be on its way
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    grace: u32,
}

impl RegistryCommand {
    /// Runs the command.
    pub fn run(self, context: &Context) -> CommandResult {
        match self {
            Self::Serve(arguments) => arguments.run(context),
            Self::Gc(arguments) => arguments.run(context),
        }
    }
}

/// The registry's folder: the one given, else the one beside the store.
fn root(given: Option<&PathBuf>, context: &Context) -> CommandResult<PathBuf> {
    match given {
        Some(root) => Ok(root.clone()),
        None => Ok(context.engine()?.options().root.join("registry")),
    }
}

impl ServeArguments {
    fn run(&self, context: &Context) -> CommandResult {
        let mut options = Options::new(root(self.root.as_ref(), context)?);
        options.address = address(&self.addr)?;
        options.allow_unprotected = self.allow_unprotected;
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            options.tls = Some(TlsFiles { certificate: certificate.clone(), key: key.clone() });
        }
        options.htpasswd.clone_from(&self.htpasswd);
        options.policy.read_only = self.read_only;
        options.policy.sparse = self.allow_sparse;
        if let Some(bytes) = self.max_blob_size {
            options.limits.blob_bytes = bytes;
        }
        options.limits.stall = Duration::from_secs(self.stall_timeout.into());
        options.limits.body = Duration::from_secs(60 * u64::from(self.upload_timeout));
        options.limits.upload_age = minutes_long(self.upload_expiry);
        options.warning.clone_from(&self.warning);
        if self.access_log {
            options.access_log = Some(Arc::new(|record: &AccessRecord<'_>| output::note(record.to_json())));
        }
        options.collection = self
            .gc_every
            .map(|minutes| Collection { every: minutes_long(minutes.max(1)), options: CollectOptions::default() });
        let server = Server::bind(&options).map_err(not_started)?;
        output::line(format!("listening on {}", server.local_address()))?;
        Ok(server.run_until_signal()?)
    }
}

fn not_started(error: ServerError) -> CommandError {
    let unprotected = matches!(error, ServerError::Unprotected { .. });
    let error = CommandError::from(error);
    if unprotected {
        error
            .with_hint("--tls-cert FILE --tls-key FILE --htpasswd FILE protect it")
            .with_hint("--allow-unprotected serves it to everybody as it is")
    } else {
        error
    }
}

fn minutes_long(minutes: u32) -> Duration {
    Duration::from_secs(u64::from(minutes) * 60)
}

/// `:5000` and `5000` mean the loopback interface; names other than `localhost` are not looked up.
fn address(text: &str) -> CommandResult<SocketAddr> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = port.parse::<u16>().ok();
    let host = match host {
        "" | "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    };
    match (host, port) {
        (Some(host), Some(port)) => Ok(SocketAddr::new(host, port)),
        _ => Err(CommandError::new(format!("invalid address {text:?}: an IP address and a port are wanted"))),
    }
}

impl CollectArguments {
    fn run(&self, context: &Context) -> CommandResult {
        let root = root(self.root.as_ref(), context)?;
        if !root.join("registry.json").is_file() {
            return Err(CommandError::new(format!("{} is not the folder of a registry", root.display())));
        }
        let storage: Arc<dyn Storage> = Arc::new(FilesystemStorage::open(&root)?);
        let options =
            CollectOptions { dry_run: self.dry_run, untagged: self.untagged, grace: minutes_long(self.grace) };
        let collected = collect(&storage, options)?;
        for line in report(&collected, self.dry_run) {
            output::line(line)?;
        }
        Ok(())
    }
}

fn report(collected: &Collected, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(collected.manifests.iter().map(|(repository, digest)| format!("manifest {repository}@{digest}")));
    lines.extend(collected.blobs.iter().map(|(repository, digest)| format!("blob {repository}@{digest}")));
    lines.extend(
        collected.content.iter().map(|(digest, bytes)| format!("content {digest} {}", units::decimal_size(*bytes))),
    );
    let verb = if dry_run { "Would reclaim" } else { "Total reclaimed space:" };
    lines.push(format!("{verb} {}", units::decimal_size(collected.freed_bytes())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, wanted) in [
            ("127.0.0.1:5000", Some("127.0.0.1:5000")),
            (":5001", Some("127.0.0.1:5001")),
            ("5002", Some("127.0.0.1:5002")),
            ("localhost:0", Some("127.0.0.1:0")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("0.0.0.0:80", Some("0.0.0.0:80")),
            ("registry.example:80", None),
            ("127.0.0.1", None),
            ("127.0.0.1:99999", None),
        ] {
            let found = address(text).ok().map(|address| address.to_string());
            assert_eq!(found.as_deref(), wanted, "{text}");
        }
    }
}
