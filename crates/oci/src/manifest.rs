//! Image manifests (OCI image specification, "OCI Image Manifest").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::{non_empty, null_default};
use crate::{Descriptor, Extra, media_type};

/// An OCI or Docker (schema 2) image manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u8,
    /// Media type of the document itself.
    #[serde(rename = "mediaType", default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact that the manifest is.
    #[serde(rename = "artifactType", default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations of the manifest.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Members unknown to this model.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Manifest {
    /// An OCI manifest of this config and these layers.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            extra: Extra::new(),
        }
    }
}
