//! Content digests (OCI image specification, "Digests"), diff IDs and chain IDs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest as hash;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hash algorithm that this product can compute and verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, the one that everything here writes.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon of a digest.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The length of the encoded part in hexadecimal characters.
    pub fn encoded_length(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha384 => 96,
            Algorithm::Sha512 => 128,
        }
    }

    fn from_name(name: &str) -> Option<Algorithm> {
        [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512].into_iter().find(|known| known.name() == name)
    }

    fn implementation(self) -> &'static hash::Algorithm {
        match self {
            Algorithm::Sha256 => &hash::SHA256,
            Algorithm::Sha384 => &hash::SHA384,
            Algorithm::Sha512 => &hash::SHA512,
        }
    }
}

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not `algorithm:encoded`, or the encoded part is not lower-case hexadecimal.
    #[error("invalid checksum digest format")]
    Format,
    /// The encoded part has the wrong length for its algorithm.
    #[error("invalid checksum digest length")]
    Length,
    /// A well-formed digest of an algorithm that is not supported.
    #[error("unsupported digest algorithm")]
    Unsupported,
}

/// A content digest such as `sha256:…`; always valid, cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    text: Arc<str>,
    algorithm: Algorithm,
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest::of(Algorithm::Sha256, bytes)
    }

    /// The digest of `bytes` by `algorithm`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        Digest::from_hash(algorithm, hash::digest(algorithm.implementation(), bytes).as_ref())
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The part after the colon: lower-case hexadecimal of the algorithm's length.
    pub fn encoded(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// The whole text, `algorithm:encoded`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Digest {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(algorithm.name().len() + 1 + 2 * hash.len());
        text.push_str(algorithm.name());
        text.push(':');
        for byte in hash {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Digest { text: text.into(), algorithm }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    /// The checks of go-digest's `Parse`, in its order: the length is looked at before the characters.
    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let (name, encoded) = text.split_once(':').ok_or(DigestError::Format)?;
        if name.is_empty() || encoded.is_empty() {
            return Err(DigestError::Format);
        }
        let Some(algorithm) = Algorithm::from_name(name) else {
            let known_form = is_algorithm_name(name) && encoded.bytes().all(is_encoded_byte);
            return Err(if known_form { DigestError::Unsupported } else { DigestError::Format });
        };
        if encoded.len() != algorithm.encoded_length() {
            return Err(DigestError::Length);
        }
        if !encoded.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Format);
        }
        Ok(Digest { text: text.into(), algorithm })
    }
}

/// `[a-z0-9]+(?:[.+_-][a-z0-9]+)*`
fn is_algorithm_name(name: &str) -> bool {
    name.split(['.', '+', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')))
}

fn is_encoded_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-')
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| serde::de::Error::custom(format_args!("{error}: {text:?}")))
    }
}

/// Computes a digest piece by piece. A clone continues from the same state.
#[derive(Clone)]
pub struct Digester {
    context: hash::Context,
    algorithm: Algorithm,
}

impl Digester {
    /// Starts an empty computation.
    pub fn new(algorithm: Algorithm) -> Digester {
        Digester { context: hash::Context::new(algorithm.implementation()), algorithm }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        Digest::from_hash(self.algorithm, self.context.finish().as_ref())
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Digester").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

macro_rules! digest_newtype {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<$name, DigestError> {
                text.parse().map($name)
            }
        }
    };
}

digest_newtype!(
    /// The digest of a layer's uncompressed tar.
    DiffId
);

digest_newtype!(
    /// The identity of a stack of layers (OCI image specification, "Layer ChainID").
    ChainId
);

impl ChainId {
    /// The chain ID of the whole stack, lowest layer first; none for no layers.
    pub fn of(diff_ids: &[DiffId]) -> Option<ChainId> {
        let (first, rest) = diff_ids.split_first()?;
        Some(rest.iter().fold(ChainId(first.0.clone()), |below, diff_id| below.with(diff_id)))
    }

    /// The chain ID of this stack with one more layer on top.
    pub fn with(&self, diff_id: &DiffId) -> ChainId {
        ChainId(Digest::sha256(format!("{self} {diff_id}").as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_answers() {
        assert_eq!(
            Digest::sha256(b"").as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(Digest::of(Algorithm::Sha512, b"").encoded().len(), 128);
        assert_eq!(format!("{:?}", Digest::sha256(b"a")), Digest::sha256(b"a").to_string());
    }

    #[test]
    fn a_cloned_digester_continues() {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(b"ab");
        let mut other = digester.clone();
        other.update(b"c");
        assert_eq!(digester.finish(), Digest::sha256(b"ab"));
        assert_eq!(other.finish(), Digest::sha256(b"abc"));
    }

    proptest! {
        #[test]
        fn parsing_inverts_display(content: Vec<u8>, which in 0usize..3) {
            let algorithm = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512][which];
            let digest = Digest::of(algorithm, &content);
            prop_assert_eq!(&digest.to_string().parse::<Digest>().unwrap(), &digest);
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }

        #[test]
        fn what_parses_prints_itself(text in "(sha256|sha512|x)?:?[0-9a-fA-F]{0,130}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
