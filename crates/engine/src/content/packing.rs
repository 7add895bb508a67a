//! Writes image archives: a layout in a tar, and for Docker's readers a `manifest.json` beside it.
//!
//! Blobs are appended as they come, verified; names come last. The file has its name only when it is whole.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use onetag_oci::{Descriptor, Digest, Digester, Index, ManifestDocument, Reference, go_json};
use onetag_store::{IMAGE_NAME, REF_NAME};
use serde_json::json;

use super::archive::ArchiveError;
use super::location::ArchiveKind;

/// An archive that is being written.
pub(super) struct Packing {
    kind: ArchiveKind,
    path: PathBuf,
    temporary: PathBuf,
    archive: tar::Builder<BufWriter<File>>,
    there: HashSet<Digest>,
    folders: HashSet<String>,
    index: Vec<Descriptor>,
    docker: Vec<serde_json::Value>,
}

impl Packing {
    /// Begins beside the final name.
    pub(super) fn begin(kind: ArchiveKind, path: &Path) -> Result<Self, ArchiveError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or(path.as_os_str()));
        name.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(|source| ArchiveError::Io {
            action: "make",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            kind,
            path: path.to_owned(),
            temporary,
            archive: tar::Builder::new(BufWriter::with_capacity(1 << 20, file)),
            there: HashSet::new(),
            folders: HashSet::new(),
            index: Vec::new(),
            docker: Vec::new(),
        })
    }

    fn at(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Io { action: "write", path: self.path.clone(), source }
    }

    /// Whether a blob has been appended.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.there.contains(digest)
    }

    /// Appends a blob; content of another digest or size fails.
    pub(super) fn blob(&mut self, digest: &Digest, size: u64, content: &mut dyn Read) -> Result<(), ArchiveError> {
        if self.has(digest) {
            return Ok(());
        }
        for folder in ["blobs/".to_owned(), format!("blobs/{}/", digest.algorithm().name())] {
            if self.folders.insert(folder.clone()) {
                let mut header = header(0, 0o755);
                header.set_entry_type(tar::EntryType::Directory);
                self.archive.append_data(&mut header, &folder, io::empty()).map_err(|error| self.at(error))?;
            }
        }
        let mut verified =
            Verified { content: content.take(size), digester: Digester::new(digest.algorithm()), count: 0 };
        let name = format!("blobs/{}/{}", digest.algorithm().name(), digest.encoded());
        self.archive.append_data(&mut header(size, 0o644), name, &mut verified).map_err(|error| self.at(error))?;
        if verified.count != size {
            return Err(ArchiveError::Size { digest: digest.clone(), expected: size, actual: verified.count });
        }
        let actual = verified.digester.finish();
        if actual != *digest {
            return Err(ArchiveError::Digest { path: self.path.clone(), digest: digest.clone(), actual });
        }
        self.there.insert(digest.clone());
        Ok(())
    }

    /// Names an image, or lists it without a name. For Docker's readers it must be a manifest.
    pub(super) fn name(
        &mut self,
        name: Option<&str>,
        descriptor: &Descriptor,
        document: &ManifestDocument,
    ) -> Result<(), ArchiveError> {
        let mut entry = descriptor.clone();
        let reference = name.and_then(|name| Reference::parse(name).ok()).map(Reference::with_default_tag);
        if let Some(name) = name {
            entry.annotations.insert(REF_NAME.to_owned(), name.to_owned());
            let full = reference.as_ref().filter(|_| name.contains(['/', ':'])).map(ToString::to_string);
            full.and_then(|full| entry.annotations.insert(IMAGE_NAME.to_owned(), full));
        }
        let is_referrer = entry.artifact_type.is_some();
        self.index.push(entry);
        if self.kind == ArchiveKind::Oci || is_referrer {
            return Ok(());
        }
        let Some(manifest) = document.as_manifest() else {
            return Err(ArchiveError::NoIndex { path: self.path.clone() });
        };
        let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm().name(), digest.encoded());
        let layers: Vec<String> = manifest.layers.iter().map(|layer| path(&layer.digest)).collect();
        let tags = reference.filter(|reference| reference.tag().is_some()).map(|reference| vec![reference.familiar()]);
        self.docker.push(json!({"Config": path(&manifest.config.digest), "RepoTags": tags, "Layers": layers}));
        Ok(())
    }

    /// Writes the names and gives the file its own.
    pub(super) fn finish(mut self) -> Result<(), ArchiveError> {
        let mut files = vec![("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        files.push(("index.json", go_json(&Index::new(std::mem::take(&mut self.index)))));
        if self.kind == ArchiveKind::Docker {
            files.push(("manifest.json", go_json(&self.docker)));
        }
        for (name, content) in files {
            let mut header = header(content.len() as u64, 0o644);
            self.archive.append_data(&mut header, name, content.as_slice()).map_err(|error| self.at(error))?;
        }
        let ended = self.archive.finish().and_then(|()| {
            let writer = self.archive.get_mut();
            writer.flush()?;
            fs::rename(&self.temporary, &self.path)
        });
        ended.map_err(|error| self.at(error))
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        // gone already where it was finished
        let _ = fs::remove_file(&self.temporary);
    }
}

/// With fixed owners and times: equal images give equal archives.
fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

/// Digests and counts what is read.
pub(crate) struct Verified<R> {
    pub(crate) content: R,
    pub(crate) digester: Digester,
    pub(crate) count: u64,
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.digester.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}
