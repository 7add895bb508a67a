//! What an archive says a tree looks like once it is applied.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use onetag_oci::{Algorithm, Digest, Digester};

use crate::layer::{AUFS_PREFIX, EntryKind, Header, LayerError, OPAQUE_WHITEOUT, TarReader, WHITEOUT_PREFIX};

/// An entry as it should be.
#[derive(Debug, Clone)]
pub(super) enum Expected {
    /// A folder.
    Directory(Box<Header>),
    /// A file with the digest of its content.
    File(Box<Header>, Digest),
    /// A symlink.
    Symlink(Box<Header>),
    /// Another name of a path.
    HardLink(PathBuf),
    /// A removal.
    Whiteout,
    /// A pipe or device, which may have been left out.
    Special,
}

/// Reads an archive to its end. Gives what it makes, by path.
pub(super) fn expectations(archive: &mut TarReader<impl Read>) -> Result<BTreeMap<PathBuf, Expected>, LayerError> {
    let mut expected = BTreeMap::new();
    while let Some(header) = archive.next_entry()? {
        let path = clean(&header.path);
        if path.as_os_str().is_empty() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().as_bytes();
        if let Some(removed) = name.strip_prefix(WHITEOUT_PREFIX) {
            if name != OPAQUE_WHITEOUT && !name.starts_with(AUFS_PREFIX) {
                let removed = path.with_file_name(OsStr::from_bytes(removed));
                expected.entry(removed).or_insert(Expected::Whiteout);
            }
            continue;
        }
        if header.kind != EntryKind::Directory {
            forget_below(&mut expected, &path);
        }
        let entry = match header.kind {
            EntryKind::Directory => Expected::Directory(Box::new(header)),
            EntryKind::Symlink => Expected::Symlink(Box::new(header)),
            EntryKind::HardLink => Expected::HardLink(clean(&header.link)),
            EntryKind::File => {
                let digest = content(archive, header.size)?;
                Expected::File(Box::new(header), digest)
            }
            EntryKind::CharacterDevice | EntryKind::BlockDevice | EntryKind::Fifo => Expected::Special,
        };
        expected.insert(path, entry);
    }
    Ok(expected)
}

/// The digest of the current content, holes of sparse files as zeros.
fn content(archive: &mut TarReader<impl Read>, size: u64) -> Result<Digest, LayerError> {
    let mut digester = Digester::new(Algorithm::Sha256);
    let mut position = 0;
    let zeros = |digester: &mut Digester, mut count: u64| {
        while count > 0 {
            let length = usize::try_from(count).map_or(ZEROS.len(), |count| count.min(ZEROS.len()));
            digester.update(&ZEROS[..length]);
            count -= length as u64;
        }
    };
    while let Some((offset, data)) = archive.next_data()? {
        zeros(&mut digester, offset.saturating_sub(position));
        digester.update(data);
        position = offset + data.len() as u64;
    }
    zeros(&mut digester, size.saturating_sub(position));
    Ok(digester.finish())
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What replaces a folder takes away what was below it.
fn forget_below(expected: &mut BTreeMap<PathBuf, Expected>, path: &Path) {
    if matches!(expected.get(path), Some(Expected::Directory(_))) {
        expected.retain(|known, _| known == path || !known.starts_with(path));
    }
}

/// A path of the archive without `.` and `..`; the archive was applied, so it stays inside.
fn clean(path: &[u8]) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(clean.pop()),
            name => clean.push(OsStr::from_bytes(name)),
        }
    }
    clean
}
