//! Extended headers in the POSIX form (`LEN KEY=VALUE\n`), bounded.

use super::sparse::SparseMap;

/// The prefix of extended attributes among the records.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// What a set of extended headers says about the entry that follows.
#[derive(Debug, Default, Clone)]
pub(super) struct Extended {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: SparseMap,
}

impl Extended {
    /// Adds the records of one extended header. Later records win, as POSIX has it.
    pub fn parse(&mut self, mut data: &[u8]) -> Result<(), &'static str> {
        while !data.is_empty() {
            if data[0] == 0 {
                // Some writers pad the block with zeros.
                return Ok(());
            }
            let space =
                data.iter().take(20).position(|&byte| byte == b' ').ok_or("an extended record has no length")?;
            let length = decimal(&data[..space]).ok_or("an extended record has no length")?;
            let length = usize::try_from(length).map_err(|_| "an extended record is too long")?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err("an extended record has a wrong length");
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|&byte| byte == b'=').ok_or("an extended record has no value")?;
            self.record(&record[..equals], &record[equals + 1..])?;
            data = &data[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = Some(decimal(value).ok_or("an extended size is no number")?),
            b"uid" => self.uid = Some(decimal(value).ok_or("an extended user ID is no number")?),
            b"gid" => self.gid = Some(decimal(value).ok_or("an extended group ID is no number")?),
            b"mtime" => self.mtime = Some(timestamp(value).ok_or("an extended time is no number")?),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.record(key, value)?;
                }
            }
        }
        Ok(())
    }
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("an extended name holds a zero byte");
    }
    // An empty value withdraws the record.
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// An unsigned decimal number.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0_u64, |number, &digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// A time in seconds, with a sign and a fraction, as seconds and nanoseconds since 1970.
fn timestamp(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds =
        (0..9).fold(0_u32, |number, i| number * 10 + fraction.get(i).map_or(0, |digit| u32::from(digit - b'0')));
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let mut extended = Extended::default();
        extended
            .parse(b"12 path=abc\n20 mtime=-1.5000000\n25 SCHILY.xattr.user.a=b\n")
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(extended.path.as_deref(), Some(&b"abc"[..]));
        assert_eq!(extended.mtime, Some((-2, 500_000_000)));
        assert_eq!(extended.xattrs, [(b"user.a".to_vec(), b"b".to_vec())]);
    }

    #[test]
    fn damaged_records_are_refused() {
        for data in
            [&b"x"[..], b"5 a=b", b"99 a=b\n", b"0 a=b\n", b"7 ab=c\n ", b"6 abc\n", b"99999999999999999999 a=b\n"]
        {
            assert!(Extended::default().parse(data).is_err(), "{data:?}");
        }
    }
}
