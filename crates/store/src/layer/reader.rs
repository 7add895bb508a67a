//! Reading tar archives as a stream: ustar, GNU and PAX, bounded in every respect.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};

use super::error::LayerError;
use super::header::{BLOCK, EntryKind, Header, RawHeader, number};
use super::limits::Limits;
use super::pax::Extended;
use super::sparse::{self, Piece};

/// Bytes of the buffer between the stream and its reader.
const BUFFER: usize = 256 << 10;

/// Reads entries and their content from an uncompressed archive.
///
/// Trusts nothing: every length is checked against [`Limits`] before memory is taken for it.
pub struct TarReader<R> {
    input: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes given out so far, which is the position in the archive.
    offset: u64,
    limits: Limits,
    entries: u64,
    bytes: u64,
    content: Content,
    finished: bool,
}

/// What is left of the current entry's content in the archive.
#[derive(Default)]
struct Content {
    /// Stored bytes not yet given out.
    stored: u64,
    /// Zero bytes up to the next block.
    padding: u64,
    /// Position in the file of the next stored byte.
    position: u64,
    /// For sparse files: the pieces not yet given out.
    pieces: Option<VecDeque<Piece>>,
}

impl<R: Read> TarReader<R> {
    /// A reader at the beginning of an archive.
    pub fn new(input: R, limits: Limits) -> TarReader<R> {
        TarReader {
            input,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            offset: 0,
            limits,
            entries: 0,
            bytes: 0,
            content: Content::default(),
            finished: false,
        }
    }

