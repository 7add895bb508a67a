//! One block of a tar header, read: the old, the ustar and the GNU forms.

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// Another name of a file written before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A folder.
    Directory,
    /// A named pipe.
    Fifo,
}

/// An entry of an archive, extended headers applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: EntryKind,
    /// Its path as written, a folder's `/` at the end included.
    pub path: Vec<u8>,
    /// What a link names, as written.
    pub link: Vec<u8>,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Bytes of content as a reader of the file sees them, holes included.
    pub size: u64,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// A device's major and minor number.
    pub device: (u32, u32),
    /// Extended attributes in the archive's order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The fields of one block as it stands.
pub(super) struct RawHeader<'a>(pub &'a [u8; BLOCK]);

impl<'a> RawHeader<'a> {
    /// Whether the block is all zeros, which ends an archive.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|&byte| byte == 0)
    }

    /// Whether the block's checksum is right; both the unsigned sum and old writers' signed one count.
    pub fn checksum_matches(&self) -> bool {
        let Some(expected) = octal(&self.0[148..156]) else { return false };
        let mut unsigned = 0_u64;
        let mut signed = 0_i64;
        for (index, &byte) in self.0.iter().enumerate() {
            let byte = if (148..156).contains(&index) { b' ' } else { byte };
            unsigned += u64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        unsigned == expected || u64::try_from(signed) == Ok(expected)
    }

    pub fn type_flag(&self) -> u8 {
        self.0[156]
    }

    fn is_ustar(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = if self.is_ustar() { text(&self.0[345..500]) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub fn mode(&self) -> Option<u64> {
        number(&self.0[100..108])
    }

    pub fn uid(&self) -> Option<u64> {
        number(&self.0[108..116])
    }

    pub fn gid(&self) -> Option<u64> {
        number(&self.0[116..124])
    }

    pub fn size(&self) -> Option<u64> {
        number(&self.0[124..136])
    }

    pub fn mtime(&self) -> Option<i64> {
        signed_number(&self.0[136..148])
    }

    pub fn device(&self) -> Option<(u64, u64)> {
        Some((number(&self.0[329..337])?, number(&self.0[337..345])?))
    }

    /// The four pieces of an old GNU sparse header, whether more blocks follow, and the real size.
    pub fn gnu_sparse(&self) -> (&'a [u8], bool, Option<u64>) {
        (&self.0[386..482], self.0[482] != 0, number(&self.0[483..495]))
    }
}

/// A field up to its first zero byte.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number in octal or, with the highest bit set, in base 256; negative ones are refused.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    u64::try_from(signed_number(field)?).ok()
}

fn signed_number(field: &[u8]) -> Option<i64> {
    if field.first().is_some_and(|byte| byte & 0x80 != 0) {
        let negative = field[0] & 0x40 != 0;
        let first = if negative { field[0] } else { field[0] & 0x7f };
        let start = if negative { -1_i128 << 8 | i128::from(first) } else { i128::from(first) };
        let value = field[1..].iter().try_fold(start, |value, &byte| {
            let next = (value << 8) | i128::from(byte);
            (next.unsigned_abs() < 1 << 100).then_some(next)
        })?;
        return i64::try_from(value).ok();
    }
    octal(field).and_then(|value| i64::try_from(value).ok())
}

/// An octal number between spaces and zero bytes; nothing at all is zero.
fn octal(field: &[u8]) -> Option<u64> {
    let is_padding = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let rest = &field[start..];
    let end = rest.iter().position(is_padding).unwrap_or(rest.len());
    rest[..end].iter().try_fold(0_u64, |value, &digit| {
        if !(b'0'..=b'7').contains(&digit) {
            return None;
        }
        value.checked_mul(8)?.checked_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_every_form() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(signed_number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(number(b"00006x4\0"), None);
        assert_eq!(number(&[0x80, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    }
}
