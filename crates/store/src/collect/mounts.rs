//! Folders of cache mounts: `cache-mounts/<id>/<n>` with `<n>.lock` beside, which is locked while one is used. And
//! what builds downloaded: the entries of `downloads/` and `git/`, which are had again when they are needed.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;

use super::usage::{Usage, UsageKind};
use crate::error::{At, Result};
use crate::store::{Store, lock_file};

/// What was downloaded this recently may be in use.
const FRESH: Duration = Duration::from_secs(3600);

/// All folders of cache mounts and everything downloaded.
pub(super) fn all(store: &Store) -> Result<Vec<Usage>> {
    let root = store.root().join("cache-mounts");
    let mut found = downloads(store)?;
    let Ok(mounts) = std::fs::read_dir(&root) else { return Ok(found) };
    for mount in mounts {
        let mount = mount.at("list", &root)?.path();
        let Ok(folders) = std::fs::read_dir(&mount) else { continue };
        for folder in folders {
            let path = folder.at("list", &mount)?.path();
            if path.is_dir() {
                let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
                found.push(Usage::new(UsageKind::CacheMount, name, path, None));
            }
        }
    }
    Ok(found)
}

fn downloads(store: &Store) -> Result<Vec<Usage>> {
    let mut found = Vec::new();
    for folder in ["downloads", "git"] {
        let folder = store.root().join(folder);
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.at("list", &folder)?.path();
            let name = path.strip_prefix(store.root()).unwrap_or(&path).display().to_string();
            found.push(Usage::new(UsageKind::CacheMount, name, path, None));
        }
    }
    Ok(found)
}

/// Those that nothing uses now, and that nothing used for the given time.
pub(super) fn unused(store: &Store, unused_for: Option<Duration>) -> Result<Vec<Usage>> {
    let mut found = all(store)?;
    found.retain(|item| {
        if item.name.starts_with("downloads/") || item.name.starts_with("git/") {
            return is_older(&item.path, unused_for.unwrap_or_default().max(FRESH));
        }
        let mut lock = item.path.clone().into_os_string();
        lock.push(".lock");
        let lock = Path::new(&lock);
        let idle = match File::open(lock) {
            Ok(file) => lock_file(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
            Err(_) => true,
        };
        idle && unused_for.is_none_or(|age| age.is_zero() || is_older(lock, age))
    });
    Ok(found)
}

/// Whether a lock was last written longer ago than `age`; locking writes nothing, so its folder counts, too.
fn is_older(lock: &Path, age: Duration) -> bool {
    let folder = lock.with_extension("");
    [lock, &folder].iter().all(|path| {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        modified.is_none_or(|modified| SystemTime::now().duration_since(modified).is_ok_and(|since| since >= age))
    })
}
