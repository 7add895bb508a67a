//! Names of repositories and tags, and of upload sessions.

use std::fmt;

/// Longest repository name accepted, in bytes.
const NAME_LIMIT: usize = 255;

/// A name that is not of the protocol's form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind}: {text:?}")]
pub struct InvalidName {
    kind: &'static str,
    text: String,
}

impl InvalidName {
    fn new(kind: &'static str, text: &str) -> Self {
        InvalidName { kind, text: text.chars().take(NAME_LIMIT).collect() }
    }
}

/// A repository's name within its registry, such as `library/busybox`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// Parses the name.
    ///
    /// # Errors
    /// When it does not match the specification's expression or is longer than 255 bytes.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= NAME_LIMIT && text.split('/').all(is_component) {
            Ok(RepositoryName(text.to_owned()))
        } else {
            Err(InvalidName::new("repository name", text))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes
        .split(|&byte| alphanumeric(byte))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-'))
}

/// A tag: a name that moves from one manifest to another.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// Parses the tag.
    ///
    /// # Errors
    /// When it does not match `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut bytes = text.bytes();
        let starts = bytes.next().is_some_and(word);
        if starts && text.len() <= 128 && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-') {
            Ok(Tag(text.to_owned()))
        } else {
            Err(InvalidName::new("tag", text))
        }
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn repositories() {
        for good in ["a", "library/busybox", "a.b_c__d-e---f/0", "x/y/z"] {
            assert!(RepositoryName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "-a", "a-", "a.-b", "a b", "ä", "_blobs", "a/_tags",
            "..", "a/../b",
        ] {
            assert!(RepositoryName::parse(bad).is_err(), "{bad}");
        }
        assert!(RepositoryName::parse(&"a".repeat(256)).is_err());
    }

    #[test]
    fn tags() {
        for good in ["latest", "1.2.3", "_x", "A-b"] {
            assert!(Tag::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "..", "a b"] {
            assert!(Tag::parse(bad).is_err(), "{bad}");
        }
        assert!(Tag::parse(&"a".repeat(129)).is_err());
    }

    proptest! {
        #[test]
        fn accepted_names_are_safe_paths(text in "[a-z0-9./_-]{0,30}") {
            if let Ok(name) = RepositoryName::parse(&text) {
                prop_assert!(name.as_str().split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '_'])));
            }
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = (RepositoryName::parse(&text), Tag::parse(&text));
        }
    }
}
