//! Letting go of manifests that an index names: the index stays as it is, and is held in part from then on.

use onetag_oci::Digest;
use rustix::fs::FlockOperation;

use super::mark;
use crate::error::{At, Result};
use crate::files;
use crate::leases;
use crate::store::Store;

impl Store {
    /// Takes manifests away, so that the platforms they are of are absent; what only they led to goes with the next
    /// collection. Safe beside everything that other processes do: when a living process holds one of them, nothing is
    /// taken, and that one is given. The caller MUST see to it that no name means one of them.
    pub fn release(&self, manifests: &[Digest]) -> Result<Option<Digest>> {
        // The own lease is asked for before: a thread that has it may be waiting for the lock taken here.
        let session = self.session_name()?;
        let _alone = self.lock("gc", FlockOperation::LockExclusive)?;
        let held = mark::held(self, &leases::living(self)?);
        if let Some(digest) = manifests.iter().find(|digest| held.contains(&leases::Resource::Blob((*digest).clone())))
        {
            return Ok(Some(digest.clone()));
        }
        for digest in manifests {
            let (path, trash) = (self.blob_path(digest), self.temporary_of(&session, "trash"));
            match std::fs::rename(&path, &trash) {
                Ok(()) => {
                    self.remove_temporary(&trash)?;
                    files::sync_parent(&path).at("sync", &path)?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("remove", &path),
            }
        }
        Ok(None)
    }
}
