//! What `--attest` and `--provenance` ask for.

use onetag_dockerfile::values::parse_bool;

use crate::flags::Attestation;

/// How much provenance tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProvenanceMode {
    /// Neither arguments and labels nor steps.
    Min,
    /// Everything.
    #[default]
    Max,
}

/// The version of SLSA's provenance format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProvenanceVersion {
    /// Version 0.2.
    V02,
    /// Version 1.
    #[default]
    V1,
}

impl ProvenanceVersion {
    /// The type of the predicate.
    pub fn predicate_type(self) -> &'static str {
        match self {
            Self::V02 => "https://slsa.dev/provenance/v0.2",
            Self::V1 => "https://slsa.dev/provenance/v1",
        }
    }
}

/// Where attestations go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttestationPlace {
    /// Into the image's index, as BuildKit writes them.
    #[default]
    Index,
    /// Beside the image, as artifacts that refer to it.
    Referrers,
}

/// Provenance that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvenanceOptions {
    /// How much it tells.
    pub mode: ProvenanceMode,
    /// In which format.
    pub version: ProvenanceVersion,
    /// The identity of the builder: a URL, or nothing.
    pub builder_id: String,
    /// Whether the user says that the build is reproducible.
    pub reproducible: bool,
    /// Whether it is only for the metadata file.
    pub inline_only: bool,
    /// Whether a build with sources that cannot be named is an error.
    pub complete_materials: bool,
}

/// Why attestations cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    /// Software bills of materials.
    #[error("SBOM attestations are not supported")]
    Sbom,
    /// A kind that does not exist.
    #[error("unknown attestation type {0:?}")]
    Kind(String),
    /// A parameter's value that means nothing.
    #[error("invalid value {value:?} of the provenance parameter {name}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Docker's media types have no attestations.
    #[error("cannot export attestations with \"oci-mediatypes=false\"")]
    DockerTypes,
    /// Sources that cannot be named, where all were asked for.
    #[error("provenance materials are incomplete: {0} is a local folder")]
    Incomplete(String),
}

impl ProvenanceOptions {
    /// Reads all `--attest`; of several of one type the first counts.
    ///
    /// # Errors
    /// SBOMs, kinds that do not exist, values that mean nothing.
    pub fn parse(attestations: &[Attestation]) -> Result<Option<Self>, ProvenanceError> {
        for attestation in attestations.iter().filter(|attestation| !attestation.disabled) {
            match attestation.kind.as_str() {
                "provenance" => {}
                "sbom" => return Err(ProvenanceError::Sbom),
                kind => return Err(ProvenanceError::Kind(kind.to_owned())),
            }
        }
        match attestations.iter().find(|attestation| attestation.kind == "provenance") {
            Some(first) if !first.disabled => Self::parse_one(first).map(Some),
            _ => Ok(None),
        }
    }

    fn parse_one(attestation: &Attestation) -> Result<Self, ProvenanceError> {
        let text = |name: &str| attestation.attributes.get(name).map(String::as_str);
        let boolean = |name: &'static str| match text(name) {
            None => Ok(false),
            Some(value) => parse_bool(value).ok_or(ProvenanceError::Value { name, value: value.to_owned() }),
        };
        let mode = match text("mode") {
            None | Some("max" | "full") => ProvenanceMode::Max,
            Some("min") => ProvenanceMode::Min,
            Some(value) => return Err(ProvenanceError::Value { name: "mode", value: value.to_owned() }),
        };
        let version = match text("version") {
            None | Some("v1") => ProvenanceVersion::V1,
            Some("v0.2") => ProvenanceVersion::V02,
            Some(value) => return Err(ProvenanceError::Value { name: "version", value: value.to_owned() }),
        };
        Ok(Self {
            mode,
            version,
            builder_id: text("builder-id").unwrap_or_default().to_owned(),
            reproducible: boolean("reproducible")?,
            inline_only: boolean("inline-only")?,
            complete_materials: boolean("complete-materials")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{canonical_attestation, parse_attestations};

    fn parse(values: &[&str]) -> Result<Option<ProvenanceOptions>, ProvenanceError> {
        ProvenanceOptions::parse(&parse_attestations(values).unwrap())
    }

    #[test]
    fn what_is_asked_for() {
        assert_eq!(parse(&[]).unwrap(), None);
        assert_eq!(parse(&["type=provenance"]).unwrap(), Some(ProvenanceOptions::default()));
        assert_eq!(parse(&["type=provenance,disabled=true", "type=provenance"]).unwrap(), None);
        let all = parse(&["type=provenance,mode=min,version=v0.2,builder-id=https://b,reproducible=true"]).unwrap();
        let all = all.unwrap();
        assert_eq!((all.mode, all.version), (ProvenanceMode::Min, ProvenanceVersion::V02));
        assert_eq!((all.builder_id.as_str(), all.reproducible), ("https://b", true));
        let short = |value: &str| parse(&[&canonical_attestation("provenance", value)]).unwrap();
        assert_eq!(short("false"), None);
        assert_eq!(short("mode=min").unwrap().mode, ProvenanceMode::Min);
        assert_eq!(short("true").unwrap().mode, ProvenanceMode::Max);
    }

    #[test]
    fn what_is_refused() {
        assert!(matches!(parse(&["type=sbom"]), Err(ProvenanceError::Sbom)));
        assert_eq!(parse(&["type=sbom,disabled=true"]).unwrap(), None);
        assert!(matches!(parse(&["type=what"]), Err(ProvenanceError::Kind(_))));
        assert!(matches!(parse(&["type=provenance,mode=mid"]), Err(ProvenanceError::Value { name: "mode", .. })));
        assert!(matches!(parse(&["type=provenance,version=2"]), Err(ProvenanceError::Value { name: "version", .. })));
    }
}
