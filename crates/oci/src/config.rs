//! Image configs (OCI image specification, "OCI Image Configuration", with Docker's additions).
//!
//! The fields stand in the order in which BuildKit's Dockerfile frontend writes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::{is_false, non_empty, null_default};
use crate::{DiffId, Extra, Platform};

/// An image config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339; kept as written.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// CPU architecture, in Go's terms.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// Operating system, in Go's terms.
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features required of the operating system.
    #[serde(rename = "os.features", default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The layers, by diff ID.
    #[serde(default)]
    pub rootfs: RootFs,
    /// How each layer, and each change without a layer, came about; oldest first.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// What a container of the image runs with.
    #[serde(default, deserialize_with = "null_default")]
    pub config: ContainerConfig,
    /// Members unknown to this model.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ImageConfig {
    /// An empty config for a platform.
    pub fn new(platform: &Platform) -> ImageConfig {
        let mut config = ImageConfig::default();
        config.set_platform(platform);
        config
    }

    /// The platform that the image says it is for.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    /// Replaces the platform.
    pub fn set_platform(&mut self, platform: &Platform) {
        let Platform { os, architecture, variant, os_version, os_features } = platform.clone();
        self.os = os;
        self.architecture = architecture;
        self.variant = variant;
        self.os_version = os_version;
        self.os_features = os_features;
    }
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// Diff IDs, lowest layer first.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<DiffId>,
    /// Members unknown to this model.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Default for RootFs {
    fn default() -> RootFs {
        RootFs { kind: "layers".to_owned(), diff_ids: Vec::new(), extra: Extra::new() }
    }
}

/// The empty JSON object, the value of exposed ports and volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// What a container of the image runs with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `user[:group]`, names or numbers.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port/protocol` keys.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value` entries.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(default, skip_serializing_if = "is_absent_or_empty")]
    pub entrypoint: Option<Vec<String>>,
    /// The default command, or the default arguments of the entrypoint.
    #[serde(default, skip_serializing_if = "is_absent_or_empty")]
    pub cmd: Option<Vec<String>>,
    /// Paths of volumes.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// The working directory.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops a container.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Whether `cmd` is already escaped; meaningful on Windows, and written by BuildKit for shell-less commands.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// The health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Triggers for builds upon this image.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of the shell forms of `RUN`, `CMD` and `ENTRYPOINT`.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Members unknown to this model; Docker writes about a dozen that mean nothing in an image.
    #[serde(flatten)]
    pub extra: Extra,
}

fn is_absent_or_empty(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

/// A health check; durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", …]`; empty inherits.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between checks.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time after which a check counts as failed.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time to start in which failures do not count.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between checks while starting.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Consecutive failures that make the container unhealthy.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// One entry of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339; kept as written.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether no layer belongs to this entry.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
    /// Members unknown to this model.
    #[serde(flatten)]
    pub extra: Extra,
}
