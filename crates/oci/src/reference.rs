//! Image references by the grammar of `github.com/distribution/reference`.
//!
//! ```text
//! reference  = name [ ":" tag ] [ "@" digest ]
//! name       = [ domain "/" ] path
//! domain     = host [ ":" port ]            path = component *( "/" component )
//! ```
//!
//! A short name is completed before it is parsed: `app` is `docker.io/library/app`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, DigestError};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const PATH_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// Why a text is not a reference. The wording is that of Docker's tools.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not of the grammar.
    #[error("invalid reference format")]
    Format,
    /// The path has upper-case letters.
    #[error("invalid reference format: repository name ({name}) must be lowercase")]
    Uppercase {
        /// The path as written, completed.
        name: String,
    },
    /// A 64-digit hexadecimal name, which means an image ID everywhere else.
    #[error("invalid repository name ({name}), cannot specify 64-byte hexadecimal strings")]
    Identifier {
        /// The name.
        name: String,
    },
    /// The path is longer than 255 characters.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// Not a tag.
    #[error("invalid tag format")]
    Tag,
    /// The digest part is not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// A complete image reference: domain, path, and perhaps tag and digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses a reference as a user writes it; the domain and `library/` are filled in, the tag is not.
    ///
    /// # Errors
    /// Not of the grammar; see [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if is_identifier(text) {
            return Err(ReferenceError::Identifier { name: text.to_owned() });
        }
        let (domain, remainder) = split_domain(text);
        let name = remainder.split(':').next().unwrap_or_default();
        if name.to_lowercase() != name {
            return Err(ReferenceError::Uppercase { name: name.to_owned() });
        }
        let complete = format!("{domain}/{remainder}");
        parse_complete(&complete).map_err(|error| {
            let lower = complete.to_lowercase();
            if error == ReferenceError::Format && lower != complete && parse_complete(&lower).is_ok() {
                ReferenceError::Uppercase { name: name.to_owned() }
            } else {
                error
            }
        })
    }

    /// The registry's host and port as written, `docker.io` where none was written.
    ///
    /// Empty for the odd text whose first component is no host name although it looks like one (`a_b.c/d`).
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's path within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same with the tag `latest` where there is neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same with another tag; the digest stays.
    ///
    /// # Errors
    /// Not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        Ok(Reference { tag: Some(tag.to_owned()), ..self.clone() })
    }

    /// The same with another digest; the tag stays.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { digest: Some(digest), ..self.clone() }
    }

    /// The same without a tag.
    #[must_use]
    pub fn without_tag(&self) -> Reference {
        Reference { tag: None, ..self.clone() }
    }

    /// The same without a digest.
    #[must_use]
    pub fn without_digest(&self) -> Reference {
        Reference { digest: None, ..self.clone() }
    }

    /// The same with neither tag nor digest.
    #[must_use]
    pub fn name_only(&self) -> Reference {
        Reference { tag: None, digest: None, ..self.clone() }
    }

    /// `domain/path`.
    pub fn repository(&self) -> String {
        if self.domain.is_empty() { self.path.clone() } else { format!("{}/{}", self.domain, self.path) }
    }

    /// The shortest spelling that means the same: `app:1` for `docker.io/library/app:1`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// [`Reference::familiar`] without tag and digest.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => self.path.clone(),
        }
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.with_suffix(self.repository()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        let text = String::deserialize(deserializer)?;
        Reference::parse(&text).map_err(|error| serde::de::Error::custom(format_args!("{error}: {text:?}")))
    }
}

/// Parses a reference for fetching: `latest` is filled in, and a tag beside a digest is dropped.
///
/// # Errors
/// As [`Reference::parse`].
pub fn parse_docker_ref(text: &str) -> Result<Reference, ReferenceError> {
    let mut reference = Reference::parse(text)?;
    if reference.digest.is_some() {
        reference.tag = None;
    }
    Ok(reference.with_default_tag())
}

/// A reference, or a bare digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AnyReference {
    /// A reference with a name.
    Named(Reference),
    /// A digest or a 64-digit image ID.
    Digest(Digest),
}

impl fmt::Display for AnyReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnyReference::Named(reference) => fmt::Display::fmt(reference, formatter),
            AnyReference::Digest(digest) => fmt::Display::fmt(digest, formatter),
        }
    }
}

impl AnyReference {
    /// The shortest spelling that means the same.
    pub fn familiar(&self) -> String {
        match self {
            AnyReference::Named(reference) => reference.familiar(),
            AnyReference::Digest(digest) => digest.to_string(),
        }
    }
}

