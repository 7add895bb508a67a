//! Where an archive is cut into blocks: at entries that are chosen by their names, so that the blocks behind a change
//! are those they were before it.

/// Bytes of a header block.
pub(super) const HEADER: usize = 512;
/// One entry in so many may begin a block.
const ONE_IN: u64 = 16;
/// The part of a block's limit that it has at least before an entry that fills a block alone, and before others.
const LEAST_BEFORE_LARGE: usize = 8;
const LEAST: usize = 2;

/// From where on a block may end; a multiple of a header's size.
pub(super) const fn first_cut(limit: usize) -> usize {
    limit / LEAST_BEFORE_LARGE
}

/// Whether a block of at most `limit` bytes ends at `position`, where `header` stands. It is asked of all that is
/// aligned as a header: what looks like one inside of a file is as good. The answer is part of the format of layers:
/// another one gives other bytes.
pub(super) fn is_cut(header: &[u8; HEADER], position: usize, limit: usize) -> bool {
    if &header[257..262] != b"ustar" {
        return false;
    }
    if position >= limit / LEAST && name_hash(&header[..100]).is_multiple_of(ONE_IN) {
        return true;
    }
    position >= first_cut(limit) && content_size(&header[124..135]) >= limit as u64
}

/// The FNV-1a hash of a name's field, its halves folded.
fn name_hash(name: &[u8]) -> u64 {
    let hash = name
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash ^ (hash >> 32)
}

/// A size in octal digits; 0 where it is written otherwise.
fn content_size(field: &[u8]) -> u64 {
    field
        .iter()
        .try_fold(0_u64, |size, &digit| matches!(digit, b'0'..=b'7').then(|| size * 8 + u64::from(digit - b'0')))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, size: u64) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[257..262].copy_from_slice(b"ustar");
        header
    }

    #[test]
    fn names_choose() {
        let limit = 1 << 20;
        let chosen = |position| {
            (0..1600).filter(move |number| is_cut(&header(&format!("usr/lib/{number}"), 7), position, limit))
        };
        let count = chosen(limit / 2).count();
        assert!((50..200).contains(&count), "{count} of 1600");
        assert_eq!(chosen(limit / 2 - HEADER).count(), 0, "too early");
    }

    #[test]
    fn large_files_begin_blocks() {
        let limit = 1 << 20;
        let large = |size, position| (0..64).all(|number| is_cut(&header(&format!("{number}"), size), position, limit));
        assert!(large(limit as u64, limit / 8));
        assert!(!large(limit as u64, limit / 8 - HEADER));
        assert!(!large(limit as u64 - 1, limit / 8));
        assert!(!is_cut(&[0; HEADER], limit / 2, limit), "no header");
    }
}
