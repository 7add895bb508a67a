//! Archives made for tests with another writer than ours.

use std::io::Write;

use onetag_oci::{DiffId, Digest};
use onetag_store::Store;
use onetag_store::layer::Limits;

/// An archive in the making.
pub struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    pub fn new() -> Archive {
        Archive(tar::Builder::new(Vec::new()))
    }

    pub fn entry(mut self, kind: tar::EntryType, path: &str, mode: u32, link: &str, content: &[u8]) -> Archive {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        if link.is_empty() {
            self.0.append_data(&mut header, path, content).unwrap();
        } else {
            self.0.append_link(&mut header, path, link).unwrap();
        }
        self
    }

    pub fn file(self, path: &str, content: &[u8]) -> Archive {
        self.entry(tar::EntryType::Regular, path, 0o644, "", content)
    }

    pub fn directory(self, path: &str, mode: u32) -> Archive {
        self.entry(tar::EntryType::Directory, path, mode, "", b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Archive {
        self.entry(tar::EntryType::Symlink, path, 0o777, target, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Archive {
        self.entry(tar::EntryType::Link, path, 0o644, target, b"")
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Stores an archive as an uncompressed layer blob.
pub fn put(store: &Store, archive: &[u8]) -> (DiffId, Digest) {
    let digest = Digest::sha256(archive);
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(archive).unwrap();
    writer.finish(Some(&digest), Some(archive.len() as u64)).unwrap();
    (DiffId(digest.clone()), digest)
}

/// Stores and unpacks an archive.
pub fn unpack(store: &Store, archive: Archive) -> DiffId {
    let (diff_id, blob) = put(store, &archive.bytes());
    store.ensure_layer(&diff_id, &blob, onetag_oci::media_type::OCI_LAYER).unwrap();
    diff_id
}

/// The paths of an archive with the type of each entry, in order.
pub fn list(archive: &[u8]) -> Vec<String> {
    let mut reader = onetag_store::layer::TarReader::new(archive, Limits::default());
    let mut paths = Vec::new();
    while let Some(header) = reader.next_entry().unwrap() {
        paths.push(String::from_utf8_lossy(&header.path).into_owned());
    }
    paths
}
