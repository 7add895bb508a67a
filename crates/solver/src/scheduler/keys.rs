//! How cache keys and identities are made. Any change here makes every existing cache a miss.

use onetag_oci::{Algorithm, Digest, Digester};

/// What an input contributes to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InputKey {
    /// Who the input is: the identity of the vertex, and which output.
    Identity(Digest, usize),
    /// What of the input is read.
    Content(Digest),
}

/// The key of an operation over its inputs: a cache key when `fast` is not set, else one that stands for it.
pub(super) fn key(definition: &Digest, inputs: &[InputKey], fast: bool) -> Digest {
    let mut digester = Digester::new(Algorithm::Sha256);
    digester.update(if fast { b"onetag.fast.1\0" } else { b"onetag.step.1\0" });
    field(&mut digester, definition.to_string().as_bytes());
    for input in inputs {
        match input {
            InputKey::Identity(digest, output) => {
                digester.update(b"i");
                field(&mut digester, digest.to_string().as_bytes());
                digester.update(&(*output as u64).to_le_bytes());
            }
            InputKey::Content(digest) => {
                digester.update(b"c");
                field(&mut digester, digest.to_string().as_bytes());
            }
        }
    }
    digester.finish()
}

/// The identity of a result that was made anew although `key` may have been made before.
pub(super) fn renewed(key: &Digest, salt: &str) -> Digest {
    let mut digester = Digester::new(Algorithm::Sha256);
    digester.update(b"onetag.renewed.1\0");
    field(&mut digester, key.to_string().as_bytes());
    field(&mut digester, salt.as_bytes());
    digester.finish()
}

fn field(digester: &mut Digester, bytes: &[u8]) {
    digester.update(&(bytes.len() as u64).to_le_bytes());
    digester.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    #[test]
    fn every_part_counts() {
        let base = [InputKey::Identity(digest("a"), 0), InputKey::Content(digest("b"))];
        let mut keys = vec![
            key(&digest("op"), &base, false),
            key(&digest("op"), &base, true),
            key(&digest("other"), &base, false),
            key(&digest("op"), &base[..1], false),
            key(&digest("op"), &[base[1].clone(), base[0].clone()], false),
            key(&digest("op"), &[InputKey::Identity(digest("a"), 1), base[1].clone()], false),
            key(&digest("op"), &[InputKey::Content(digest("a")), base[1].clone()], false),
            renewed(&key(&digest("op"), &base, false), "one"),
            renewed(&key(&digest("op"), &base, false), "two"),
        ];
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 9);
    }
}
