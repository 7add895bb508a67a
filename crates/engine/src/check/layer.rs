//! One layer, read once as it streams by: what it adds and removes, and what its files are. Nothing of it is stored.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read};

use onetag_oci::elf::Window;
use onetag_oci::{Algorithm, Compression, Digest, Digester};
use onetag_store::layer::{Decompressor, EntryKind, LayerError, Limits, TarReader, detect, validate_path};

use super::file::{Content, END_MAX, START_MAX};
use super::tree::Entry;

/// Entries of a layer that are remembered; an image of a whole distribution has some hundred thousand.
const ENTRIES_MAX: u64 = 4_000_000;
/// Bytes that tell whether more of a file matters.
const MAGIC: usize = 512;

/// What a layer holds.
pub struct LayerContents {
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// How it is compressed.
    pub compression: Compression,
    /// Entries by path, without a slash at either end.
    entries: HashMap<Vec<u8>, LayerEntry>,
    /// Names that it removes from the layers below.
    removed: HashSet<Vec<u8>>,
    /// Folders of which nothing below shows through.
    opaque: HashSet<Vec<u8>>,
    /// The paths of its ELF files, in the archive's order.
    pub(crate) programs: Vec<Vec<u8>>,
}

enum LayerEntry {
    Is(Entry),
    /// Another name of a file of this layer or of one below.
    Same(Vec<u8>),
}

/// What a layer says of a path.
pub(crate) enum Said {
    /// There it is.
    Entry(Entry),
    /// Another name of the file at this path.
    Same(Vec<u8>),
    /// It is not there, and not below either.
    Removed,
    /// Ask the layer below.
    Nothing,
}

impl LayerContents {
    /// Reads a layer to its end, whatever compresses it. `algorithm` is that of the digest that the config has.
    ///
    /// # Errors
    /// The content is no layer, or demands more than honest ones do.
    pub fn read(stream: impl Read, algorithm: Algorithm) -> Result<Self, LayerError> {
        let mut stream = BufReader::with_capacity(64 << 10, stream);
        let compression = detect(stream.fill_buf().map_err(LayerError::Read)?)?;
        let limits = Limits { entries: ENTRIES_MAX, ..Limits::default() };
        let plain = Decompressor::new(stream, limits.ratio)?;
        let hashed = Hashed { inner: plain, digester: Digester::new(algorithm) };
        let mut archive = TarReader::new(hashed, limits.clone());
        let mut layer = Self {
            diff_id: Digest::sha256(b""),
            compression,
            entries: HashMap::new(),
            removed: HashSet::new(),
            opaque: HashSet::new(),
            programs: Vec::new(),
        };
        while let Some(header) = archive.next_entry()? {
            validate_path(&header.path, &limits)?;
            let Some(path) = clean(&header.path) else { continue };
            let entry = match header.kind {
                EntryKind::Directory => LayerEntry::Is(Entry::Directory),
                EntryKind::Symlink => LayerEntry::Is(Entry::Symlink(header.link)),
                EntryKind::HardLink => LayerEntry::Same(clean(&header.link).unwrap_or_default()),
                EntryKind::File => {
                    let content = content(&mut archive, header.size)?;
                    LayerEntry::Is(Entry::File { mode: header.mode, content })
                }
                EntryKind::CharacterDevice | EntryKind::BlockDevice | EntryKind::Fifo => LayerEntry::Is(Entry::Other),
            };
            layer.add(path, entry);
        }
        let hashed = archive.finish()?;
        layer.diff_id = hashed.digester.finish();
        hashed.inner.finish().map_err(LayerError::Read)?;
        Ok(layer)
    }

