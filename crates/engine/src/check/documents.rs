//! The documents below a name: read, held to what names them, and judged as clients will judge them.

use std::collections::HashMap;
use std::sync::Arc;

use onetag_oci::{Descriptor, Digest, Document, Index, Manifest, ManifestDocument, Platform, media_type};

use super::CheckError;
use super::problem::{Finding, Problem, label};
use crate::content::{ArchiveError, ContentError, Contents, Found, LayoutError, Location};
use crate::parallel;

/// Indexes in indexes are followed this deep.
const DEPTH_MAX: usize = 8;
/// Entries looked at in all; an index of 4 MiB has some twenty thousand.
const ENTRIES_MAX: usize = 50_000;
/// Documents asked for at a time.
const PARALLEL: usize = 8;
/// Annotations that tell which image an attestation is about.
const SUBJECTS: [&str; 2] = ["vnd.docker.reference.digest", "com.docker.reference.digest"];

/// An entry of the index, or of one within it.
pub(super) struct Entry {
    pub(super) descriptor: Descriptor,
    /// Its manifest; none where it could not be had.
    pub(super) manifest: Option<Document<Manifest>>,
}

impl Entry {
    /// As findings and tables name it.
    pub(super) fn label(&self) -> String {
        self.descriptor.platform.as_ref().map_or_else(|| "-".to_owned(), label)
    }
}