    /// The next entry, or `None` at the archive's end. What is left of the current content is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Header>, LayerError> {
        self.skip_content()?;
        let mut extended = Extended::default();
        let mut long_path = None;
        let mut long_link = None;
        while let Some(block) = self.block()? {
            let raw = RawHeader(&block);
            if raw.is_zero() {
                self.finished = true;
                return Ok(None);
            }
            if !raw.checksum_matches() {
                return Err(self.malformed("the header's checksum is wrong"));
            }
            match raw.type_flag() {
                b'x' => {
                    let data = self.extended_header(&raw)?;
                    extended.parse(&data).map_err(|reason| self.malformed(reason))?;
                }
                b'g' => drop(self.extended_header(&raw)?),
                b'L' => long_path = Some(self.long_name(&raw)?),
                b'K' => long_link = Some(self.long_name(&raw)?),
                _ => return self.entry(&raw, extended, long_path, long_link).map(Some),
            }
        }
        self.finished = true;
        Ok(None)
    }

    /// The next piece of the current entry's content with its position in the file, or `None` after the last.
    /// Positions that no piece covers are holes.
    pub fn next_data(&mut self) -> Result<Option<(u64, &[u8])>, LayerError> {
        let mut wanted = self.content.stored;
        if let Some(pieces) = &mut self.content.pieces {
            while pieces.front().is_some_and(|piece| piece.length == 0) {
                pieces.pop_front();
            }
            match pieces.front() {
                Some(piece) => {
                    self.content.position = piece.offset;
                    wanted = piece.length;
                }
                None => wanted = 0,
            }
        }
        if wanted == 0 {
            return Ok(None);
        }
        if self.start == self.end && !self.fill()? {
            return Err(LayerError::Truncated { what: "a file" });
        }
        let available = self.end - self.start;
        let length = usize::try_from(wanted).map_or(available, |wanted| wanted.min(available));
        let position = self.content.position;
        self.content.position += length as u64;
        self.content.stored -= length as u64;
        if let Some(piece) = self.content.pieces.as_mut().and_then(VecDeque::front_mut) {
            piece.offset += length as u64;
            piece.length -= length as u64;
        }
        let from = self.start;
        self.start += length;
        self.offset += length as u64;
        Ok(Some((position, &self.buffer[from..from + length])))
    }

    /// Reads to the end of the stream, as verifying its digest needs, and gives the stream back.
    pub fn finish(mut self) -> Result<R, LayerError> {
        if !self.finished {
            while self.next_entry()?.is_some() {}
        }
        loop {
            self.start = self.end;
            if !self.fill()? {
                return Ok(self.input);
            }
        }
    }

    fn entry(
        &mut self,
        raw: &RawHeader<'_>,
        mut extended: Extended,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Header, LayerError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(LayerError::LimitExceeded { what: "entries", limit: self.limits.entries });
        }
        let mut path = extended.path.take().or(long_path).unwrap_or_else(|| raw.path());
        if let Some(name) = extended.sparse.name.take() {
            path = name;
        }
        let link = extended.link.take().or(long_link).unwrap_or_else(|| raw.link());
        let is_gnu_sparse = raw.type_flag() == b'S';
        let kind = match raw.type_flag() {
            0 if path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharacterDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            _ => return Err(self.malformed("the entry is of an unknown type")),
        };
        let stored = match kind {
            EntryKind::File => extended.size.or(raw.size()).ok_or_else(|| self.malformed("a size is no number"))?,
            _ => 0,
        };
        self.begin_content(stored)?;
        let mut size = stored;
        if kind == EntryKind::File && (is_gnu_sparse || extended.sparse.present) {
            size = self.begin_sparse(raw, &extended, is_gnu_sparse)?;
        }
        let device = match kind {
            EntryKind::CharacterDevice | EntryKind::BlockDevice => {
                let (major, minor) = raw.device().ok_or_else(|| self.malformed("a device is no number"))?;
                (self.narrow(major)?, self.narrow(minor)?)
            }
            _ => (0, 0),
        };
        let uid = extended.uid.or(raw.uid()).ok_or_else(|| self.malformed("a user ID is no number"))?;
        let gid = extended.gid.or(raw.gid()).ok_or_else(|| self.malformed("a group ID is no number"))?;
        let mode = raw.mode().ok_or_else(|| self.malformed("a mode is no number"))?;
        let seconds = raw.mtime().ok_or_else(|| self.malformed("a time is no number"))?;
        Ok(Header {
            kind,
            path,
            link,
            mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
            uid: self.narrow(uid)?,
            gid: self.narrow(gid)?,
            size,
            mtime: extended.mtime.unwrap_or((seconds, 0)),
            device,
            xattrs: extended.xattrs,
        })
    }

    fn begin_content(&mut self, stored: u64) -> Result<(), LayerError> {
        self.bytes = self.bytes.saturating_add(stored);
        if self.bytes > self.limits.bytes {
            return Err(LayerError::LimitExceeded { what: "bytes of content", limit: self.limits.bytes });
        }
        let padding = (BLOCK as u64 - stored % BLOCK as u64) % BLOCK as u64;
        self.content = Content { stored, padding, position: 0, pieces: None };
        Ok(())
    }

    /// Prepares the content of a sparse file. Gives the file's size with its holes.
    fn begin_sparse(&mut self, raw: &RawHeader<'_>, extended: &Extended, gnu: bool) -> Result<u64, LayerError> {
        let (pieces, real_size) = if gnu {
            self.gnu_sparse(raw)?
        } else {
            let pieces =
                if extended.sparse.in_data { self.sparse_map_in_data()? } else { extended.sparse.pieces.clone() };
            (pieces, extended.sparse.real_size)
        };
        let real_size = real_size.ok_or_else(|| self.malformed("a sparse file has no size"))?;
        if real_size > self.limits.sparse_file {
            return Err(LayerError::LimitExceeded { what: "bytes in a sparse file", limit: self.limits.sparse_file });
        }
        sparse::validate(&pieces, real_size, self.content.stored).map_err(|reason| self.malformed(reason))?;
        self.content.pieces = Some(pieces.into());
        Ok(real_size)
    }

    fn gnu_sparse(&mut self, raw: &RawHeader<'_>) -> Result<(Vec<Piece>, Option<u64>), LayerError> {
        let mut pieces = Vec::new();
        let (first, mut more, real_size) = raw.gnu_sparse();
        self.gnu_pieces(first, &mut pieces)?;
        while more {
            let block = self.block()?.ok_or(LayerError::Truncated { what: "a sparse file's map" })?;
            self.gnu_pieces(&block[..504], &mut pieces)?;
            more = block[504] != 0;
            if pieces.len() > 1 << 20 {
                return Err(self.malformed("a sparse file has too many pieces"));
            }
        }
        Ok((pieces, real_size))
    }

    fn gnu_pieces(&self, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), LayerError> {
        for field in data.chunks_exact(24) {
            if field[0] == 0 {
                break;
            }
            match (number(&field[..12]), number(&field[12..])) {
                (Some(offset), Some(length)) => pieces.push(Piece { offset, length }),
                _ => return Err(self.malformed("a sparse map is no number")),
            }
        }
        Ok(())
    }

    fn sparse_map_in_data(&mut self) -> Result<Vec<Piece>, LayerError> {
        let mut map = Vec::new();
        loop {
            if self.content.stored < BLOCK as u64 || map.len() as u64 > self.limits.extended_header * 16 {
                return Err(self.malformed("a sparse file's map does not end"));
            }
            let block = self.block()?.ok_or(LayerError::Truncated { what: "a sparse file's map" })?;
            self.content.stored -= BLOCK as u64;
            map.extend_from_slice(&block);
            // Parsing anew at powers of two keeps the whole linear.
            let blocks = map.len() / BLOCK;
            let ends_here = block.ends_with(b"\0") || blocks.is_power_of_two() || self.content.stored < BLOCK as u64;
            if !ends_here && !block.ends_with(b"\n") {
                continue;
            }
            if let Some(pieces) = sparse::parse_map(&map).map_err(|reason| self.malformed(reason))? {
                return Ok(pieces);
            }
        }
    }

    /// The content of an extended header.
    fn extended_header(&mut self, raw: &RawHeader<'_>) -> Result<Vec<u8>, LayerError> {
        let size = raw.size().ok_or_else(|| self.malformed("a size is no number"))?;
        if size > self.limits.extended_header {
            let limit = self.limits.extended_header;
            return Err(LayerError::LimitExceeded { what: "bytes in an extended header", limit });
        }
        let size = usize::try_from(size).map_err(|_| self.malformed("an extended header is too long"))?;
        let mut data = Vec::with_capacity(size);
        while data.len() < size {
            let block = self.block()?.ok_or(LayerError::Truncated { what: "an extended header" })?;
            let length = (size - data.len()).min(BLOCK);
            data.extend_from_slice(&block[..length]);
        }
        Ok(data)
    }

    fn long_name(&mut self, raw: &RawHeader<'_>) -> Result<Vec<u8>, LayerError> {
        let mut name = self.extended_header(raw)?;
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn skip_content(&mut self) -> Result<(), LayerError> {
        let padding = self.content.padding;
        let mut left = self.content.stored + padding;
        self.content = Content::default();
        while left > 0 {
            if self.start == self.end && !self.fill()? {
                // Some writers leave the end of an archive out, and Go's reader does not miss it.
                if left <= padding {
                    return Ok(());
                }
                return Err(LayerError::Truncated { what: "a file" });
            }
            let available = self.end - self.start;
            let length = usize::try_from(left).map_or(available, |left| left.min(available));
            self.start += length;
            self.offset += length as u64;
            left -= length as u64;
        }
        Ok(())
    }

    /// The next block, or `None` where the stream ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        while self.end - self.start < BLOCK {
            if !self.fill()? {
                return match self.end - self.start {
                    0 => Ok(None),
                    _ => Err(LayerError::Truncated { what: "a header" }),
                };
            }
        }
        let mut block = [0; BLOCK];
        block.copy_from_slice(&self.buffer[self.start..self.start + BLOCK]);
        self.start += BLOCK;
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    /// Reads more into the buffer. Gives false at the stream's end.
    fn fill(&mut self) -> Result<bool, LayerError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(length) => {
                    self.end += length;
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(LayerError::Read(error)),
            }
        }
    }

    fn narrow(&self, value: u64) -> Result<u32, LayerError> {
        u32::try_from(value).map_err(|_| self.malformed("a number has more than 32 bits"))
    }

    fn malformed(&self, reason: &'static str) -> LayerError {
        LayerError::Malformed { offset: self.offset.saturating_sub(BLOCK as u64), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{EntryHeader, TarWriter};

    #[test]
    fn an_archive_may_end_with_its_last_file() {
        let mut archive = TarWriter::new(Vec::new());
        let header = EntryHeader {
            kind: EntryKind::File,
            path: b"file",
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 5,
            mtime: 0,
            device: (0, 0),
            xattrs: &[],
        };
        archive.header(&header).unwrap();
        archive.data(b"hello").unwrap();
        archive.pad(5).unwrap();
        let whole = archive.finish().unwrap();
        for length in [517, 518, 1023, 1024, 1536, whole.len()] {
            let mut reader = TarReader::new(&whole[..length], Limits::default());
            assert_eq!(reader.next_entry().unwrap().map(|entry| entry.size), Some(5), "{length}");
            assert!(reader.next_entry().unwrap().is_none(), "{length}");
        }
        let mut cut = TarReader::new(&whole[..516], Limits::default());
        assert!(cut.next_entry().unwrap().is_some() && cut.next_entry().is_err());
    }
}
