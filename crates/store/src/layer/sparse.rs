//! Sparse files: GNU's old headers and the three PAX forms.

use super::pax::decimal;

/// How many pieces a sparse file may have.
const MAX_PIECES: usize = 1 << 20;

/// A piece of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub offset: u64,
    pub length: u64,
}

/// What extended headers say about a sparse file.
#[derive(Debug, Default, Clone)]
pub(super) struct SparseMap {
    /// The file's size with its holes.
    pub real_size: Option<u64>,
    /// The file's name, where the header holds a made-up one.
    pub name: Option<Vec<u8>>,
    /// The pieces of the forms 0.0 and 0.1.
    pub pieces: Vec<Piece>,
    /// Form 1.0: the pieces stand before the data.
    pub in_data: bool,
    major: Option<u64>,
    pending_offset: Option<u64>,
    /// Whether any record of a sparse file was seen.
    pub present: bool,
}

impl SparseMap {
    /// Takes one `GNU.sparse.` record.
    pub fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        self.present = true;
        match key {
            b"name" => self.name = (!value.is_empty() && !value.contains(&0)).then(|| value.to_vec()),
            b"size" | b"realsize" => self.real_size = Some(number(value)?),
            b"major" => {
                self.major = Some(number(value)?);
                self.in_data = self.major == Some(1);
            }
            b"offset" => self.pending_offset = Some(number(value)?),
            b"numbytes" => {
                let offset = self.pending_offset.take().ok_or("a sparse piece has no offset")?;
                self.push(Piece { offset, length: number(value)? })?;
            }
            b"map" => {
                let mut numbers = value.split(|&byte| byte == b',');
                self.pieces.clear();
                while let Some(offset) = numbers.next().filter(|text| !text.is_empty()) {
                    let length = number(numbers.next().ok_or("a sparse map has an odd number of values")?)?;
                    self.push(Piece { offset: number(offset)?, length })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, piece: Piece) -> Result<(), &'static str> {
        if self.pieces.len() >= MAX_PIECES {
            return Err("a sparse file has too many pieces");
        }
        self.pieces.push(piece);
        Ok(())
    }
}

fn number(text: &[u8]) -> Result<u64, &'static str> {
    decimal(text).ok_or("a sparse record is no number")
}

/// Parses form 1.0's map from the head of the data: a count, then offset and length of each piece, a line each,
/// padded to a block. Gives the pieces once `data` holds the whole map, and how many more pieces are awaited.
pub(super) fn parse_map(data: &[u8]) -> Result<Option<Vec<Piece>>, &'static str> {
    let mut lines = data.split_inclusive(|&byte| byte == b'\n').take_while(|line| line.ends_with(b"\n"));
    let mut next = || -> Result<Option<u64>, &'static str> {
        match lines.next() {
            Some(line) => number(&line[..line.len() - 1]).map(Some),
            None => Ok(None),
        }
    };
    let Some(count) = next()? else { return Ok(None) };
    if count > MAX_PIECES as u64 {
        return Err("a sparse file has too many pieces");
    }
    let mut pieces = Vec::new();
    for _ in 0..count {
        match (next()?, next()?) {
            (Some(offset), Some(length)) => pieces.push(Piece { offset, length }),
            _ => return Ok(None),
        }
    }
    Ok(Some(pieces))
}

/// Checks that the pieces stand in order, apart, inside the file, and hold as many bytes as the archive has.
pub(super) fn validate(pieces: &[Piece], real_size: u64, stored: u64) -> Result<(), &'static str> {
    let mut end = 0_u64;
    let mut total = 0_u64;
    for piece in pieces {
        let next = piece.offset.checked_add(piece.length).ok_or("a sparse piece is too long")?;
        if piece.offset < end || next > real_size {
            return Err("a sparse file's pieces overlap or leave the file");
        }
        end = next;
        total += piece.length;
    }
    if total != stored {
        return Err("a sparse file's pieces and its data differ in size");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_checked() {
        let piece = |offset, length| Piece { offset, length };
        assert!(validate(&[piece(0, 5), piece(10, 5)], 20, 10).is_ok());
        assert!(validate(&[piece(0, 5), piece(4, 5)], 20, 10).is_err());
        assert!(validate(&[piece(18, 5)], 20, 5).is_err());
        assert!(validate(&[piece(u64::MAX, 5)], 20, 5).is_err());
        assert!(validate(&[piece(0, 5)], 20, 6).is_err());
    }

    #[test]
    fn maps_are_read() {
        assert_eq!(parse_map(b"2\n0\n5\n10\n"), Ok(None));
        assert_eq!(parse_map(b"1\n3\n5\n\0\0"), Ok(Some(vec![Piece { offset: 3, length: 5 }])));
        assert!(parse_map(b"x\n").is_err());
    }
}
