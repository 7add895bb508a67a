//! OCI image layouts as places to read images from and write them to.
//!
//! ```text
//! oci-layout           {"imageLayoutVersion":"1.0.0"}
//! index.json           names are annotations of its entries
//! blobs/<algorithm>/<hex>
//! ```

use std::fs;
use std::io::{self, ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};

use onetag_oci::{Descriptor, Digest, Digester, Index};
use onetag_store::{IMAGE_NAME, REF_NAME};
use thiserror::Error;

use super::archive::is_name;

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
    /// Without a name, more than one image could be meant.
    #[error("{} holds several images: {}", path.display(), names.join(", "))]
    Several {
        /// The layout or archive.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
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
    find_in(&index(root)?, root, name)
}

/// What a name means in the index of a layout or archive; without a name, the only image there. Manifests that are
/// about another, such as signatures, are no images.
pub(super) fn find_in(index: &Index, path: &Path, name: Option<&str>) -> Result<Option<Descriptor>, LayoutError> {
    let found = match name {
        Some(name) => {
            let exactly = |entry: &&Descriptor| entry.annotations.get(REF_NAME).is_some_and(|known| known == name);
            index.manifests.iter().find(exactly).or_else(|| index.manifests.iter().find(|entry| is_name(entry, name)))
        }
        None => {
            let mut images: Vec<&Descriptor> =
                index.manifests.iter().filter(|entry| entry.artifact_type.is_none()).collect();
            images.dedup_by(|a, b| a.digest == b.digest);
            if images.len() > 1 {
                let names = images.iter().map(|entry| match entry.annotations.get(REF_NAME) {
                    Some(name) => name.clone(),
                    None => format!("@{}", entry.digest),
                });
                return Err(LayoutError::Several { path: path.to_owned(), names: names.collect() });
            }
            images.first().copied().or_else(|| index.manifests.first().filter(|_| index.manifests.len() == 1))
        }
    };
    Ok(found.map(|entry| {
        let mut entry = entry.clone();
        entry.annotations.remove(REF_NAME);
        entry.annotations.remove(IMAGE_NAME);
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

/// A blob on its way into a layout: a hidden file until it has its name. Dropped before, it leaves nothing behind.
///
/// Unlike the store's, a layout's files are not synced: it is the user's copy of something, as one that `cp` makes.
pub(super) struct BlobFile {
    file: fs::File,
    temporary: PathBuf,
    path: PathBuf,
    written: u64,
}

impl BlobFile {
    /// Begins a blob.
    pub(super) fn create(root: &Path, digest: &Digest) -> Result<BlobFile, LayoutError> {
        let path = blob_path(root, digest);
        let folder = path.parent().unwrap_or(root);
        at(fs::create_dir_all(folder), "make folder", folder)?;
        let temporary = folder.join(format!(".{}.{}", digest.encoded(), std::process::id()));
        let file = at(fs::File::create(&temporary), "write", &path)?;
        Ok(BlobFile { file, temporary, path, written: 0 })
    }

    /// Bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Forgets what was written.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(io::SeekFrom::Start(0))?;
        self.written = 0;
        Ok(())
    }

    /// Gives the blob its name. What was written MUST have been compared with its digest.
    pub(super) fn name(self) -> Result<(), LayoutError> {
        at(fs::rename(&self.temporary, &self.path), "name", &self.path)
    }
}

impl io::Write for BlobFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let length = self.file.write(data)?;
        self.written += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        // gone already where it was named
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Writes a blob, whole and verified or not at all.
pub fn write(root: &Path, digest: &Digest, content: &mut dyn io::Read) -> Result<(), LayoutError> {
    let mut file = BlobFile::create(root, digest)?;
    let mut digester = Digester::new(digest.algorithm());
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return at(Err(error), "write", &file.path),
        };
        digester.update(&buffer[..length]);
        at(file.write_all(&buffer[..length]), "write", &file.path)?;
    }
    let actual = digester.finish();
    if actual != *digest {
        return Err(LayoutError::Digest { path: file.path.clone(), actual });
    }
    file.name()
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
