//! The first difference of two layers, or of two documents.

use std::collections::HashSet;
use std::io::Read;

use onetag_dockerfile::export::rfc3339_seconds;
use onetag_oci::Descriptor;
use onetag_store::layer::{Decompressor, EntryKind, Header, LayerError, TarReader};
use onetag_store::{Error, Store};
use serde_json::Value;

/// Where two values differ, and how.
type Found = (String, String);

/// Compares the archives of two layers by their entries.
pub(super) fn layers(store: &Store, one: &Descriptor, two: &Descriptor) -> Result<Found, Error> {
    let open = |descriptor: &Descriptor| -> Result<_, Error> {
        let failed = |source| Error::Unpack { blob: descriptor.digest.clone(), source };
        let content = Decompressor::new(store.open_blob(&descriptor.digest)?, store.limits().ratio).map_err(failed)?;
        Ok(TarReader::new(content, store.limits().clone()))
    };
    let found = archives(&mut open(one)?, &mut open(two)?);
    let found = found.map_err(|source| Error::Unpack { blob: one.digest.clone(), source })?;
    Ok(found.unwrap_or_else(|| {
        ("the archive".to_owned(), format!("equal files, written as {} and {}", one.digest, two.digest))
    }))
}

fn archives(one: &mut TarReader<impl Read>, two: &mut TarReader<impl Read>) -> Result<Option<Found>, LayerError> {
    loop {
        match (one.next_entry()?, two.next_entry()?) {
            (None, None) => return Ok(None),
            (Some(left), Some(right)) if left.path == right.path => {
                let what = match attributes(&left, &right) {
                    Some(what) => Some(what),
                    None if left.kind == EntryKind::File => content(one, two)?,
                    None => None,
                };
                if let Some(what) = what {
                    return Ok(Some((path(&left), what)));
                }
            }
            (Some(left), None) => return Ok(Some((path(&left), ONLY_FIRST.to_owned()))),
            (None, Some(right)) => return Ok(Some((path(&right), ONLY_SECOND.to_owned()))),
            (Some(left), Some(right)) => return misplaced(&left, &right, two).map(Some),
        }
    }
}

const ONLY_FIRST: &str = "only in the first build";
const ONLY_SECOND: &str = "only in the second build";

/// Which of two entries that stand in the same place the other archive lacks.
fn misplaced(left: &Header, right: &Header, two: &mut TarReader<impl Read>) -> Result<Found, LayerError> {
    let mut rest = HashSet::new();
    while let Some(header) = two.next_entry()? {
        rest.insert(header.path);
    }
    Ok(match rest.contains(&left.path) {
        true => (path(right), ONLY_SECOND.to_owned()),
        false => (path(left), ONLY_FIRST.to_owned()),
    })
}

fn path(header: &Header) -> String {
    format!("/{}", String::from_utf8_lossy(&header.path).trim_start_matches('/'))
}

/// What differs of two entries but their content.
fn attributes(left: &Header, right: &Header) -> Option<String> {
    let differ = |name: &str, one: String, two: String| (one != two).then(|| format!("{name} {one}, {two}"));
    let link = |header: &Header| String::from_utf8_lossy(&header.link).into_owned();
    let xattrs = |header: &Header| {
        let attribute = |(name, value): &(Vec<u8>, Vec<u8>)| {
            format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        header.xattrs.iter().map(attribute).collect::<Vec<_>>().join(" ")
    };
    differ("type", kind(left.kind).to_owned(), kind(right.kind).to_owned())
        .or_else(|| differ("size", left.size.to_string(), right.size.to_string()))
        .or_else(|| differ("mode", format!("{:04o}", left.mode), format!("{:04o}", right.mode)))
        .or_else(|| differ("owner", format!("{}:{}", left.uid, left.gid), format!("{}:{}", right.uid, right.gid)))
        .or_else(|| differ("link target", link(left), link(right)))
        .or_else(|| differ("device", format!("{:?}", left.device), format!("{:?}", right.device)))
        .or_else(|| differ("extended attributes", xattrs(left), xattrs(right)))
        .or_else(|| differ("mtime", time(left.mtime), time(right.mtime)))
}

fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::HardLink => "hard link",
        EntryKind::Symlink => "symbolic link",
        EntryKind::CharacterDevice => "character device",
        EntryKind::BlockDevice => "block device",
        EntryKind::Directory => "folder",
        EntryKind::Fifo => "named pipe",
    }
}

fn time((seconds, nanoseconds): (i64, u32)) -> String {
    let time = rfc3339_seconds(seconds);
    if nanoseconds == 0 { time } else { format!("{time} + {nanoseconds} ns") }
}

/// The pieces of one entry's content.
struct Content<'a, R> {
    archive: &'a mut TarReader<R>,
    piece: Vec<u8>,
    position: u64,
    used: usize,
}

impl<'a, R: Read> Content<'a, R> {
    fn new(archive: &'a mut TarReader<R>) -> Self {
        Self { archive, piece: Vec::new(), position: 0, used: 0 }
    }

    /// What is left of the current piece, with its position; a new piece where nothing is.
    fn rest(&mut self) -> Result<Option<(u64, &[u8])>, LayerError> {
        if self.used == self.piece.len() {
            let Some((position, piece)) = self.archive.next_data()? else { return Ok(None) };
            (self.position, self.used) = (position, 0);
            self.piece.clear();
            self.piece.extend_from_slice(piece);
        }
        Ok(Some((self.position + self.used as u64, &self.piece[self.used..])))
    }
}

