//! Image archives as places to read images from: entries are found by their offsets, nothing is unpacked.
//!
//! An OCI archive is an image layout in a tar. Docker's archive has a `manifest.json` that names a config and layers
//! for each image; its manifest is made of them, unless the archive is a layout too and holds the original.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use onetag_oci::{
    DEFAULT_DOCUMENT_LIMIT, Descriptor, Digest, Digester, Document, ImageConfig, Index, Manifest, ManifestDocument,
    Reference, media_type,
};
use onetag_registry::BlobSource;
use onetag_store::layer::{Compression, Decompressor, detect};
use onetag_store::{IMAGE_NAME, REF_NAME};
use serde::Deserialize;
use thiserror::Error;

use super::location::ArchiveKind;

/// An archive may be this many times as large as its compressed form.
const RATIO: u64 = 1000;
/// Links of old archives lead this far.
const LINKS: usize = 8;
/// Indexes in indexes are followed this deep when an image's original manifest is looked for.
const DEPTH: usize = 4;

/// Why an archive could not be read or written.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The file system did not play along, or the file is no tar.
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
    /// A document of the archive is none.
    #[error("{name} of {} cannot be used", path.display())]
    Document {
        /// The archive.
        path: PathBuf,
        /// The document.
        name: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Something that the archive names is not in it.
    #[error("{} is no image archive of this kind: {name} is not in it", path.display())]
    Missing {
        /// The archive.
        path: PathBuf,
        /// What is missing.
        name: String,
    },
    /// A blob is not what its name says.
    #[error("{digest} of {} has digest {actual}", path.display())]
    Digest {
        /// The archive.
        path: PathBuf,
        /// The name.
        digest: Digest,
        /// What its content has.
        actual: Digest,
    },
    /// A blob is longer or shorter than its descriptor says.
    #[error("{digest} has {actual} bytes instead of {expected}")]
    Size {
        /// The blob.
        digest: Digest,
        /// The size in its descriptor.
        expected: u64,
        /// Its size.
        actual: u64,
    },
    /// Docker's archive holds one platform of each image.
    #[error("{} cannot hold an index: Docker's archive has one platform of each image", path.display())]
    NoIndex {
        /// The archive.
        path: PathBuf,
    },
}

/// Where content lies in the file: offset and length in bytes.
type Place = (u64, u64);

/// An opened archive.
struct ImageArchive {
    path: PathBuf,
    file: Arc<File>,
    entries: HashMap<String, Place>,
    links: HashMap<String, String>,
}

/// One image of Docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images of an archive, in the terms of a layout.
pub(crate) struct ArchiveView {
    /// The names, as entries of a layout's index.
    pub(crate) index: Index,
    /// Documents that the archive does not hold under their digest.
    made: HashMap<Digest, Vec<u8>>,
    /// Blobs that the archive holds under other names.
    placed: HashMap<Digest, Place>,
    archive: ImageArchive,
}

impl ArchiveView {
    /// Opens an archive. A compressed one is decompressed to an unnamed file in `scratch`.
    pub(crate) fn open(kind: ArchiveKind, path: &Path, scratch: &Path) -> Result<Self, ArchiveError> {
        let archive = ImageArchive::open(path, scratch)?;
        let mut view = Self { index: Index::new(Vec::new()), made: HashMap::new(), placed: HashMap::new(), archive };
        match kind {
            ArchiveKind::Oci => view.index = view.archive.json("index.json")?,
            ArchiveKind::Docker => view.read_docker()?,
        }
        Ok(view)
    }

    fn read_docker(&mut self) -> Result<(), ArchiveError> {
        let images: Vec<DockerEntry> = self.archive.json("manifest.json")?;
        let originals = self.originals();
        for image in images {
            let config = self.archive.need(&image.config)?;
            let bytes = self.archive.read(config, &image.config)?;
            let digest = Digest::sha256(&bytes);
            let mut entry = match originals.get(&digest) {
                Some(original) => original.clone(),
                None => self.make_manifest(&image, bytes, config)?,
            };
            let tags = image.repo_tags.unwrap_or_default();
            for tag in &tags {
                entry.annotations.insert(REF_NAME.to_owned(), tag.clone());
                self.index.manifests.push(entry.clone());
            }
            if tags.is_empty() {
                self.index.manifests.push(entry);
            }
        }
        Ok(())
    }

