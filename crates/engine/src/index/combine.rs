//! Makes one index of several images. Pure: everything was read before.
//!
//! The result is byte for byte what buildx makes of the same sources: children are carried by digest, equal children
//! are merged, a single index stays exactly what it is.

use std::collections::{BTreeMap, HashMap};

use onetag_oci::{Descriptor, Digest, Document, Index, Platform, PlatformMatcher, exact, media_type};
use thiserror::Error;

use crate::content::{Found, Location};
use crate::flags::{Annotation, AnnotationTarget};

/// The annotation that marks attestations.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// The annotation that tells what an attestation is about.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// An image that goes into an index.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is.
    pub location: Location,
    /// The document, with the descriptor it is to have in the index: for a manifest the platform MUST be filled in.
    pub found: Found,
}

/// The result: a document, and where its children come from.
#[derive(Clone, Debug)]
pub struct Combined {
    /// The exact bytes to publish.
    pub bytes: Vec<u8>,
    /// What describes them.
    pub descriptor: Descriptor,
    /// Children in order, each with the number of its source.
    pub children: Vec<(Descriptor, usize)>,
}

/// Why sources make no index.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CombineError {
    /// An annotation of this type cannot be honoured without rewriting manifests.
    #[error("{scope:?} annotations are not supported yet")]
    AnnotationNotSupported {
        /// The type.
        scope: &'static str,
    },
    /// An annotation of this type has no place here.
    #[error("{scope:?} annotations are invalid while creating an image")]
    AnnotationInvalid {
        /// The type.
        scope: &'static str,
    },
    /// Platforms were asked for and the only source is a manifest of another.
    #[error("input platform {platform} does not match any of the provided platforms")]
    PlatformMismatch {
        /// The manifest's platform.
        platform: Platform,
    },
    /// Platforms were asked for and no child is of any of them.
    #[error("none of the manifests match the provided platforms")]
    NoPlatformMatches,
    /// The written index is none.
    #[error("{digest} cannot be read back as an image index")]
    NotAnIndex {
        /// The document.
        digest: Digest,
    },
}

/// Combines `sources`.
///
/// # Errors
/// For annotations that cannot be honoured, and when `platforms` leaves nothing.
pub fn combine(
    sources: &[Source],
    annotations: &[Annotation],
    prefer_index: bool,
    platforms: &[Platform],
) -> Result<Combined, CombineError> {
    let combined = merge(sources, annotations, prefer_index)?;
    filter(combined, platforms)
}

fn merge(sources: &[Source], annotations: &[Annotation], prefer_index: bool) -> Result<Combined, CombineError> {
    if let [only] = sources
        && annotations.is_empty()
        && (only.found.document.as_index().is_some() || !prefer_index)
    {
        let children = match only.found.document.as_index() {
            Some(index) => index.manifests.iter().map(|child| (child.clone(), 0)).collect(),
            None => Vec::new(),
        };
        let bytes = only.found.document.bytes().to_vec();
        return Ok(Combined { bytes, descriptor: only.found.descriptor.clone(), children });
    }
    let mut children = Children::default();
    for (number, source) in sources.iter().enumerate() {
        match source.found.document.as_index() {
            Some(index) => index.manifests.iter().for_each(|child| children.add(child.clone(), number)),
            None => children.add(source.found.descriptor.clone(), number),
        }
    }
    let mut children = children.list;
    let all_docker = children.iter().all(|(child, _)| media_type::is_docker(&child.media_type));
    let index_annotations = if all_docker { BTreeMap::new() } else { annotate(annotations, &mut children)? };
    let mut index = Index::new(children.iter().map(|(child, _)| child.clone()).collect());
    let kind = if all_docker { media_type::DOCKER_MANIFEST_LIST } else { media_type::OCI_INDEX };
    index.media_type = Some(kind.to_owned());
    index.annotations = index_annotations;
    let document = Document::from_value_indented(index);
    let descriptor = Descriptor::new(kind, document.digest().clone(), document.size());
    Ok(Combined { bytes: document.into_bytes(), descriptor, children })
}

/// Children by digest, in order of first appearance.
#[derive(Default)]
struct Children {
    list: Vec<(Descriptor, usize)>,
    positions: HashMap<Digest, usize>,
}