/// Parses a reference, a digest or a 64-digit image ID.
///
/// # Errors
/// As [`Reference::parse`].
pub fn parse_any(text: &str) -> Result<AnyReference, ReferenceError> {
    if is_identifier(text) {
        return Ok(AnyReference::Digest(format!("sha256:{text}").parse()?));
    }
    match text.parse() {
        Ok(digest) => Ok(AnyReference::Digest(digest)),
        Err(_) => Reference::parse(text).map(AnyReference::Named),
    }
}

/// Splits off the domain and completes what is short.
fn split_domain(text: &str) -> (&str, String) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL_PREFIX}{text}"));
    };
    let is_domain = first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first;
    let (domain, remainder) = match first {
        LEGACY_DEFAULT_DOMAIN => (DEFAULT_DOMAIN, rest),
        _ if is_domain => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        (domain, format!("{OFFICIAL_PREFIX}{remainder}"))
    } else {
        (domain, remainder.to_owned())
    }
}

fn parse_complete(text: &str) -> Result<Reference, ReferenceError> {
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) if is_digest_form(digest) => (named, Some(digest)),
        Some(_) => return Err(ReferenceError::Format),
        None => (text, None),
    };
    let last_component = named.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match named[last_component..].split_once(':') {
        Some((component, tag)) if is_tag(tag) => (&named[..last_component + component.len()], Some(tag)),
        Some(_) => return Err(ReferenceError::Format),
        None => (named, None),
    };
    let (domain, path) = match name.split_once('/') {
        Some((domain, path)) if is_domain(domain) && is_path(path) => (domain, path),
        _ if is_path(name) => ("", name),
        _ => return Err(ReferenceError::Format),
    };
    if path.len() > PATH_MAX {
        return Err(ReferenceError::TooLong);
    }
    Ok(Reference {
        domain: domain.to_owned(),
        path: path.to_owned(),
        tag: tag.map(str::to_owned),
        digest: digest.map(str::parse).transpose()?,
    })
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `[\w][\w.-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes();
    text.len() <= TAG_MAX
        && bytes.next().is_some_and(word)
        && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// `[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][[:xdigit:]]{32,}`
fn is_digest_form(text: &str) -> bool {
    let Some((algorithm, encoded)) = text.split_once(':') else { return false };
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(is_part)
        && encoded.len() >= 32
        && encoded.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A host name or bracketed IPv6 address, and an optional port.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let Some((address, after)) = bracketed.split_once(']') else { return false };
            let valid = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
            if !valid {
                return false;
            }
            (None, after)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (Some(&text[..end]), &text[end..])
        }
    };
    let port_valid = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    port_valid && host.is_none_or(|host| host.split('.').all(is_host_label))
}

/// `[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]`
fn is_host_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// `[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let is_alphanumeric = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let bytes = text.as_bytes();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(|byte| is_alphanumeric(*byte));
    if !ends_well(bytes.first()) || !ends_well(bytes.last()) {
        return false;
    }
    bytes
        .split(|byte| is_alphanumeric(*byte))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_first_component_that_is_no_host_name_belongs_to_the_path() {
        let reference = Reference::parse("a_b.c/d").unwrap();
        assert_eq!((reference.domain(), reference.path()), ("", "a_b.c/d"));
        assert_eq!(reference.to_string(), "a_b.c/d");
    }

    #[test]
    fn tags_and_digests_are_replaced_separately() {
        let digest = Digest::sha256(b"x");
        let reference = Reference::parse("localhost:5000/app:1").unwrap().with_digest(digest.clone());
        assert_eq!(reference.to_string(), format!("localhost:5000/app:1@{digest}"));
        assert_eq!(reference.with_tag("2").unwrap().without_digest().to_string(), "localhost:5000/app:2");
        assert_eq!(reference.name_only().with_default_tag().tag(), Some("latest"));
        assert_eq!(reference.with_tag("a b"), Err(ReferenceError::Tag));
    }

    proptest! {
        #[test]
        fn parsing_inverts_display(
            text in "([a-z0-9]{1,6}(\\.[a-z]{1,3})?(:[0-9]{1,4})?/)?[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3})?(/[a-z0-9]{1,5}){0,2}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,6})?",
            pinned: bool,
        ) {
            let mut reference = Reference::parse(&text).unwrap();
            if pinned {
                reference = reference.with_digest(Digest::sha256(text.as_bytes()));
            }
            prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        }

        #[test]
        fn any_text_parses_or_fails_without_panic(text in "[a-zA-Z0-9:/@._\\[\\] é-]{0,40}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
            }
            let _ = parse_any(&text);
        }
    }
}
