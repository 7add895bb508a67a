//! The files of a result, in a folder of the host or as a plain archive.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use onetag_oci::{Algorithm, Digest, Digester};
use onetag_store::layer::{EntryHeader, EntryKind, TarWriter};
use onetag_store::tree::{Leaf, MergedTree, Metadata, Node};
use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps, UTIME_OMIT};
use serde_json::Value;

use super::assemble::{Attest, Part};
use super::options::{Destination, Target};
use super::{ExportError, ExportOptions};
use crate::layers::{Layers, unheard};
use crate::provenance::{ProvenanceVersion, file_statement};

/// What is written of one platform.
struct FileSet {
    /// The folder that it gets; empty for the output itself.
    folder: String,
    /// The files.
    tree: MergedTree,
    /// The name and the content of the statement about them.
    statement: Option<(String, Vec<u8>)>,
}

/// Writes the files of all parts: those of several platforms into folders of their own, unless asked otherwise. A
/// statement about the files goes beside them.
pub(crate) fn write_files(
    layers: &Layers,
    parts: &[Part<'_>],
    options: &ExportOptions,
    attest: Option<&Attest<'_>>,
) -> Result<(), ExportError> {
    let split = options.platform_split.unwrap_or(parts.len() > 1);
    let mut trees = Vec::with_capacity(parts.len());
    for (position, part) in parts.iter().enumerate() {
        let platform = part.lowered.image.platform().format_all().replace('/', "_");
        let tree = layers.tree(&part.snapshot, &unheard)?;
        let prefix = &options.attestation_prefix;
        let name = match split || parts.len() == 1 {
            true => format!("{prefix}provenance.json"),
            false => format!("{prefix}provenance.{platform}.json"),
        };
        let statement = match attest {
            Some(attest) => {
                let predicate = (attest.predicate)(position, &part.snapshot, &[])?;
                Some((name, statement_of_files(attest.version, &predicate, &tree)?))
            }
            None => None,
        };
        trees.push(FileSet { folder: if split { platform } else { String::new() }, tree, statement });
    }
    let latest = if options.rewrite_timestamp { parts.iter().find_map(|part| part.lowered.epoch) } else { None };
    match &options.target {
        Target::Files(path) => trees.iter().try_for_each(|set| write_folder(&path.join(&set.folder), set, latest)),
        Target::Tar(Destination::Path(path)) => {
            let failed = |source| ExportError::Write { path: path.clone(), source };
            let mut output = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
            write_tar(&mut output, &trees, latest, path)?;
            output.flush().map_err(failed)
        }
        Target::Tar(Destination::Stream(stream)) => {
            let mut stream = stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let path = Path::new("-");
            write_tar(&mut **stream, &trees, latest, path)?;
            stream.flush().map_err(|source| ExportError::Write { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Write { path: path.clone(), source }
}

/// The statement that a predicate holds for the regular files of a tree, each named by its path.
fn statement_of_files(
    version: ProvenanceVersion,
    predicate: &Value,
    tree: &MergedTree,
) -> Result<Vec<u8>, ExportError> {
    let mut files = Vec::new();
    for entry in tree.walk(Path::new("/"))? {
        let entry = entry?;
        let Node::Leaf(leaf) = &entry.node else { continue };
        if leaf.metadata()?.file_type != FileType::RegularFile {
            continue;
        }
        files.push((entry.path.display().to_string(), digest_of(leaf.open_confirmed()?).map_err(at(&entry.path))?));
    }
    Ok(file_statement(version, predicate, &files))
}

fn digest_of(mut content: impl Read) -> std::io::Result<Digest> {
    let mut digester = Digester::new(Algorithm::Sha256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(digester.finish()),
            length => digester.update(&buffer[..length]),
        }
    }
}

fn write_folder(root: &Path, set: &FileSet, latest: Option<i64>) -> Result<(), ExportError> {
    let tree = &set.tree;
    std::fs::create_dir_all(root).map_err(at(root))?;
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut folders: Vec<(PathBuf, Metadata)> = Vec::new();
    for entry in tree.walk(Path::new("/"))? {
        let entry = entry?;
        if entry.path.as_os_str().is_empty() {
            continue;
        }
        let path = root.join(&entry.path);
        let metadata = entry.node.metadata()?;
        match &entry.node {
            Node::Directory(_) => {
                match std::fs::create_dir(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(at(&path)(error)),
                    _ => {}
                }
                folders.push((path, metadata));
            }
            Node::Leaf(leaf) => {
                if let Ok(old) = std::fs::symlink_metadata(&path)
                    && !old.is_dir()
                {
                    std::fs::remove_file(&path).map_err(at(&path))?;
                }
                if metadata.links > 1 && metadata.file_type == FileType::RegularFile {
                    if let Some(first) = links.get(&metadata.inode) {
                        std::fs::hard_link(first, &path).map_err(at(&path))?;
                        continue;
                    }
                    links.insert(metadata.inode, path.clone());
                }
                write_leaf(leaf, &metadata, &path)?;
                set_time(&path, &metadata, latest)?;
            }
        }
    }
    if let Some((name, content)) = &set.statement {
        let path = root.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(&path)(error)),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(at(&path))?;
        file.write_all(content).map_err(at(&path))?;
    }
    // What is inside is written: now the folders may become unwritable, and keep their times.
    for (path, metadata) in folders.iter().rev() {
        std::fs::set_permissions(path, PermissionsExt::from_mode(metadata.mode)).map_err(at(path))?;
        set_time(path, metadata, latest)?;
    }
    Ok(())
}

fn write_leaf(leaf: &Leaf, metadata: &Metadata, path: &Path) -> Result<(), ExportError> {
    match metadata.file_type {
        FileType::RegularFile => {
            let mut options = File::options();
            let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(at(path))?;
            let mut content = leaf.open_confirmed()?;
            std::io::copy(&mut content, &mut file).map_err(at(path))?;
            file.set_permissions(PermissionsExt::from_mode(metadata.mode)).map_err(at(path))
        }
        FileType::Symlink => std::os::unix::fs::symlink(leaf.read_link()?, path).map_err(at(path)),
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
            let mode = rustix::fs::Mode::from_raw_mode(metadata.mode);
            let made = rustix::fs::mknodat(CWD, path, metadata.file_type, mode, metadata.rdev);
            made.map_err(|errno| at(path)(errno.into()))
        }
        // Sockets mean nothing outside the step that made them.
        FileType::Socket | FileType::Directory | FileType::Unknown => Ok(()),
    }
}

fn set_time(path: &Path, metadata: &Metadata, latest: Option<i64>) -> Result<(), ExportError> {
    let (seconds, nanoseconds) = clamp(metadata.mtime, latest);
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    };
    match rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        // A socket was not made.
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(at(path)(errno.into())),
    }
}

