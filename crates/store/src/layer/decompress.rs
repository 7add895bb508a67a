//! Decompression of layers, chosen by the content's first bytes and never by what a media type claims.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;
use onetag_oci::Compression;

use super::error::LayerError;

/// Bytes of compressed content read at a time.
const BUFFER: usize = 256 << 10;

/// Below this many bytes of archive no ratio is judged.
const RATIO_FREE: u64 = 64 << 20;

/// The memory that an xz stream may demand, in KiB: what level 9 needs, twice.
const XZ_MEMORY: u32 = 128 << 10;

/// The largest window that a zstd frame may demand: 2^27 bytes, what `zstd -d` accepts by itself.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How content is compressed, as its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

fn format_of(head: &[u8]) -> Format {
    match head {
        [0x1f, 0x8b, ..] => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zstd,
        // A skippable frame, which seekable zstd may begin with.
        [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50 => Format::Zstd,
        [b'B', b'Z', b'h', ..] => Format::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        _ => Format::None,
    }
}

/// Tells how a layer is compressed from its first bytes (six suffice).
///
/// # Errors
/// Compressions that tar programs know but images do not use, by name.
pub fn detect(head: &[u8]) -> Result<Compression, LayerError> {
    match format_of(head) {
        Format::None => Ok(Compression::None),
        Format::Gzip => Ok(Compression::Gzip),
        Format::Zstd => Ok(Compression::Zstd),
        Format::Bzip2 => Err(LayerError::UnsupportedCompression { name: "bzip2" }),
        Format::Xz => Err(LayerError::UnsupportedCompression { name: "xz" }),
    }
}

/// A stream of an archive's uncompressed bytes, whatever it was compressed with.
pub struct Decompressor<R: Read> {
    decoder: Decoder<R>,
    produced: u64,
    ratio: u64,
}

type Counted<R> = BufReader<CountingReader<R>>;

enum Decoder<R: Read> {
    None(Counted<R>),
    Gzip(Box<MultiGzDecoder<Counted<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Counted<R>>>),
    Bzip2(bzip2::bufread::MultiBzDecoder<Counted<R>>),
    Xz(Box<lzma_rust2::XzReader<Counted<R>>>),
}

impl<R: Read> Decompressor<R> {
    /// Begins to decompress a layer. `ratio` bounds how many times the output may exceed the input.
    pub fn new(input: R, ratio: u64) -> Result<Decompressor<R>, LayerError> {
        let (input, head) = begin(input)?;
        detect(&head)?;
        Decompressor::with_format(input, format_of(&head), ratio)
    }

    /// As [`Decompressor::new`] for archives that are no layers: bzip2 and xz are read as well.
    pub fn of_archive(input: R, ratio: u64) -> Result<Decompressor<R>, LayerError> {
        let (input, head) = begin(input)?;
        Decompressor::with_format(input, format_of(&head), ratio)
    }

    fn with_format(input: Counted<R>, format: Format, ratio: u64) -> Result<Decompressor<R>, LayerError> {
        let decoder = match format {
            Format::None => Decoder::None(input),
            Format::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
            Format::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(LayerError::Read)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(LayerError::Read)?;
                Decoder::Zstd(Box::new(decoder))
            }
            Format::Bzip2 => Decoder::Bzip2(bzip2::bufread::MultiBzDecoder::new(input)),
            Format::Xz => Decoder::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY))),
        };
        Ok(Decompressor { decoder, produced: 0, ratio })
    }

    fn input(&mut self) -> &mut Counted<R> {
        match &mut self.decoder {
            Decoder::None(input) => input,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Zstd(decoder) => decoder.get_mut(),
            Decoder::Bzip2(decoder) => decoder.get_mut(),
            Decoder::Xz(decoder) => decoder.inner_mut(),
        }
    }

    /// Reads what stands behind the compressed data, so that a digest over the input covers all of it, and gives
    /// the input back.
    pub fn finish(mut self) -> io::Result<R> {
        io::copy(self.input(), &mut io::sink())?;
        let buffered = match self.decoder {
            Decoder::None(input) => input,
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.finish(),
            Decoder::Bzip2(decoder) => decoder.into_inner(),
            Decoder::Xz(decoder) => decoder.into_inner(),
        };
        Ok(buffered.into_inner().input)
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = match &mut self.decoder {
            Decoder::None(input) => input.read(buffer)?,
            Decoder::Gzip(decoder) => decoder.read(buffer)?,
            Decoder::Zstd(decoder) => decoder.read(buffer)?,
            Decoder::Bzip2(decoder) => decoder.read(buffer)?,
            Decoder::Xz(decoder) => decoder.read(buffer)?,
        };
        self.produced += length as u64;
        if self.produced > RATIO_FREE {
            let consumed = self.input().get_ref().count.max(1);
            if self.produced / consumed > self.ratio {
                let limit = LayerError::LimitExceeded { what: "times its compressed size", limit: self.ratio };
                return Err(io::Error::other(limit));
            }
        }
        Ok(length)
    }
}

fn begin<R: Read>(input: R) -> Result<(Counted<R>, Vec<u8>), LayerError> {
    let mut input = BufReader::with_capacity(BUFFER, CountingReader { input, count: 0 });
    let head = peek(&mut input).map_err(LayerError::Read)?;
    Ok((input, head))
}

/// Fills the buffer until a magic number can be told; short content is given as it is.
fn peek<R: Read>(input: &mut Counted<R>) -> io::Result<Vec<u8>> {
    // The first read of a pipe or socket may be short, but never of less than a magic number in practice; one
    // byte at a time is the only case that needs more, and `fill_buf` cannot give it.
    loop {
        match input.fill_buf() {
            Ok(head) => return Ok(head[..head.len().min(8)].to_vec()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Counts what is read through it. Fills each request as far as the stream allows, so that the first buffer
/// always holds a whole magic number.
struct CountingReader<R> {
    input: R,
    count: u64,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let enough = buffer.len().min(8);
        let mut filled = 0;
        loop {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if filled == 0 => return Err(error),
                Err(_) => break,
            }
            if filled >= enough {
                break;
            }
        }
        self.count += filled as u64;
        Ok(filled)
    }
}
