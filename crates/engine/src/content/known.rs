//! Documents that a command has read from registries: each is asked for once, however many steps need it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use onetag_oci::Digest;

/// So many bytes are kept at most; what would be more is asked for again.
const LIMIT: usize = 64 << 20;

/// What was read, by the repository that gave it: that one registry has something says nothing of another.
#[derive(Debug, Default)]
pub struct KnownDocuments {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    documents: HashMap<(String, Digest), Vec<u8>>,
    bytes: usize,
}

impl KnownDocuments {
    /// The verified bytes that `repository` gave under a digest.
    pub(super) fn get(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        self.lock().documents.get(&(repository.to_owned(), digest.clone())).cloned()
    }

    /// Keeps verified bytes.
    pub(super) fn put(&self, repository: &str, digest: &Digest, bytes: &[u8]) {
        let mut kept = self.lock();
        if kept.bytes + bytes.len() <= LIMIT {
            let before = kept.documents.insert((repository.to_owned(), digest.clone()), bytes.to_vec());
            kept.bytes += bytes.len() - before.map_or(0, |before| before.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use onetag_oci::Digest;

    use super::{KnownDocuments, LIMIT};

    #[test]
    fn what_one_repository_gave_is_not_known_of_another_and_memory_is_bounded() {
        let known = KnownDocuments::default();
        let digest = Digest::sha256(b"document");
        known.put("registry/a", &digest, b"document");
        known.put("registry/a", &digest, b"document");
        assert_eq!(known.get("registry/a", &digest).as_deref(), Some(&b"document"[..]));
        assert_eq!(known.get("registry/b", &digest), None);
        let large = vec![0; LIMIT];
        known.put("registry/b", &digest, &large);
        assert_eq!(known.get("registry/b", &digest), None);
        known.put("registry/b", &digest, &large[..LIMIT - b"document".len()]);
        assert!(known.get("registry/b", &digest).is_some());
    }
}