fn clamp(mtime: (i64, u32), latest: Option<i64>) -> (i64, u32) {
    match latest {
        Some(latest) if mtime > (latest, 0) => (latest, 0),
        _ => mtime,
    }
}

fn write_tar(
    output: &mut dyn Write,
    trees: &[FileSet],
    latest: Option<i64>,
    destination: &Path,
) -> Result<(), ExportError> {
    let mut archive = TarWriter::new(output);
    for FileSet { folder, tree, statement } in trees {
        let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        for entry in tree.walk(Path::new("/"))? {
            let entry = entry?;
            let relative = match entry.path.as_os_str().is_empty() {
                true => PathBuf::from(folder),
                false => Path::new(folder).join(&entry.path),
            };
            if relative.as_os_str().is_empty() {
                continue;
            }
            write_entry(&mut archive, &relative, &entry.node, latest, &mut links, destination)?;
        }
        if let Some((name, content)) = statement {
            let path = Path::new(folder).join(name);
            write_statement(&mut archive, &path, content, latest).map_err(at(destination))?;
        }
    }
    archive.finish().map_err(at(destination))?;
    Ok(())
}

fn write_statement(
    archive: &mut TarWriter<&mut dyn Write>,
    path: &Path,
    content: &[u8],
    mtime: Option<i64>,
) -> std::io::Result<()> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let size = content.len() as u64;
    archive.header(&EntryHeader {
        kind: EntryKind::File,
        path: path.as_os_str().as_bytes(),
        link: &[],
        mode: 0o600,
        uid: 0,
        gid: 0,
        size,
        mtime: mtime.unwrap_or_else(|| i64::try_from(now()).unwrap_or(0)),
        device: (0, 0),
        xattrs: &Vec::new(),
    })?;
    archive.data(content)?;
    archive.pad(size)
}

fn write_entry(
    archive: &mut TarWriter<&mut dyn Write>,
    relative: &Path,
    node: &Node,
    latest: Option<i64>,
    links: &mut HashMap<(u64, u64), Vec<u8>>,
    destination: &Path,
) -> Result<(), ExportError> {
    let metadata = node.metadata()?;
    let xattrs = node.xattrs()?;
    let mut path: OsString = relative.as_os_str().to_owned();
    let mut link = Vec::new();
    let mut size = 0;
    let kind = match (metadata.file_type, node) {
        (FileType::Directory, _) => {
            path.push("/");
            EntryKind::Directory
        }
        (FileType::RegularFile, _) => match links.get(&metadata.inode) {
            Some(first) if metadata.links > 1 => {
                link.clone_from(first);
                EntryKind::HardLink
            }
            _ => {
                links.insert(metadata.inode, path.as_bytes().to_vec());
                size = metadata.size;
                EntryKind::File
            }
        },
        (FileType::Symlink, Node::Leaf(leaf)) => {
            link = leaf.read_link()?.as_os_str().as_bytes().to_vec();
            EntryKind::Symlink
        }
        (FileType::Fifo, _) => EntryKind::Fifo,
        (FileType::CharacterDevice, _) => EntryKind::CharacterDevice,
        (FileType::BlockDevice, _) => EntryKind::BlockDevice,
        _ => return Ok(()),
    };
    let header = EntryHeader {
        kind,
        path: path.as_bytes(),
        link: &link,
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        size,
        mtime: clamp(metadata.mtime, latest).0,
        device: (rustix::fs::major(metadata.rdev), rustix::fs::minor(metadata.rdev)),
        xattrs: &xattrs,
    };
    archive.header(&header).map_err(at(destination))?;
    if let (EntryKind::File, Node::Leaf(leaf)) = (kind, node) {
        copy_content(archive, leaf, size).map_err(at(destination))?;
    }
    Ok(())
}

/// Exactly `size` bytes of a file, filled up with zeros where it has become shorter.
fn copy_content(archive: &mut TarWriter<&mut dyn Write>, leaf: &Leaf, size: u64) -> std::io::Result<()> {
    let mut reader = leaf.open_confirmed().map_err(std::io::Error::other)?;
    let mut buffer = vec![0; 256 << 10];
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let length = reader.read(&mut buffer[..wanted])?;
        if length == 0 {
            buffer.fill(0);
            archive.data(&buffer[..wanted])?;
            left -= wanted as u64;
            continue;
        }
        archive.data(&buffer[..length])?;
        left -= length as u64;
    }
    // The end is where a file that changed is found out.
    while reader.read(&mut buffer)? > 0 {}
    archive.pad(size)
}