impl Children {
    fn add(&mut self, child: Descriptor, source: usize) {
        let Some(position) = self.positions.get(&child.digest) else {
            self.positions.insert(child.digest.clone(), self.list.len());
            self.list.push((child, source));
            return;
        };
        let (known, known_source) = &mut self.list[*position];
        if known.media_type.is_empty() {
            known.media_type = child.media_type;
        }
        if child.platform.is_some() {
            known.platform = child.platform;
        }
        known.annotations.extend(child.annotations);
        *known_source = source;
    }
}

/// Puts annotations on descriptors and gives those of the index.
fn annotate(
    annotations: &[Annotation],
    children: &mut [(Descriptor, usize)],
) -> Result<BTreeMap<String, String>, CombineError> {
    let mut of_index = BTreeMap::new();
    for Annotation { target, platform, key, value } in annotations {
        match target {
            Some(AnnotationTarget::Index) => {
                of_index.insert(key.clone(), value.clone());
            }
            Some(AnnotationTarget::ManifestDescriptor) => {
                let wanted = platform.as_ref().map(ToString::to_string);
                for (child, _) in children.iter_mut() {
                    let is_meant = match (&wanted, &child.platform) {
                        (None, _) => true,
                        (Some(wanted), Some(platform)) => *wanted == platform.to_string(),
                        (Some(_), None) => false,
                    };
                    if is_meant {
                        child.annotations.insert(key.clone(), value.clone());
                    }
                }
            }
            None | Some(AnnotationTarget::Manifest) => {
                return Err(CombineError::AnnotationNotSupported {
                    scope: target.map_or("", AnnotationTarget::as_str),
                });
            }
            Some(target @ AnnotationTarget::IndexDescriptor) => {
                return Err(CombineError::AnnotationInvalid { scope: target.as_str() });
            }
        }
    }
    Ok(of_index)
}

/// Leaves only the children of the wanted platforms, with their attestations.
fn filter(combined: Combined, platforms: &[Platform]) -> Result<Combined, CombineError> {
    if platforms.is_empty() {
        return Ok(combined);
    }
    let matchers: Vec<_> = platforms.iter().map(exact).collect();
    let is_wanted = |platform: Option<&Platform>| {
        platform.is_none_or(|platform| matchers.iter().any(|matcher| matcher.matches(platform)))
    };
    if !media_type::is_index(&combined.descriptor.media_type) {
        return match combined.descriptor.platform {
            Some(ref platform) if !is_wanted(Some(platform)) => {
                Err(CombineError::PlatformMismatch { platform: platform.clone() })
            }
            _ => Ok(combined),
        };
    }
    let subjects: HashMap<String, Option<Platform>> =
        combined.children.iter().map(|(child, _)| (child.digest.to_string(), child.platform.clone())).collect();
    let is_kept = |child: &Descriptor| {
        let subject = child
            .annotations
            .get(REFERENCE_TYPE)
            .filter(|kind| *kind == "attestation-manifest")
            .and_then(|_| subjects.get(child.annotations.get(REFERENCE_DIGEST)?));
        match subject {
            Some(platform) if is_wanted(platform.as_ref()) => true,
            _ => is_wanted(child.platform.as_ref()),
        }
    };
    let total = combined.children.len();
    let children: Vec<_> = combined.children.iter().filter(|(child, _)| is_kept(child)).cloned().collect();
    if children.is_empty() {
        return Err(CombineError::NoPlatformMatches);
    }
    if children.len() == total {
        return Ok(Combined { children, ..combined });
    }
    let not_an_index = || CombineError::NotAnIndex { digest: combined.descriptor.digest.clone() };
    let mut index: Index = serde_json::from_slice(&combined.bytes).map_err(|_| not_an_index())?;
    index.manifests = children.iter().map(|(child, _)| child.clone()).collect();
    let document = Document::from_value_indented(index);
    let mut descriptor =
        Descriptor::new(combined.descriptor.media_type.clone(), document.digest().clone(), document.size());
    descriptor.annotations = combined.descriptor.annotations;
    Ok(Combined { bytes: document.into_bytes(), descriptor, children })
}