/// Reads everything below a document.
pub(super) struct Walk<'a> {
    contents: Contents<'a>,
    location: &'a Location,
    pub(super) entries: Vec<Entry>,
    pub(super) findings: Vec<Finding>,
    known: HashMap<Digest, Result<Arc<ManifestDocument>, Problem>>,
    /// The indexes above the current one.
    above: Vec<Digest>,
    /// Indexes that were walked already: one that is named twice is not walked twice.
    walked: Vec<Digest>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(contents: Contents<'a>, location: &'a Location) -> Self {
        Self {
            contents,
            location,
            entries: Vec::new(),
            findings: Vec::new(),
            known: HashMap::new(),
            above: Vec::new(),
            walked: Vec::new(),
        }
    }

    /// Walks from the document that the name means.
    pub(super) fn run(&mut self, found: &Found) -> Result<(), CheckError> {
        match &found.document {
            ManifestDocument::Index(index) => self.index(index)?,
            ManifestDocument::Manifest(manifest) => {
                self.media_types(&found.document);
                self.entries.push(Entry { descriptor: found.descriptor.clone(), manifest: Some(manifest.clone()) });
            }
        }
        self.attestations();
        self.duplicates();
        Ok(())
    }

    fn index(&mut self, index: &Document<Index>) -> Result<(), CheckError> {
        let document = ManifestDocument::Index(index.clone());
        self.media_types(&document);
        self.read(&index.manifests)?;
        self.above.push(index.digest().clone());
        for child in &index.manifests {
            if self.entries.len() >= ENTRIES_MAX {
                break;
            }
            self.entry(child)?;
        }
        self.above.pop();
        self.walked.push(index.digest().clone());
        Ok(())
    }

    /// Reads the children that were not read before, several at a time.
    fn read(&mut self, children: &[Descriptor]) -> Result<(), CheckError> {
        let mut wanted: Vec<&Descriptor> = Vec::new();
        for child in children {
            let is_new = !self.known.contains_key(&child.digest) && !self.above.contains(&child.digest);
            if is_new && !wanted.iter().any(|known| known.digest == child.digest) {
                wanted.push(child);
            }
        }
        let (contents, location) = (self.contents, self.location);
        let answers = parallel::map(&wanted, PARALLEL, |child| contents.document(location, child));
        for (child, answer) in wanted.into_iter().zip(answers) {
            let answer = match answer {
                Ok(found) => Ok(Arc::new(found.document)),
                Err(error) => Err(explain(error, "manifest or index", child, location)?),
            };
            self.known.insert(child.digest.clone(), answer);
        }
        Ok(())
    }

    fn entry(&mut self, child: &Descriptor) -> Result<(), CheckError> {
        let name = child.platform.as_ref().map_or_else(|| child.digest.to_string(), label);
        if self.above.contains(&child.digest) {
            self.findings.push(Finding::new(Problem::Circle { digest: child.digest.clone() }));
            return Ok(());
        }
        let document = match self.known.get(&child.digest) {
            Some(Ok(document)) => Arc::clone(document),
            Some(Err(problem)) => {
                self.findings.push(Finding::of(&name, problem.clone()));
                self.platform(child);
                self.entries.push(Entry { descriptor: child.clone(), manifest: None });
                return Ok(());
            }
            None => return Ok(()),
        };
        match &*document {
            ManifestDocument::Index(index) => {
                if self.walked.contains(&child.digest) {
                    return Ok(());
                }
                self.findings.push(Finding::new(Problem::Nested { digest: child.digest.clone() }));
                if self.above.len() >= DEPTH_MAX {
                    let problem = Problem::TooDeep { digest: child.digest.clone(), limit: DEPTH_MAX };
                    self.findings.push(Finding::new(problem));
                    return Ok(());
                }
                self.index(index)
            }
            ManifestDocument::Manifest(manifest) => {
                if !child.media_type.is_empty() && child.media_type != document.media_type() {
                    let (said, actual) = (child.media_type.clone(), document.media_type().to_owned());
                    let problem = Problem::MediaType { digest: child.digest.clone(), said, actual };
                    self.findings.push(Finding::of(&name, problem));
                }
                self.media_types(&document);
                self.platform(child);
                self.entries.push(Entry { descriptor: child.clone(), manifest: Some(manifest.clone()) });
                Ok(())
            }
        }
    }

    /// Docker's and OCI's types do not belong into one document.
    fn media_types(&mut self, document: &ManifestDocument) {
        let own = document.media_type();
        let is_foreign = |other: &&str| {
            let is_oci = other.starts_with("application/vnd.oci.image.");
            if media_type::is_docker(own) { is_oci } else { media_type::is_docker(other) }
        };
        let other = match document {
            ManifestDocument::Index(index) => {
                index.manifests.iter().map(|child| child.media_type.as_str()).find(is_foreign)
            }
            ManifestDocument::Manifest(manifest) => {
                let named = manifest.layers.iter().chain([&manifest.config]);
                named.map(|blob| blob.media_type.as_str()).find(is_foreign)
            }
        };
        if let Some(other) = other {
            let (document, own, other) = (document.digest().clone(), own.to_owned(), other.to_owned());
            self.findings.push(Finding::new(Problem::Mixed { document, own, other }));
        }
    }

    /// The platform of an entry, as clients will read it.
    fn platform(&mut self, child: &Descriptor) {
        if child.is_attestation() {
            return;
        }
        let Some(platform) = &child.platform else {
            self.findings.push(Finding::new(Problem::NoPlatform { digest: child.digest.clone() }));
            return;
        };
        let (name, normalized) = (label(platform), platform.normalize());
        let plain = Platform { variant: None, ..platform.clone() };
        let plain_normalized = Platform { variant: None, ..normalized.clone() };
        let problem = if !normalized.is_known() {
            Problem::UnknownPlatform { platform: name.clone() }
        } else if plain.os != plain_normalized.os || plain.architecture != plain_normalized.architecture {
            Problem::Spelling { platform: name.clone(), canonical: normalized.format_all() }
        } else if normalized.architecture == "arm" && platform.variant.is_none() {
            Problem::NoVariant { platform: name.clone() }
        } else {
            return;
        };
        self.findings.push(Finding::of(&name, problem));
    }

    fn attestations(&mut self) {
        let mut marked = 0;
        let mut findings = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.descriptor.is_attestation()) {
            let digest = entry.descriptor.digest.clone();
            match &entry.descriptor.platform {
                Some(platform) if platform.is_unknown() => marked += 1,
                _ => findings.push(Finding::new(Problem::UnmarkedAttestation { digest: digest.clone() })),
            }
            let annotations = &entry.descriptor.annotations;
            let subject = SUBJECTS.iter().find_map(|key| annotations.get(*key)).cloned().unwrap_or_default();
            if !self.entries.iter().any(|other| other.descriptor.digest.as_str() == subject) {
                findings.push(Finding::new(Problem::LooseAttestation { digest, subject }));
            }
        }
        if marked > 0 {
            findings.push(Finding::new(Problem::Attestations { count: marked }));
        }
        self.findings.extend(findings);
    }

    fn duplicates(&mut self) {
        let mut first: HashMap<String, &Digest> = HashMap::new();
        let mut findings = Vec::new();
        for entry in self.entries.iter().filter(|entry| !entry.descriptor.is_attestation()) {
            let Some(platform) = &entry.descriptor.platform else { continue };
            let platform = platform.normalize().format_all();
            let digest = &entry.descriptor.digest;
            match first.get(&platform) {
                None => drop(first.insert(platform, digest)),
                Some(known) if *known == digest => {
                    let problem = Problem::Repeated { platform: platform.clone(), digest: digest.clone() };
                    findings.push(Finding::of(&platform, problem));
                }
                Some(known) => {
                    let (first, second) = ((*known).clone(), digest.clone());
                    let problem = Problem::Duplicate { platform: platform.clone(), first, second };
                    findings.push(Finding::of(&platform, problem));
                }
            }
        }
        self.findings.extend(findings);
    }
}

