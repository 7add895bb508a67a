//! What a check gives.

use onetag_oci::Digest;

use super::problem::{Finding, Severity};

/// What is known of an index after it was checked.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// The name.
    pub reference: String,
    /// The media type of the document that it means.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// The entries in order.
    pub entries: Vec<EntryReport>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// Layers that were read.
    pub layers_read: usize,
    /// Bytes of those layers, as they are stored.
    pub bytes_read: u64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An image.
    Image,
    /// An attestation about another entry.
    Attestation,
    /// Something else with a manifest.
    Artifact,
    /// Nobody knows: its manifest could not be had.
    Unknown,
}

impl EntryKind {
    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Attestation => "attestation",
            Self::Artifact => "artifact",
            Self::Unknown => "unknown",
        }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub struct EntryReport {
    /// The platform that the index claims; without an index the config's.
    pub platform: String,
    /// What it is.
    pub kind: EntryKind,
    /// Its manifest.
    pub digest: Digest,
    /// The platform that its config claims.
    pub config: Option<String>,
    /// The program that a container executes first.
    pub entry_point: Option<String>,
    /// The machine that it is for.
    pub machine: Option<String>,
    /// ELF files looked at.
    pub programs: usize,
    /// Blobs: config and layers.
    pub blobs: usize,
    /// The worst that was found about it.
    pub verdict: Option<Severity>,
}

impl CheckReport {
    /// How many findings there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.problem.severity() == severity).count()
    }

    /// Whether the index says something that is not so.
    pub fn lies(&self) -> bool {
        self.count(Severity::Error) > 0
    }
}
