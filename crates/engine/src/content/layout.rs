//! OCI image layouts as places to read images from and write them to.
//!
//! ```text
//! oci-layout           {"imageLayoutVersion":"1.0.0"}
//! index.json           names are annotations of its entries
//! blobs/<algorithm>/<hex>
//! ```

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use onetag_oci::{Descriptor, Digest, Index};
use thiserror::Error;

/// The annotation that holds a name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why an image layout could not be used.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// The file system did not play along.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// `index.json` is no index.
    #[error("{} is no image index", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A blob is not what its name says.
    #[error("{} has digest {actual}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What its content has.
        actual: Digest,
    },
}

fn at<T>(result: io::Result<T>, action: &'static str, path: &Path) -> Result<T, LayoutError> {
    result.map_err(|source| LayoutError::Io { action, path: path.to_owned(), source })
}

/// Where a blob lies.
pub fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs").join(digest.algorithm().name()).join(digest.encoded())
}

/// The layout's index; an absent one is empty.
pub fn index(root: &Path) -> Result<Index, LayoutError> {
    let path = root.join("index.json");
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| LayoutError::Index { path, source }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Index::new(Vec::new())),
        Err(error) => at(Err(error), "read", &path),
    }
}

/// What a name means; without a name, the only image there.
pub fn find(root: &Path, name: Option<&str>) -> Result<Option<Descriptor>, LayoutError> {
    let mut entries = index(root)?.manifests;
    let position = match name {
        Some(name) => {
            entries.iter().position(|entry| entry.annotations.get(REF_NAME).is_some_and(|known| known == name))
        }
        None if entries.len() == 1 => Some(0),
        None => None,
    };
    Ok(position.map(|position| {
        let mut entry = entries.swap_remove(position);
        entry.annotations.remove(REF_NAME);
        entry
    }))
}

/// Reads and verifies a blob.
pub fn read(root: &Path, digest: &Digest) -> Result<Vec<u8>, LayoutError> {
    let path = blob_path(root, digest);
    let bytes = at(fs::read(&path), "read", &path)?;
    let actual = Digest::of(digest.algorithm(), &bytes);
    if actual != *digest {
        return Err(LayoutError::Digest { path, actual });
    }
    Ok(bytes)
}

/// Writes a blob, whole or not at all.
pub fn write(root: &Path, digest: &Digest, content: &mut dyn io::Read) -> Result<(), LayoutError> {
    let path = blob_path(root, digest);
    let folder = path.parent().unwrap_or(root);
    at(fs::create_dir_all(folder), "make folder", folder)?;
    let temporary = folder.join(format!(".{}.{}", digest.encoded(), std::process::id()));
    let written = fs::File::create(&temporary).and_then(|mut file| {
        io::copy(content, &mut file)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    });
    if written.is_err() {
        // the error of writing matters more than that of tidying up after it
        let _ = fs::remove_file(&temporary);
    }
    at(written, "write", &path)
}

/// Names an image; a former bearer of the name loses it.
pub fn set(root: &Path, name: Option<&str>, descriptor: &Descriptor) -> Result<(), LayoutError> {
    let mut index = index(root)?;
    let mut entry = descriptor.clone();
    if let Some(name) = name {
        entry.annotations.insert(REF_NAME.to_owned(), name.to_owned());
    }
    index.manifests.retain(|known| {
        known.digest != entry.digest || known.annotations.get(REF_NAME) != entry.annotations.get(REF_NAME)
    });
    index.manifests.retain(|known| name.is_none() || known.annotations.get(REF_NAME).map(String::as_str) != name);
    index.manifests.push(entry);
    replace(root, "index.json", &onetag_oci::go_json(&index))?;
    replace(root, "oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")
}

fn replace(root: &Path, name: &str, content: &[u8]) -> Result<(), LayoutError> {
    let path = root.join(name);
    let temporary = root.join(format!(".{name}.{}", std::process::id()));
    at(fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, &path)), "write", &path)
}