/// What an error says about content; other errors end the check.
pub(super) fn explain(
    error: ContentError,
    what: &'static str,
    descriptor: &Descriptor,
    location: &Location,
) -> Result<Problem, CheckError> {
    use onetag_registry::Error as RegistryError;
    use onetag_store::Error as StoreError;
    let digest = descriptor.digest.clone();
    if error.is_not_found() || is_absent(&error) {
        return Ok(match location {
            Location::Store(_) => Problem::NotHere { digest },
            _ => Problem::Missing { what, digest },
        });
    }
    Ok(match error {
        ContentError::Document { source, .. } | ContentError::Registry(RegistryError::Document { source, .. }) => {
            match what {
                "config" => Problem::Config { digest, source: Arc::new(source) },
                _ => Problem::Document { digest, source: Arc::new(source) },
            }
        }
        ContentError::SizeMismatch { said, actual, .. }
        | ContentError::Registry(RegistryError::SizeMismatch { expected: said, actual, .. })
        | ContentError::Store(StoreError::SizeMismatch { expected: said, actual, .. }) => {
            Problem::Size { what, digest, said, actual }
        }
        ContentError::DigestMismatch { actual, .. }
        | ContentError::Registry(RegistryError::DigestMismatch { actual, .. })
        | ContentError::Store(StoreError::DigestMismatch { actual, .. })
        | ContentError::Archive(ArchiveError::Digest { actual, .. })
        | ContentError::Layout(LayoutError::Digest { actual, .. }) => Problem::Content { what, digest, actual },
        ContentError::MediaTypeMismatch { said, actual, .. } => Problem::MediaType { digest, said, actual },
        ContentError::TooLarge { limit, .. } | ContentError::Store(StoreError::TooLarge { limit, .. }) => {
            Problem::TooLarge { what, digest, limit }
        }
        ContentError::Registry(RegistryError::TooLarge { limit_bytes, .. }) => {
            Problem::TooLarge { what, digest, limit: limit_bytes as u64 }
        }
        error => return Err(CheckError::Content(error)),
    })
}

/// A layout's blob is absent when its file is.
fn is_absent(error: &ContentError) -> bool {
    matches!(error, ContentError::Layout(LayoutError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound)
}
