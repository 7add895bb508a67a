//! Compression of layers: fixed blocks, compressed in parallel, written in order. The bytes depend on the content
//! and the options alone, never on the number of threads.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, sync_channel};

pub use onetag_oci::Compression;

/// Uncompressed bytes of a gzip member. Changing it changes every digest.
const GZIP_BLOCK: usize = 1 << 20;
/// Uncompressed bytes of a zstd frame. Changing it changes every digest.
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

    fn block(&self) -> usize {
        match self.compression {
            Compression::Gzip => GZIP_BLOCK,
            Compression::None | Compression::Zstd => ZSTD_BLOCK,
        }
    }
}

type Compressed = io::Result<Vec<u8>>;

/// Compresses what is written to it into `output`. [`Compressor::finish`] MUST be called at the end.
pub struct Compressor<W: Write> {
    output: W,
    options: CompressionOptions,
    block: Vec<u8>,
    waiting: VecDeque<Receiver<Compressed>>,
    in_flight: usize,
}

impl<W: Write> Compressor<W> {
    /// A compressor at the beginning of a layer.
    pub fn new(output: W, options: CompressionOptions) -> Compressor<W> {
        let in_flight = rayon::current_num_threads() + 1;
        let block = Vec::with_capacity(if options.compression == Compression::None { 0 } else { options.block() });
        Compressor { output, options, block, waiting: VecDeque::new(), in_flight }
    }

    /// Writes what is left and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.submit()?;
        }
        while !self.waiting.is_empty() {
            self.collect()?;
        }
        Ok(self.output)
    }

    fn submit(&mut self) -> io::Result<()> {
        while self.waiting.len() >= self.in_flight {
            self.collect()?;
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(self.options.block()));
        let options = self.options;
        let (sender, receiver) = sync_channel(1);
        rayon::spawn_fifo(move || {
            // A receiver that is gone means that the whole layer was given up.
            let _ = sender.send(compress_block(&block, options));
        });
        self.waiting.push_back(receiver);
        Ok(())
    }

    fn collect(&mut self) -> io::Result<()> {
        let Some(receiver) = self.waiting.pop_front() else { return Ok(()) };
        let compressed =
            receiver.recv().map_err(|_| io::Error::other("a compression task ended without a result"))??;
        self.output.write_all(&compressed)
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.options.compression == Compression::None {
            self.output.write_all(data)?;
            return Ok(data.len());
        }
        let limit = self.options.block();
        let mut rest = data;
        while !rest.is_empty() {
            let length = rest.len().min(limit - self.block.len());
            self.block.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
            if self.block.len() == limit {
                self.submit()?;
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

thread_local! {
    /// The compressors of a thread, each with the level that it was made for: making one costs as much as a tenth of
    /// a block.
    static GZIP: RefCell<Option<(i32, libdeflater::Compressor)>> = const { RefCell::new(None) };
    static ZSTD: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
}

/// One block as a whole gzip member or zstd frame.
fn compress_block(block: &[u8], options: CompressionOptions) -> Compressed {
    let level = options.effective_level();
    match options.compression {
        Compression::None => Ok(block.to_vec()),
        Compression::Gzip => GZIP.with_borrow_mut(|kept| {
            let mut compressor = match kept.take().filter(|(made_for, _)| *made_for == level) {
                Some((_, compressor)) => compressor,
                None => {
                    let level =
                        libdeflater::CompressionLvl::new(level).map_err(|_| io::Error::other("no such gzip level"))?;
                    libdeflater::Compressor::new(level)
                }
            };
            let mut output = vec![0; compressor.gzip_compress_bound(block.len())];
            let length = compressor.gzip_compress(block, &mut output).map_err(io::Error::other)?;
            output.truncate(length);
            *kept = Some((level, compressor));
            Ok(output)
        }),
        Compression::Zstd => ZSTD.with_borrow_mut(|kept| {
            let mut compressor = match kept.take().filter(|(made_for, _)| *made_for == level) {
                Some((_, compressor)) => compressor,
                None => zstd::bulk::Compressor::new(level)?,
            };
            let output = compressor.compress(block)?;
            *kept = Some((level, compressor));
            Ok(output)
        }),
    }
}
