//! Compression of layers: blocks, compressed in parallel, written in order. The bytes depend on the content and the
//! options alone, never on the number of threads, nor on how the content was handed over.
//!
//! A block is what was compressed before when its content is: then the bytes are taken from where they are.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

pub use onetag_oci::Compression;
use onetag_oci::{Algorithm, Digest, Digester};

use super::block::{self, BlockKey, KnownBlocks};
use super::cut::{HEADER, first_cut, is_cut};

/// Most uncompressed bytes of a gzip member. Changing it changes every digest.
const GZIP_BLOCK: usize = 1 << 20;
/// Most uncompressed bytes of a zstd frame. Changing it changes every digest.
const ZSTD_BLOCK: usize = 4 << 20;

/// The gzip level where none is asked for (libdeflate's scale, 0 to 12): layers of the size that zlib makes at its
/// level 6, give or take two hundredths, in two thirds of the time that libdeflate's level 6 takes.
pub const DEFAULT_GZIP_LEVEL: i32 = 4;
/// The zstd level where none is asked for.
pub const DEFAULT_ZSTD_LEVEL: i32 = 3;

/// How a layer is to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompressionOptions {
    /// The format.
    pub compression: Compression,
    /// The level on the format's own scale; gzip 0 to 9 as buildx has it (up to 12 is accepted), zstd 1 to 22.
    pub level: Option<i32>,
}

impl Default for CompressionOptions {
    fn default() -> CompressionOptions {
        CompressionOptions { compression: Compression::Gzip, level: None }
    }
}

impl CompressionOptions {
    /// The level that is really used.
    pub fn effective_level(&self) -> i32 {
        match self.compression {
            Compression::None => 0,
            Compression::Gzip => self.level.unwrap_or(DEFAULT_GZIP_LEVEL).clamp(0, 12),
            Compression::Zstd => self.level.unwrap_or(DEFAULT_ZSTD_LEVEL).clamp(1, 22),
        }
    }

    /// The OCI media type of a layer compressed so.
    pub fn media_type(&self) -> &'static str {
        match self.compression {
            Compression::None => onetag_oci::media_type::OCI_LAYER,
            Compression::Gzip => onetag_oci::media_type::OCI_LAYER_GZIP,
            Compression::Zstd => onetag_oci::media_type::OCI_LAYER_ZSTD,
        }
    }

    fn limit(&self) -> usize {
        match self.compression {
            Compression::Gzip | Compression::None => GZIP_BLOCK,
            Compression::Zstd => ZSTD_BLOCK,
        }
    }
}

/// A block of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its key.
    pub key: BlockKey,
    /// Bytes of its compressed form.
    pub compressed: u32,
}

/// What a [`Compressor`] gives in the end.
pub struct Compressed<W> {
    /// What was written to.
    pub output: W,
    /// The digest of the uncompressed bytes.
    pub digest: Digest,
    /// How many uncompressed bytes there were.
    pub size: u64,
    /// The blocks in order, where known ones were looked for.
    pub(crate) blocks: Vec<Block>,
}

/// Compresses what is written to it into `output`. [`Compressor::finish`] MUST be called at the end. Buffers go round:
/// fresh memory for each block would cost as much as a tenth of its compression.
pub struct Compressor<W: Write> {
    output: W,
    options: CompressionOptions,
    known: Option<Arc<dyn KnownBlocks>>,
    digester: Digester,
    size: u64,
    buffers: Buffers,
    /// Bytes of the open block, always less than its limit.
    filled: usize,
    /// Up to where in the open block a cut was looked for.
    examined: usize,
    waiting: VecDeque<Receiver<io::Result<Done>>>,
    spare: Vec<Buffers>,
    blocks: Vec<Block>,
    submitted: u64,
}

/// The content of a block, and what it is compressed to. Both are as long as was ever needed.
struct Buffers {
    content: Vec<u8>,
    compressed: Vec<u8>,
}

/// A block that was compressed.
struct Done {
    buffers: Buffers,
    compressed: usize,
    /// Absent where nobody wants to know.
    key: Option<BlockKey>,
}

impl<W: Write> Compressor<W> {
    /// A compressor at the beginning of a layer.
    pub fn new(output: W, options: CompressionOptions) -> Compressor<W> {
        Compressor {
            output,
            options,
            known: None,
            digester: Digester::new(Algorithm::Sha256),
            size: 0,
            buffers: Buffers::new(options.limit()),
            filled: 0,
            examined: first_cut(options.limit()),
            waiting: VecDeque::new(),
            spare: Vec::new(),
            blocks: Vec::new(),
            submitted: 0,
        }
    }

    /// The same compressor, which looks for blocks that were compressed before.
    pub(crate) fn with_known(self, known: Arc<dyn KnownBlocks>) -> Compressor<W> {
        Compressor { known: Some(known), ..self }
    }