    /// A manifest of the config and the layers as they lie there.
    fn make_manifest(
        &mut self,
        image: &DockerEntry,
        bytes: Vec<u8>,
        config: Place,
    ) -> Result<Descriptor, ArchiveError> {
        let archive = &self.archive;
        let digest = Digest::sha256(&bytes);
        let parsed: ImageConfig = serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Document {
            path: archive.path.clone(),
            name: image.config.clone(),
            source,
        })?;
        let mut layers = Vec::new();
        for name in image.layers.iter().flatten() {
            let place = archive.need(name)?;
            let (digest, kind) = archive.layer(place)?;
            layers.push(Descriptor::new(kind, digest.clone(), place.1));
            self.placed.insert(digest, place);
        }
        self.placed.insert(digest.clone(), config);
        let config = Descriptor::new(media_type::OCI_CONFIG, digest, config.1);
        let manifest = Document::from_value(Manifest::new(config, layers));
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, manifest.digest().clone(), manifest.size())
            .with_platform(parsed.platform().normalize());
        self.made.insert(manifest.digest().clone(), manifest.into_bytes());
        Ok(descriptor)
    }

    /// Manifests of an archive that is a layout too, by the digests of their configs. What cannot be read is none.
    fn originals(&self) -> HashMap<Digest, Descriptor> {
        let mut found = HashMap::new();
        let Ok(index) = self.archive.json::<Index>("index.json") else { return found };
        let mut todo: Vec<(Descriptor, usize)> = index.manifests.into_iter().map(|entry| (entry, 0)).collect();
        while let Some((mut entry, depth)) = todo.pop() {
            let Some(bytes) = self.read(&entry.digest, DEFAULT_DOCUMENT_LIMIT as u64).ok().flatten() else { continue };
            match ManifestDocument::parse(bytes, None) {
                Ok(ManifestDocument::Index(index)) if depth < DEPTH => {
                    todo.extend(index.into_value().manifests.into_iter().map(|child| (child, depth + 1)));
                }
                Ok(ManifestDocument::Manifest(manifest)) => {
                    entry.annotations.clear();
                    found.insert(manifest.config.digest.clone(), entry);
                }
                _ => {}
            }
        }
        found
    }

    /// A blob of at most `limit` bytes, verified; none where the archive does not hold it.
    pub(crate) fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        if let Some(bytes) = self.made.get(digest) {
            return Ok(Some(bytes.clone()));
        }
        let Some(place) = self.place(digest) else { return Ok(None) };
        if place.1 > limit {
            return Err(ArchiveError::Size { digest: digest.clone(), expected: limit, actual: place.1 });
        }
        let bytes = self.archive.read(place, digest.as_str())?;
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(ArchiveError::Digest { path: self.archive.path.clone(), digest: digest.clone(), actual });
        }
        Ok(Some(bytes))
    }

    /// A blob's size in bytes; none where the archive does not hold it.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        self.made.get(digest).map(|bytes| bytes.len() as u64).or_else(|| self.place(digest).map(|place| place.1))
    }

    /// A blob to read more than once; none where the archive does not hold it. Its content is not verified.
    pub(crate) fn source(&self, digest: &Digest) -> Option<Box<dyn BlobSource>> {
        let (start, size) = self.place(digest)?;
        Some(Box::new(Slice { file: self.archive.file.clone(), start, size }))
    }

    fn place(&self, digest: &Digest) -> Option<Place> {
        let name = format!("blobs/{}/{}", digest.algorithm().name(), digest.encoded());
        self.archive.find(&name).or_else(|| self.placed.get(digest).copied())
    }
}

