//! Writing tar archives: the bytes that Go's `archive/tar` writes in its PAX format, which are those of BuildKit's
//! layers. ustar fields where they suffice, extended records where not.

use std::io::Write;

use super::header::{BLOCK, EntryKind};

/// The largest number that a seven-digit octal field holds.
const MAX_OCTAL_7: u64 = 0o7777777;
/// The largest number that an eleven-digit octal field holds.
const MAX_OCTAL_11: u64 = 0o77777777777;

/// An entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryHeader<'a> {
    /// What it is.
    pub kind: EntryKind,
    /// Its path without a leading `/`; folders end in `/`.
    pub path: &'a [u8],
    /// What a link names.
    pub link: &'a [u8],
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Bytes of content that follow.
    pub size: u64,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// A device's major and minor number.
    pub device: (u32, u32),
    /// Extended attributes; written in the order of their names.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Writes an archive to `output`.
pub struct TarWriter<W> {
    output: W,
}

impl<W: Write> TarWriter<W> {
    /// A writer at the beginning of an archive.
    pub fn new(output: W) -> TarWriter<W> {
        TarWriter { output }
    }

    /// Writes an entry's header. Exactly `size` bytes MUST follow through [`TarWriter::data`], then
    /// [`TarWriter::pad`].
    pub fn header(&mut self, entry: &EntryHeader<'_>) -> std::io::Result<()> {
        let records = records(entry);
        if !records.is_empty() {
            let name = extended_name(entry.path);
            let block = block(b'x', &name, b"", 0, 0, 0, records.len() as u64, 0, (0, 0));
            self.output.write_all(&block)?;
            self.output.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let flag = match entry.kind {
            EntryKind::File => b'0',
            EntryKind::HardLink => b'1',
            EntryKind::Symlink => b'2',
            EntryKind::CharacterDevice => b'3',
            EntryKind::BlockDevice => b'4',
            EntryKind::Directory => b'5',
            EntryKind::Fifo => b'6',
        };
        let fits = |value: u32| if u64::from(value) <= MAX_OCTAL_7 { value } else { 0 };
        let size = if entry.size <= MAX_OCTAL_11 { entry.size } else { 0 };
        let mtime = u64::try_from(entry.mtime).ok().filter(|&mtime| mtime <= MAX_OCTAL_11).unwrap_or(0);
        let (uid, gid) = (fits(entry.uid), fits(entry.gid));
        let (path, link) = (ascii(entry.path), ascii(entry.link));
        self.output.write_all(&block(flag, &path, &link, entry.mode, uid, gid, size, mtime, entry.device))
    }

    /// Writes content.
    pub fn data(&mut self, data: &[u8]) -> std::io::Result<()> {
        self.output.write_all(data)
    }

    /// What is written to. Content may be put there directly in place of [`TarWriter::data`].
    pub(crate) fn output(&mut self) -> &mut W {
        &mut self.output
    }

    /// Fills the last block of content of `size` bytes.
    pub fn pad(&mut self, size: u64) -> std::io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over > 0 { self.output.write_all(&[0; BLOCK][over..]) } else { Ok(()) }
    }

    /// Ends the archive and gives the output back.
    pub fn finish(mut self) -> std::io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        Ok(self.output)
    }
}

/// The extended records that an entry needs, sorted by key.
fn records(entry: &EntryHeader<'_>) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (key, value) in entry.xattrs {
        records.push(([b"SCHILY.xattr.", &key[..]].concat(), value.clone()));
    }
    let mut number = |key: &[u8], value: u64, limit: u64| {
        if value > limit {
            records.push((key.to_vec(), value.to_string().into_bytes()));
        }
    };
    number(b"uid", entry.uid.into(), MAX_OCTAL_7);
    number(b"gid", entry.gid.into(), MAX_OCTAL_7);
    number(b"size", entry.size, MAX_OCTAL_11);
    if !u64::try_from(entry.mtime).is_ok_and(|mtime| mtime <= MAX_OCTAL_11) {
        records.push((b"mtime".to_vec(), entry.mtime.to_string().into_bytes()));
    }
    for (key, text) in [(&b"path"[..], entry.path), (b"linkpath", entry.link)] {
        if text.len() > 100 || !text.is_ascii() {
            records.push((key.to_vec(), text.to_vec()));
        }
    }
    records.sort_unstable();
    records.iter().flat_map(|(key, value)| record(key, value)).collect()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// The name of an extended header's own entry: `DIR/PaxHeaders.0/FILE`.
fn extended_name(path: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let (folder, file) = slash.map_or((&b""[..], path), |slash| (&path[..=slash], &path[slash + 1..]));
    ascii(&[folder, b"PaxHeaders.0/", file].concat())
}

/// The ASCII part of a name, at most a field's length.
fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| byte.is_ascii() && *byte != 0).take(100).collect()
}

#[allow(clippy::too_many_arguments, reason = "the fields of a header block in their order")]
fn block(
    flag: u8,
    path: &[u8],
    link: &[u8],
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: u64,
    device: (u32, u32),
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..path.len()].copy_from_slice(path);
    octal(&mut block[100..108], mode.into());
    octal(&mut block[108..116], uid.into());
    octal(&mut block[116..124], gid.into());
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], mtime);
    block[156] = flag;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], device.0.into());
    octal(&mut block[337..345], device.1.into());
    block[148..156].copy_from_slice(b"        ");
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

/// Fills a field with octal digits and a zero byte at its end. The value fits, as the caller made sure.
fn octal(field: &mut [u8], mut value: u64) {
    let last = field.len() - 1;
    field[last] = 0;
    for digit in field[..last].iter_mut().rev() {
        *digit = b'0' + (value % 8) as u8;
        value /= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_lengths_count_themselves() {
        assert_eq!(record(b"path", b"a"), b"9 path=a\n");
        assert_eq!(record(b"path", b"ab"), b"11 path=ab\n");
        for length in 1..2000 {
            let record = record(b"k", &vec![b'v'; length]);
            let space = record.iter().position(|&byte| byte == b' ').unwrap_or_default();
            assert_eq!(std::str::from_utf8(&record[..space]), Ok(record.len().to_string().as_str()));
        }
    }

    #[test]
    fn extended_names() {
        assert_eq!(extended_name(b"a/b"), b"a/PaxHeaders.0/b");
        assert_eq!(extended_name(b"a/b/"), b"a/PaxHeaders.0/b");
        assert_eq!(extended_name(b"b"), b"PaxHeaders.0/b");
    }
}