    /// Where the next bytes may be put instead of being written; never empty. [`Compressor::advance`] tells how many
    /// were.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffers.content[self.filled..self.options.limit()]
    }

    /// Takes `length` bytes that were put into [`Compressor::space`].
    pub fn advance(&mut self, length: usize) -> io::Result<()> {
        let limit = self.options.limit();
        self.filled = limit.min(self.filled + length);
        while let Some(header) = self.unexamined_header() {
            if is_cut(header, self.examined, limit) {
                self.submit(self.examined)?;
            } else {
                self.examined += HEADER;
            }
        }
        if self.filled == limit { self.submit(limit) } else { Ok(()) }
    }

    /// What stands where a cut is to be looked for next, if it is there already.
    fn unexamined_header(&self) -> Option<&[u8; HEADER]> {
        self.buffers.content[..self.filled].get(self.examined..)?.first_chunk()
    }

    /// Writes what is left and gives the output back.
    pub fn finish(mut self) -> io::Result<Compressed<W>> {
        if self.filled > 0 {
            self.submit(self.filled)?;
        }
        while !self.waiting.is_empty() {
            self.collect()?;
        }
        Ok(Compressed { output: self.output, digest: self.digester.finish(), size: self.size, blocks: self.blocks })
    }

    /// Closes the open block after `length` bytes; the next one begins with the others.
    fn submit(&mut self, length: usize) -> io::Result<()> {
        while self.waiting.len() > rayon::current_num_threads() {
            self.collect()?;
        }
        let mut next = self.spare.pop().unwrap_or_else(|| Buffers::new(self.options.limit()));
        let rest = &self.buffers.content[length..self.filled];
        next.content[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
        self.examined = first_cut(self.options.limit());
        let buffers = mem::replace(&mut self.buffers, next);
        self.digester.update(&buffers.content[..length]);
        self.size += length as u64;
        if self.options.compression == Compression::None {
            self.output.write_all(&buffers.content[..length])?;
            self.spare.push(buffers);
            return Ok(());
        }
        let (options, known, is_first) = (self.options, self.known.clone(), self.submitted == 0);
        self.submitted += 1;
        let (sender, receiver) = sync_channel(1);
        rayon::spawn_fifo(move || {
            // A receiver that is gone means that the whole layer was given up.
            let _ = sender.send(buffers.compress(length, options, known.as_deref(), is_first));
        });
        self.waiting.push_back(receiver);
        Ok(())
    }

    /// Writes the first of the blocks that are waited for.
    fn collect(&mut self) -> io::Result<()> {
        let Some(receiver) = self.waiting.pop_front() else { return Ok(()) };
        let done = receiver.recv().map_err(|_| io::Error::other("a compression task ended without a result"))??;
        self.output.write_all(&done.buffers.compressed[..done.compressed])?;
        self.spare.push(done.buffers);
        if let Some(key) = done.key {
            self.blocks.push(Block { key, compressed: u32::try_from(done.compressed).unwrap_or(u32::MAX) });
        }
        Ok(())
    }
}

impl Buffers {
    fn new(limit: usize) -> Buffers {
        Buffers { content: vec![0; limit], compressed: Vec::new() }
    }

