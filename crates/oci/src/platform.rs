//! Platforms by the rules of `github.com/containerd/platforms`: specifiers, normal forms, and which image suits which
//! platform.

mod matching;
mod specifier;
mod windows;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::json::{non_empty, null_default};

pub use matching::{Exact, Only, PlatformMatcher, exact, only, only_strict, order, ordered, select};
pub use specifier::PlatformError;

/// An operating system and an architecture, in Go's terms (OCI image specification, "Image Index", `platform`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture: `amd64`, `arm64`, …
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// Operating system: `linux`, …
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// Version of the operating system; Windows only.
    #[serde(rename = "os.version", default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features required of the operating system.
    #[serde(rename = "os.features", default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture: `v7` of `arm`, …
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// A platform as given, not normalized.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Platform {
        Platform { os: os.into(), architecture: architecture.into(), ..Platform::default() }
    }

    /// Linux on an architecture.
    pub fn linux(architecture: impl Into<String>) -> Platform {
        Platform::new("linux", architecture)
    }

    /// The same with a variant.
    #[must_use]
    pub fn with_variant(mut self, variant: impl Into<String>) -> Platform {
        self.variant = Some(variant.into()).filter(|variant| !variant.is_empty());
        self
    }

    /// The platform that this program was compiled for. The CPU's variant is not probed; 32-bit ARM counts as v7.
    pub fn host() -> Platform {
        let (architecture, variant) = host_architecture();
        Platform { variant: variant.map(str::to_owned), ..Platform::linux(architecture) }
    }

    /// Parses a specifier, taking what it leaves out from `host` (`linux` has the host's architecture, `arm64` the
    /// host's operating system). [`FromStr`] takes it from [`Platform::host`].
    ///
    /// # Errors
    /// Not a specifier.
    pub fn parse_on(specifier: &str, host: &Platform) -> Result<Platform, PlatformError> {
        specifier::parse(specifier, host)
    }

    /// The canonical form: `aarch64/v8` is `arm64`, `armhf` is `arm/v7`, `x86_64` is `amd64`.
    #[must_use]
    pub fn normalize(&self) -> Platform {
        specifier::normalize(self)
    }

    /// `os(version+feature)/architecture/variant`; [`fmt::Display`] leaves version and features out.
    pub fn format_all(&self) -> String {
        specifier::format_all(self)
    }

    /// Whether operating system and architecture are words that Go, and so every client, has for one.
    pub fn is_known(&self) -> bool {
        specifier::is_known(self)
    }

    /// Whether this is the platform `unknown/unknown` of attestation manifests.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(specifier: &str) -> Result<Platform, PlatformError> {
        Platform::parse_on(specifier, &Platform::host())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&specifier::format(self))
    }
}

/// Go's name for the architecture of this program, and its variant.
fn host_architecture() -> (&'static str, Option<&'static str>) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "x86" => ("386", None),
        "aarch64" => ("arm64", None),
        "arm" => ("arm", Some("v7")),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
        "powerpc64" => ("ppc64", None),
        "loongarch64" => ("loong64", None),
        "mips64" if cfg!(target_endian = "little") => ("mips64le", None),
        other => (other, None),
    }
}