/// Where the contents of two files of equal size differ.
fn content(one: &mut TarReader<impl Read>, two: &mut TarReader<impl Read>) -> Result<Option<String>, LayerError> {
    let (mut one, mut two) = (Content::new(one), Content::new(two));
    loop {
        let length = match (one.rest()?, two.rest()?) {
            (None, None) => return Ok(None),
            (Some((position, _)), None) | (None, Some((position, _))) => return Ok(Some(at(position))),
            (Some((left, _)), Some((right, _))) if left != right => return Ok(Some(at(left.min(right)))),
            (Some((position, left)), Some((_, right))) => {
                if let Some(offset) = left.iter().zip(right).position(|(left, right)| left != right) {
                    return Ok(Some(at(position + offset as u64)));
                }
                left.len().min(right.len())
            }
        };
        one.used += length;
        two.used += length;
    }
}

fn at(offset: u64) -> String {
    format!("content from byte {offset} on")
}

/// Where two documents differ, and how.
pub(super) fn values(one: &Value, two: &Value) -> Option<Found> {
    match (one, two) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
            keys.map(|key| (key, left.get(key).unwrap_or(&Value::Null), right.get(key).unwrap_or(&Value::Null)))
                .find_map(|(key, left, right)| values(left, right).map(|found| below(key, found)))
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let mut pairs = left.iter().zip(right).enumerate();
            pairs.find_map(|(number, (left, right))| values(left, right).map(|found| below(&number.to_string(), found)))
        }
        _ if one == two => None,
        _ => Some((String::new(), format!("{one}, {two}"))),
    }
}

fn below(key: &str, (path, what): Found) -> Found {
    let path = if path.is_empty() { key.to_owned() } else { format!("{key}.{path}") };
    (path, what)
}

#[cfg(test)]
mod tests {
    use onetag_store::layer::{EntryHeader, Limits, TarWriter};
    use serde_json::json;

    use super::*;

    struct File<'a> {
        path: &'a str,
        mode: u32,
        seconds: i64,
        content: &'a [u8],
    }

    fn file<'a>(path: &'a str, mode: u32, seconds: i64, content: &'a [u8]) -> File<'a> {
        File { path, mode, seconds, content }
    }

    fn archive(files: &[File<'_>]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for file in files {
            let size = file.content.len() as u64;
            let header = EntryHeader {
                kind: EntryKind::File,
                path: file.path.as_bytes(),
                link: b"",
                mode: file.mode,
                uid: 0,
                gid: 0,
                size,
                mtime: file.seconds,
                device: (0, 0),
                xattrs: &[],
            };
            writer.header(&header).unwrap();
            writer.data(file.content).unwrap();
            writer.pad(size).unwrap();
        }
        writer.finish().unwrap()
    }

    fn difference(one: &[File<'_>], two: &[File<'_>]) -> Option<Found> {
        let open = |bytes: Vec<u8>| TarReader::new(std::io::Cursor::new(bytes), Limits::default());
        archives(&mut open(archive(one)), &mut open(archive(two))).unwrap()
    }

    fn found(path: &str, what: &str) -> Option<Found> {
        Some((path.to_owned(), what.to_owned()))
    }

    #[test]
    fn the_first_difference_is_told_by_file() {
        let base = || file("a", 0o644, 0, b"same");
        assert_eq!(difference(&[base()], &[base()]), None);
        let big: Vec<u8> = (0..600_000_u32).map(|number| number as u8).collect();
        let mut other = big.clone();
        other[500_123] ^= 1;
        let pair = [[base(), file("b", 0o644, 0, &big)], [base(), file("b", 0o644, 0, &other)]];
        assert_eq!(difference(&pair[0], &pair[1]), found("/b", "content from byte 500123 on"));
        assert_eq!(difference(&[base()], &[file("a", 0o755, 0, b"same")]), found("/a", "mode 0644, 0755"));
        assert_eq!(
            difference(&[base()], &[file("a", 0o644, 60, b"same")]),
            found("/a", "mtime 1970-01-01T00:00:00Z, 1970-01-01T00:01:00Z")
        );
        assert_eq!(difference(&[base()], &[file("a", 0o644, 0, b"longer")]), found("/a", "size 4, 6"));
    }

    #[test]
    fn a_file_of_one_build_alone_is_told() {
        let (a, b) = (|| file("a", 0o644, 0, b""), || file("b", 0o644, 0, b""));
        assert_eq!(difference(&[a(), b()], &[a()]), found("/b", ONLY_FIRST));
        assert_eq!(difference(&[b()], &[a(), b()]), found("/a", ONLY_SECOND));
        assert_eq!(difference(&[a(), b()], &[b()]), found("/a", ONLY_FIRST));
    }

    #[test]
    fn documents_are_compared_by_field() {
        let one = json!({"history": [{"created": "x"}], "os": "linux"});
        let two = json!({"history": [{"created": "y"}], "os": "linux"});
        assert_eq!(values(&one, &two), found("history.0.created", "\"x\", \"y\""));
        assert_eq!(values(&one, &one), None);
        assert_eq!(values(&json!({}), &json!({"a": 1})), found("a", "null, 1"));
    }
}
