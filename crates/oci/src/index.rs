//! Image indexes (OCI image specification, "OCI Image Index").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::{non_empty, null_default};
use crate::{Descriptor, Extra, media_type};

/// An image index, or a Docker manifest list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u8,
    /// Media type of the document itself.
    #[serde(rename = "mediaType", default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact that the index is.
    #[serde(rename = "artifactType", default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries, in order of preference where platforms are equal.
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations of the index.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Members unknown to this model.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Index {
    /// An OCI index of these entries.
    pub fn new(manifests: Vec<Descriptor>) -> Index {
        Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            extra: Extra::new(),
        }
    }
}
