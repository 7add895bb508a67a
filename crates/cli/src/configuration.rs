//! The configuration file: what is to be known of registries, in the shape of BuildKit's `[registry."host"]` table.
//!
//! ```toml
//! [registry."docker.io"]
//! mirrors = ["mirror.example", "cache.example/proxy"]   # asked first when pulling
//!
//! [registry."registry.example:5000"]
//! http = false                                          # true speaks plain HTTP
//! insecure = false                                      # true accepts any certificate
//! ca = ["company.pem"]                                  # trusted besides the machine's own
//! [[registry."registry.example:5000".keypair]]          # shown to a registry that asks for it
//! key = "client.key"
//! cert = "client.pem"
//!
//! [transfer]
//! attempts = 6                                          # that may fail in a row with nothing transferred
//! stall = 60                                            # seconds without a byte after which a connection counts as broken
//!
//! [layers]                                              # what one layer may demand when it is unpacked; any of them
//! bytes = 1099511627776                                 # of file content
//! entries = 50000000
//! ratio = 5000                                          # times its compressed size
//! path-length = 4095                                    # bytes of a path
//! depth = 1024                                          # components of a path
//! ```
//!
//! Other tables are left alone, so that a `buildkitd.toml` can be used as it is. Paths are relative to the file's folder.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onetag_registry::client::{HostOptions, Hosts, KeyPair};
use onetag_store::layer::Limits;
use serde::Deserialize;

use crate::error::{CommandError, CommandResult};

/// What the file says.
#[derive(Debug, Default)]
pub struct Configuration {
    /// What is configured for registries by host.
    pub hosts: Hosts,
    /// Attempts at a request that may fail in a row.
    pub attempts: Option<u32>,
    /// How long nothing may happen in a transfer.
    pub stall: Option<Duration>,
    /// What a layer may demand when it is unpacked.
    pub limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    registry: BTreeMap<String, Registry>,
    #[serde(default)]
    transfer: Transfer,
    #[serde(default)]
    layers: Layers,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    http: Option<bool>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    mirrors: Vec<String>,
    #[serde(default)]
    ca: Vec<PathBuf>,
    #[serde(default)]
    keypair: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    key: PathBuf,
    cert: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    attempts: Option<std::num::NonZeroU32>,
    stall: Option<std::num::NonZeroU32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Layers {
    bytes: Option<u64>,
    entries: Option<u64>,
    ratio: Option<u64>,
    path_length: Option<usize>,
    depth: Option<usize>,
}

impl Layers {
    fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            bytes: self.bytes.unwrap_or(usual.bytes),
            entries: self.entries.unwrap_or(usual.entries),
            ratio: self.ratio.unwrap_or(usual.ratio),
            path_length: self.path_length.unwrap_or(usual.path_length),
            depth: self.depth.unwrap_or(usual.depth),
            ..usual
        }
    }
}

impl Configuration {
    /// Reads the file that `named` names, which then must exist, else the first of `usual` that exists.
    ///
    /// # Errors
    /// A file that cannot be read or says something that is not understood.
    pub fn read(named: Option<PathBuf>, usual: &[PathBuf]) -> CommandResult<Self> {
        if let Some(path) = named {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| CommandError::from(error).context(format!("cannot read {}", path.display())))?;
            return Self::parse(&text, &path);
        }
        for path in usual {
            match std::fs::read_to_string(path) {
                Ok(text) => return Self::parse(&text, path),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return Err(CommandError::from(error).context(format!("cannot read {}", path.display()))),
            }
        }
        Ok(Self::default())
    }

    fn parse(text: &str, path: &Path) -> CommandResult<Self> {
        let file: File = toml::from_str(text).map_err(|error| {
            let message = format!("{} is not understood", path.display());
            CommandError::new(error.to_string().trim_end().to_owned()).context(message)
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let hosts = file.registry.into_iter().map(|(host, registry)| (host, registry.options(folder))).collect();
        let stall = file.transfer.stall.map(|seconds| Duration::from_secs(seconds.get().into()));
        let (attempts, limits) = (file.transfer.attempts.map(Into::into), file.layers.limits());
        Ok(Self { hosts, attempts, stall, limits })
    }
}

impl Registry {
    fn options(self, folder: &Path) -> HostOptions {
        let pair = |pair: Pair| KeyPair { key: folder.join(pair.key), certificate: folder.join(pair.cert) };
        HostOptions {
            mirrors: self.mirrors,
            plain_http: self.http,
            insecure: self.insecure,
            certificate_authorities: self.ca.into_iter().map(|path| folder.join(path)).collect(),
            key_pairs: self.keypair.into_iter().map(pair).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> CommandResult<Configuration> {
        Configuration::parse(text, Path::new("/etc/onetag/config.toml"))
    }

    #[test]
    fn the_table_of_buildkit_is_read() {
        let read = parse(
            r#"
            debug = true
            [worker.oci]
              enabled = true
            [registry."docker.io"]
              mirrors = ["mirror.example:5000", "cache.example/proxy.docker.io"]
            [registry."mirror.example:5000"]
              http = true
              insecure = true
              ca = ["/etc/ca.pem", "own.pem"]
              [[registry."mirror.example:5000".keypair]]
                key = "key.pem"
                cert = "/etc/cert.pem"
            [transfer]
              attempts = 3
              stall = 20
            [layers]
              entries = 7
              path-length = 100
            "#,
        )
        .expect("read");
        assert_eq!(read.hosts["docker.io"].mirrors, ["mirror.example:5000", "cache.example/proxy.docker.io"]);
        assert_eq!(read.hosts["docker.io"].plain_http, None);
        let mirror = &read.hosts["mirror.example:5000"];
        assert_eq!((mirror.plain_http, mirror.insecure), (Some(true), true));
        assert_eq!(mirror.certificate_authorities, [Path::new("/etc/ca.pem"), Path::new("/etc/onetag/own.pem")]);
        let pair = KeyPair { key: "/etc/onetag/key.pem".into(), certificate: "/etc/cert.pem".into() };
        assert_eq!(mirror.key_pairs, [pair]);
        assert_eq!((read.attempts, read.stall), (Some(3), Some(Duration::from_secs(20))));
        assert_eq!(read.limits, Limits { entries: 7, path_length: 100, ..Limits::default() });
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, named) in [
            ("[registry.\"a\"]\ninsecrue = true", "insecrue"),
            ("[registry.\"a\"]\nhttp = \"yes\"", "http"),
            ("[transfer]\nstall = 0", "stall"),
            ("[layers]\nfiles = 3", "files"),
            ("[registry", "registry"),
        ] {
            let error = parse(text).expect_err(text).render(crate::error::Voice::Own);
            assert!(error.contains(named) && error.contains("/etc/onetag/config.toml"), "{error}");
        }
    }
}
