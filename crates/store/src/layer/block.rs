//! One block of an archive as a whole gzip member or zstd frame.

use std::cell::RefCell;
use std::io;

use onetag_oci::Compression;

use super::compress::CompressionOptions;

/// What tells a block from others at a glance. Equal blocks have equal keys; different ones may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    /// CRC-32 of the content.
    pub crc: u32,
    /// Bytes of content.
    pub length: u32,
}

impl BlockKey {
    pub fn of(content: &[u8]) -> BlockKey {
        let mut crc = libdeflater::Crc::new();
        crc.update(content);
        // A block has at most a few MiB.
        BlockKey { crc: crc.sum(), length: u32::try_from(content.len()).unwrap_or(u32::MAX) }
    }
}

/// Blocks that were compressed before.
pub(crate) trait KnownBlocks: Send + Sync {
    /// Puts the compressed form of a block with this key, as it is believed to be, at the beginning of `output`, which
    /// grows where it has to. Gives its bytes. Whoever asks looks whether it is that.
    fn find(&self, key: BlockKey, output: &mut Vec<u8>) -> Option<usize>;
}

thread_local! {
    /// The compressors of a thread, each with the level that it was made for: making one costs as much as a tenth of
    /// a block.
    static GZIP: RefCell<Option<(i32, libdeflater::Compressor)>> = const { RefCell::new(None) };
    static ZSTD: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    /// What a known block is expanded to.
    static EXPANDED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Compresses a block into the beginning of `output`, which grows where it has to. Gives the bytes written.
pub(super) fn compress(content: &[u8], options: CompressionOptions, output: &mut Vec<u8>) -> io::Result<usize> {
    let level = options.effective_level();
    match options.compression {
        Compression::None => {
            output.clear();
            output.extend_from_slice(content);
            Ok(content.len())
        }
        Compression::Gzip => GZIP.with_borrow_mut(|kept| {
            let mut compressor = match kept.take().filter(|(made_for, _)| *made_for == level) {
                Some((_, compressor)) => compressor,
                None => {
                    let level =
                        libdeflater::CompressionLvl::new(level).map_err(|_| io::Error::other("no such gzip level"))?;
                    libdeflater::Compressor::new(level)
                }
            };
            at_least(output, compressor.gzip_compress_bound(content.len()));
            let length = compressor.gzip_compress(content, output).map_err(io::Error::other)?;
            *kept = Some((level, compressor));
            Ok(length)
        }),
        Compression::Zstd => ZSTD.with_borrow_mut(|kept| {
            let mut compressor = match kept.take().filter(|(made_for, _)| *made_for == level) {
                Some((_, compressor)) => compressor,
                None => zstd::bulk::Compressor::new(level)?,
            };
            at_least(output, zstd::zstd_safe::compress_bound(content.len()));
            let length = compressor.compress_to_buffer(content, &mut output[..])?;
            *kept = Some((level, compressor));
            Ok(length)
        }),
    }
}

/// Makes a buffer large enough. A new one is not touched before it is written to.
pub(crate) fn at_least(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        *buffer = vec![0; length];
    }
}

/// Whether this is a compressed form of a block, and nothing more.
pub(super) fn is_form_of(compressed: &[u8], content: &[u8], compression: Compression) -> bool {
    EXPANDED.with_borrow_mut(|expanded| {
        // A byte more than there should be would show.
        at_least(expanded, content.len() + 1);
        let output = &mut expanded[..=content.len()];
        let length = match compression {
            Compression::None => return compressed == content,
            Compression::Gzip => libdeflater::Decompressor::new().gzip_decompress(compressed, output).ok(),
            Compression::Zstd => zstd::bulk::decompress_to_buffer(compressed, output).ok(),
        };
        length == Some(content.len()) && output[..content.len()] == *content
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_from_what_is_none() {
        let content: Vec<u8> = (0..100_000_u32).map(|number| (number / 7) as u8).collect();
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            let mut output = Vec::new();
            let options = CompressionOptions { compression, level: None };
            let length = compress(&content, options, &mut output).unwrap();
            let compressed = &output[..length];
            assert!(is_form_of(compressed, &content, compression));
            assert!(!is_form_of(compressed, &content[1..], compression));
            assert!(!is_form_of(compressed, &[&content[..], b"x"].concat(), compression), "more than there is");
            assert!(!is_form_of(&compressed[..length - 1], &content, compression), "cut");
            for position in (0..length).step_by(length / 50 + 1).skip(1) {
                let mut damaged = compressed.to_vec();
                damaged[position] ^= 0x10;
                let mut again = vec![0; content.len() + 1];
                let is_alike = is_form_of(&damaged, &content, compression);
                let expands = match compression {
                    Compression::Gzip => libdeflater::Decompressor::new().gzip_decompress(&damaged, &mut again).ok(),
                    Compression::Zstd => zstd::bulk::decompress_to_buffer(&damaged, &mut again[..]).ok(),
                    Compression::None => None,
                };
                assert_eq!(is_alike, expands.is_some_and(|length| again[..length] == content), "{position}");
            }
        }
    }
}