    /// Compresses the first `length` bytes. The first block of a layer is not looked for: of a small layer there is no
    /// other, and nothing would be won.
    fn compress(
        mut self,
        length: usize,
        options: CompressionOptions,
        known: Option<&dyn KnownBlocks>,
        is_first: bool,
    ) -> io::Result<Done> {
        let content = &self.content[..length];
        let key = known.is_some().then(|| BlockKey::of(content));
        let before = match (known, key) {
            (Some(known), Some(key)) if !is_first => known.find(key, &mut self.compressed),
            _ => None,
        };
        let is_form = |length: &usize| block::is_form_of(&self.compressed[..*length], content, options.compression);
        let compressed = match before.filter(is_form) {
            Some(length) => length,
            None => block::compress(content, options, &mut self.compressed)?,
        };
        Ok(Done { buffers: self, compressed, key })
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let space = self.space();
        let length = data.len().min(space.len());
        space[..length].copy_from_slice(&data[..length]);
        self.advance(length)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::super::{EntryHeader, EntryKind, TarWriter};
    use super::*;

    /// An archive of files of these sizes, with content that compresses a little.
    fn archive(sizes: &[usize]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for (number, &size) in sizes.iter().enumerate() {
            let path = format!("folder-{}/file-{number}", number / 10);
            let header = EntryHeader {
                kind: EntryKind::File,
                path: path.as_bytes(),
                link: b"",
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: size as u64,
                mtime: 7,
                device: (0, 0),
                xattrs: &[],
            };
            writer.header(&header).unwrap();
            let content: Vec<u8> = (0..size).map(|position| ((position * (number + 3)) >> 5) as u8).collect();
            writer.data(&content).unwrap();
            writer.pad(size as u64).unwrap();
        }
        writer.finish().unwrap()
    }

    fn compressed(
        archive: &[u8],
        options: CompressionOptions,
        known: Option<Arc<dyn KnownBlocks>>,
    ) -> Compressed<Vec<u8>> {
        let mut compressor = Compressor::new(Vec::new(), options);
        if let Some(known) = known {
            compressor = compressor.with_known(known);
        }
        compressor.write_all(archive).unwrap();
        compressor.finish().unwrap()
    }

    /// Knows nothing.
    struct Nothing;

    impl KnownBlocks for Nothing {
        fn find(&self, _: BlockKey, _: &mut Vec<u8>) -> Option<usize> {
            None
        }
    }

    fn ends(blocks: &[Block]) -> Vec<u64> {
        blocks
            .iter()
            .scan(0, |end, block| {
                *end += u64::from(block.key.length);
                Some(*end)
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn the_bytes_do_not_depend_on_how_they_came(
            sizes in proptest::collection::vec(0_usize..300_000, 1..60),
            pieces in proptest::collection::vec(1_usize..400_000, 1..20),
        ) {
            let archive = archive(&sizes);
            let options = CompressionOptions { compression: Compression::Gzip, level: Some(1) };
            let whole = compressed(&archive, options, None);
            let mut compressor = Compressor::new(Vec::new(), options);
            let mut rest = &archive[..];
            for piece in pieces.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let space = compressor.space();
                let length = rest.len().min(*piece).min(space.len());
                space[..length].copy_from_slice(&rest[..length]);
                compressor.advance(length).unwrap();
                rest = &rest[length..];
            }
            let parts = compressor.finish().unwrap();
            prop_assert!(whole.output == parts.output);
            prop_assert_eq!(whole.digest, Digest::sha256(&archive));
            prop_assert_eq!((parts.digest, parts.size), (Digest::sha256(&archive), archive.len() as u64));
        }
    }

    #[test]
    fn blocks_behind_a_change_are_those_before_it() {
        let options = CompressionOptions { compression: Compression::Gzip, level: Some(1) };
        let mut sizes: Vec<usize> = (0..1500_usize).map(|number| 20_000 + number * 7919 % 9_000).collect();
        sizes[700] = 5 << 20;
        let before = compressed(&archive(&sizes), options, Some(Arc::new(Nothing))).blocks;
        sizes[100] += 10_000;
        let after = compressed(&archive(&sizes), options, Some(Arc::new(Nothing))).blocks;
        let shared = after.iter().filter(|block| before.contains(block)).count();
        assert!(after.len() > 30 && shared + 6 >= after.len(), "{shared} of {}", after.len());
        assert!(ends(&after).windows(2).all(|pair| pair[1] - pair[0] <= GZIP_BLOCK as u64));
    }

    /// Gives for every block the same bytes, or one that another level made of the archive.
    struct Given {
        blocks: Vec<(BlockKey, Vec<u8>)>,
        asked: AtomicUsize,
    }

    impl KnownBlocks for Given {
        fn find(&self, key: BlockKey, output: &mut Vec<u8>) -> Option<usize> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let (_, form) = self.blocks.iter().find(|(known, _)| *known == key)?;
            output.clone_from(form);
            Some(form.len())
        }
    }

    #[test]
    fn a_known_form_is_taken_when_it_is_one() {
        let archive = archive(&[400_000; 12]);
        for compression in [Compression::Gzip, Compression::Zstd] {
            let fast = CompressionOptions { compression, level: Some(1) };
            let small = CompressionOptions { compression, level: Some(9) };
            let other = compressed(&archive, small, Some(Arc::new(Nothing)));
            let mut position = 0;
            let mut blocks: Vec<_> = Vec::new();
            for block in &other.blocks {
                let end = position + block.compressed as usize;
                blocks.push((block.key, other.output[position..end].to_vec()));
                position = end;
            }
            assert_eq!(position, other.output.len());
            let expected = |given: &[(BlockKey, Vec<u8>)]| {
                let alone = compressed(&archive, fast, Some(Arc::new(Nothing)));
                let first = alone.output[..alone.blocks[0].compressed as usize].to_vec();
                given[1..].iter().fold(first, |all, (_, form)| [all, form.clone()].concat())
            };
            let known = Arc::new(Given { blocks: blocks.clone(), asked: AtomicUsize::new(0) });
            let taken = compressed(&archive, fast, Some(Arc::clone(&known) as Arc<dyn KnownBlocks>));
            assert_eq!(known.asked.load(Ordering::Relaxed), blocks.len() - 1);
            assert!(taken.output == expected(&blocks), "{compression:?}");
            // What does not expand to the block is as if it were not known.
            for (_, form) in &mut blocks {
                let middle = form.len() / 2;
                form.truncate(middle);
            }
            let damaged = Arc::new(Given { blocks, asked: AtomicUsize::new(0) });
            assert!(compressed(&archive, fast, Some(damaged)).output == compressed(&archive, fast, None).output);
        }
    }
}
