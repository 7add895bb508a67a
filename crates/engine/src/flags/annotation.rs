//! `--annotation`

use onetag_oci::Platform;

use super::{FlagError, Result};

/// What an annotation is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnnotationTarget {
    /// The image index.
    Index,
    /// The descriptor of the index, in the index of an OCI layout.
    IndexDescriptor,
    /// The manifests.
    Manifest,
    /// The descriptors of the manifests, in the index.
    ManifestDescriptor,
}

impl AnnotationTarget {
    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            AnnotationTarget::Index => "index",
            AnnotationTarget::IndexDescriptor => "index-descriptor",
            AnnotationTarget::Manifest => "manifest",
            AnnotationTarget::ManifestDescriptor => "manifest-descriptor",
        }
    }
}

/// An annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// What it is put on; None means the manifests.
    pub target: Option<AnnotationTarget>,
    /// The only platform whose manifest gets it; None means all.
    pub platform: Option<Platform>,
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Reads all occurrences of the flag: `[type[platform],…:]key=value`. Of two without a platform
/// that have type and key in common the later one counts; empty values are skipped.
///
/// # Errors
/// No value, an unknown type, a platform that is none.
pub fn parse_annotations<S: AsRef<str>>(values: &[S], host: &Platform) -> Result<Vec<Annotation>> {
    let mut annotations: Vec<Annotation> = Vec::new();
    for text in values.iter().map(AsRef::as_ref).filter(|value| !value.is_empty()) {
        let (name, value) = text.split_once('=').ok_or_else(|| FlagError::AnnotationValue(text.to_owned()))?;
        let (targets, key) = match name.split_once(':') {
            Some((targets, key)) => (targets.split(',').map(Some).collect(), key),
            None => (vec![None], name),
        };
        for target in targets {
            let (target, platform) = match target {
                Some(target) => parse_target(target, host)?,
                None => (None, None),
            };
            annotations.retain(|known| {
                platform.is_some() || known.platform.is_some() || known.target != target || known.key != key
            });
            annotations.push(Annotation { target, platform, key: key.to_owned(), value: value.to_owned() });
        }
    }
    Ok(annotations)
}

fn parse_target(text: &str, host: &Platform) -> Result<(Option<AnnotationTarget>, Option<Platform>)> {
    let syntax = || FlagError::AnnotationTypeSyntax(text.to_owned());
    let (name, platform) = match text.split_once('[') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(']').ok_or_else(syntax)?)),
        None => (text, None),
    };
    let is_name = |c: char| c.is_ascii_lowercase() || c == '-';
    let is_platform = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '-');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(syntax());
    }
    if platform.is_some_and(|platform| platform.is_empty() || !platform.chars().all(is_platform)) {
        return Err(syntax());
    }
    let target = match name {
        "index" => AnnotationTarget::Index,
        "index-descriptor" => AnnotationTarget::IndexDescriptor,
        "manifest" => AnnotationTarget::Manifest,
        "manifest-descriptor" => AnnotationTarget::ManifestDescriptor,
        _ => return Err(FlagError::AnnotationType(name.to_owned())),
    };
    let platform = platform
        .map(|platform| {
            Platform::parse_on(platform, host)
                .map_err(|source| FlagError::AnnotationPlatform { platform: platform.to_owned(), source })
        })
        .transpose()?;
    Ok((Some(target), platform))
}