    fn add(&mut self, path: Vec<u8>, entry: LayerEntry) {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = match slash {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path.as_slice()),
        };
        if name == b".wh..wh..opq" {
            self.opaque.insert(parent.to_vec());
            return;
        }
        if name.starts_with(b".wh..wh.") {
            return;
        }
        if let Some(name) = name.strip_prefix(b".wh.") {
            let removed = if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() };
            self.removed.insert(removed);
            return;
        }
        // An archive may leave out the folders that it fills.
        let mut above = slash;
        while let Some(end) = above {
            if self.entries.contains_key(&path[..end]) {
                break;
            }
            self.entries.insert(path[..end].to_vec(), LayerEntry::Is(Entry::Directory));
            above = path[..end].iter().rposition(|byte| *byte == b'/');
        }
        if matches!(&entry, LayerEntry::Is(Entry::File { content: Content::Elf(_), .. })) {
            self.programs.push(path.clone());
        }
        self.entries.insert(path, entry);
    }

    /// What this layer says of a path (no slash at either end, no link on the way).
    pub(crate) fn say(&self, path: &[u8]) -> Said {
        match self.entries.get(path) {
            Some(LayerEntry::Is(entry)) => return Said::Entry(entry.clone()),
            Some(LayerEntry::Same(target)) => return Said::Same(target.clone()),
            None => {}
        }
        if self.removed.contains(path) {
            return Said::Removed;
        }
        let mut above = path.len();
        loop {
            let parent = path[..above].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            let folder = &path[..parent];
            let is_replaced = |entry: &LayerEntry| !matches!(entry, LayerEntry::Is(Entry::Directory));
            if self.opaque.contains(folder)
                || (parent > 0 && self.removed.contains(folder))
                || self.entries.get(folder).is_some_and(is_replaced)
            {
                return Said::Removed;
            }
            if parent == 0 {
                return Said::Nothing;
            }
            above = parent;
        }
    }

    /// The ELF file at one of [`LayerContents::programs`], while the layer itself still has it there.
    pub(crate) fn program(&self, path: &[u8]) -> Option<&onetag_oci::elf::Program> {
        match self.entries.get(path) {
            Some(LayerEntry::Is(Entry::File { content: Content::Elf(program), .. })) => Some(program),
            _ => None,
        }
    }

    /// Its ELF files: path without a slash in front, and what they are.
    pub fn elf_files(&self) -> impl Iterator<Item = (&[u8], &onetag_oci::elf::Program)> {
        self.programs.iter().filter_map(|path| Some((path.as_slice(), self.program(path)?)))
    }

    /// Whether the file at a path may be executed by anybody.
    pub(crate) fn is_executable(&self, path: &[u8]) -> bool {
        matches!(self.entries.get(path), Some(LayerEntry::Is(Entry::File { mode, .. })) if mode & 0o111 != 0)
    }
}

/// A path without empty components, `.` and `..`; `None` for the root. Paths that leave the layer were refused before.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join(&b'/'))
}

/// What the current file of an archive is. Reads no further than it takes to tell.
fn content<R: Read>(archive: &mut TarReader<R>, size: u64) -> Result<Content, LayerError> {
    let (mut start, mut end) = (Vec::new(), Vec::new());
    let end_offset = size.saturating_sub(END_MAX as u64);
    while let Some((position, piece)) = archive.next_data()? {
        // Holes of sparse files read as zeros.
        let hole = position.min(START_MAX as u64) as usize;
        if start.len() < hole {
            start.resize(hole, 0);
        }
        let room = START_MAX - start.len();
        start.extend_from_slice(&piece[..piece.len().min(room)]);
        if start.len() >= MAGIC && !Content::wants_end(&start) {
            break;
        }
        let skipped = end_offset.saturating_sub(position);
        if skipped < piece.len() as u64 && end_offset > 0 {
            let from = position.max(end_offset) - end_offset;
            // Both fit: they are less than what the end may hold.
            end.resize(end.len().max(from as usize), 0);
            end.extend_from_slice(&piece[skipped as usize..]);
        }
    }
    let window = match start.len() as u64 == size {
        true => Window::whole(&start),
        false => Window::ends(&start, &end, end_offset),
    };
    Ok(Content::of(&window, &start))
}

/// Hashes what is read through it.
struct Hashed<R> {
    inner: R,
    digester: Digester,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.digester.update(&buffer[..length]);
        Ok(length)
    }
}