impl ImageArchive {
    fn open(path: &Path, scratch: &Path) -> Result<Self, ArchiveError> {
        let at = |action, source| ArchiveError::Io { action, path: path.to_owned(), source };
        let mut file = File::open(path).map_err(|error| at("open", error))?;
        let mut head = [0; 512];
        let count = read_up_to(&mut file, &mut head).map_err(|error| at("read", error))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| at("read", error))?;
        if !matches!(detect(&head[..count]), Ok(Compression::None)) {
            file = decompress(file, scratch).map_err(|error| at("decompress", error))?;
        }
        let mut found = Self {
            path: path.to_owned(),
            file: Arc::new(file.try_clone().map_err(|error| at("open", error))?),
            entries: HashMap::new(),
            links: HashMap::new(),
        };
        found.list(file).map_err(|error| at("read", error))?;
        Ok(found)
    }

    /// Notes where every file lies.
    fn list(&mut self, file: File) -> io::Result<()> {
        let mut archive = tar::Archive::new(file);
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    self.entries.insert(name, (entry.raw_file_position(), entry.size()));
                }
                kind @ (tar::EntryType::Link | tar::EntryType::Symlink) => {
                    let target = entry.link_name_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                    let target = resolve(&name, &target.unwrap_or_default(), kind == tar::EntryType::Link);
                    self.links.insert(name, target);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<Place> {
        let mut name = name.trim_start_matches("./").to_owned();
        for _ in 0..LINKS {
            if let Some(found) = self.entries.get(&name) {
                return Some(*found);
            }
            name.clone_from(self.links.get(&name)?);
        }
        None
    }

    fn need(&self, name: &str) -> Result<Place, ArchiveError> {
        self.find(name).ok_or_else(|| ArchiveError::Missing { path: self.path.clone(), name: name.to_owned() })
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, ArchiveError> {
        let bytes = self.read(self.need(name)?, name)?;
        serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Document {
            path: self.path.clone(),
            name: name.to_owned(),
            source,
        })
    }

    /// A document; larger ones than any has a reason to be are refused.
    fn read(&self, place: Place, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let at = |source| ArchiveError::Io { action: "read", path: self.path.join(name), source };
        let length = usize::try_from(place.1).ok().filter(|length| *length <= 64 << 20);
        let length = length.ok_or_else(|| at(io::Error::other(format!("{} bytes are too many", place.1))))?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, place.0).map_err(at)?;
        Ok(bytes)
    }

    /// A layer's digest, and the media type that its first bytes tell.
    fn layer(&self, place: Place) -> Result<(Digest, &'static str), ArchiveError> {
        let at = |source| ArchiveError::Io { action: "read", path: self.path.clone(), source };
        let slice = Slice { file: self.file.clone(), start: place.0, size: place.1 };
        let mut content = slice.open(0).map_err(at)?;
        let mut digester = Digester::new(onetag_oci::Algorithm::Sha256);
        let mut buffer = vec![0; 256 << 10];
        let mut kind = None;
        loop {
            let count = read_up_to(&mut content, &mut buffer).map_err(at)?;
            kind.get_or_insert_with(|| match detect(&buffer[..count.min(512)]) {
                Ok(Compression::Gzip) => media_type::OCI_LAYER_GZIP,
                Ok(Compression::Zstd) => media_type::OCI_LAYER_ZSTD,
                _ => media_type::OCI_LAYER,
            });
            if count == 0 {
                return Ok((digester.finish(), kind.unwrap_or(media_type::OCI_LAYER)));
            }
            digester.update(&buffer[..count]);
        }
    }
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

/// The plain archive in a file that has no name any more.
fn decompress(file: File, scratch: &Path) -> io::Result<File> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = scratch.join(format!("archive.{}.{number}", std::process::id()));
    let mut plain = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    let mut content = Decompressor::of_archive(file, RATIO).map_err(io::Error::other)?;
    io::copy(&mut content, &mut plain)?;
    plain.flush()?;
    plain.seek(SeekFrom::Start(0))?;
    Ok(plain)
}

/// Where a link of the archive leads: old archives share layers by symbolic links among their folders.
pub(crate) fn resolve(name: &str, target: &str, is_hard: bool) -> String {
    if is_hard {
        return target.trim_start_matches("./").to_owned();
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether a name of an archive or layout is the one that was asked for: as written, or the same reference.
pub(crate) fn is_name(entry: &Descriptor, wanted: &str) -> bool {
    let full = |name: &str| Reference::parse(name).ok().map(|name| name.with_default_tag().to_string());
    let known = [REF_NAME, IMAGE_NAME].into_iter().filter_map(|key| entry.annotations.get(key));
    known.into_iter().any(|known| {
        known == wanted || known.contains(['/', ':']) && full(known).is_some_and(|known| full(wanted) == Some(known))
    })
}

/// A part of a file.
struct Slice {
    file: Arc<File>,
    start: u64,
    size: u64,
}

impl BlobSource for Slice {
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let offset = offset_bytes.min(self.size);
        Ok(Box::new(SliceReader {
            file: self.file.clone(),
            position: self.start.saturating_add(offset),
            left: self.size - offset,
        }))
    }

    fn size(&self) -> u64 {
        self.size
    }
}

struct SliceReader {
    file: Arc<File>,
    position: u64,
    left: u64,
}

impl Read for SliceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..length], self.position)?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
