//! Byte ranges: `Range` and `Content-Range` of downloads (RFC 9110, section 14) and the protocol's own form for uploads.

/// What a `Range` header asks of content of a known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    /// No range, or one that a server may ignore: send everything.
    Whole,
    /// Bytes from the first to the last position, both included.
    Part {
        /// Position of the first byte.
        first: u64,
        /// Position of the last byte.
        last: u64,
    },
    /// Nothing of the content lies in the range: status 416.
    Unsatisfiable,
}

/// Reads a `Range` header against content of `size_bytes`.
///
/// Several ranges at once and units other than bytes are ignored, as RFC 9110 allows.
pub fn parse_request(value: &str, size_bytes: u64) -> Requested {
    let Some(ranges) = value.trim().strip_prefix("bytes=") else {
        return Requested::Whole;
    };
    if ranges.contains(',') {
        return Requested::Whole;
    }
    let Some((first, last)) = ranges.split_once('-') else {
        return Requested::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => {
            if suffix == 0 || size_bytes == 0 {
                return Requested::Unsatisfiable;
            }
            Requested::Part { first: size_bytes.saturating_sub(suffix), last: size_bytes - 1 }
        }
        (Some(first), None) if last.is_empty() => part(first, u64::MAX, size_bytes),
        (Some(first), Some(last)) => part(first, last, size_bytes),
        _ => Requested::Whole,
    }
}

fn part(first: u64, last: u64, size_bytes: u64) -> Requested {
    if first >= size_bytes || last < first {
        return Requested::Unsatisfiable;
    }
    Requested::Part { first, last: last.min(size_bytes - 1) }
}

/// Reads the `Content-Range` of an uploaded chunk, `<first>-<last>`; `bytes ` before and `/size` behind it are tolerated.
pub fn parse_chunk(value: &str) -> Option<(u64, u64)> {
    let value = value.trim();
    let value = value.strip_prefix("bytes").unwrap_or(value);
    let value = value.trim_start_matches([' ', '=']);
    let value = value.split_once('/').map_or(value, |(range, _)| range);
    let (first, last) = value.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (last >= first).then_some((first, last))
}

/// Reads the `Range` header of an upload's status, `0-<last>`, as the number of bytes that arrived.
///
/// `0-0` stands for both none and one byte; callers that need to know compare with what they sent.
pub fn parse_received(value: &str) -> Option<u64> {
    let value = value.trim();
    let value = value.strip_prefix("bytes=").unwrap_or(value);
    let last = value.strip_prefix("0-")?;
    if last == "-1" {
        return Some(0);
    }
    number(last)?.checked_add(1)
}

/// Writes the `Range` header of an upload's status.
pub fn format_received(received_bytes: u64) -> String {
    format!("0-{}", received_bytes.saturating_sub(1))
}

/// Reads `Content-Range: bytes <first>-<last>/<size>` of a partial answer: first, last, and the size when it is told.
pub fn parse_content(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let value = value.trim().strip_prefix("bytes")?.trim_start();
    let (range, size) = value.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let size = match size.trim() {
        "*" => None,
        size => Some(number(size)?),
    };
    (last >= first && size.is_none_or(|size| last < size)).then_some((first, last, size))
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_of_downloads() {
        let part = |first, last| Requested::Part { first, last };
        for (value, wanted) in [
            ("bytes=500-1499", part(500, 1499)),
            ("bytes=500-", part(500, 2047)),
            ("bytes=-500", part(1548, 2047)),
            ("bytes=-5000", part(0, 2047)),
            ("bytes=2000-5000", part(2000, 2047)),
            ("bytes=500-0", Requested::Unsatisfiable),
            ("bytes=5000-10000", Requested::Unsatisfiable),
            ("bytes=-0", Requested::Unsatisfiable),
            ("bytes=0-1,4-5", Requested::Whole),
            ("items=0-1", Requested::Whole),
            ("bytes=a-b", Requested::Whole),
            ("bytes=-", Requested::Whole),
            ("bytes=99999999999999999999-", Requested::Whole),
        ] {
            assert_eq!(parse_request(value, 2048), wanted, "{value}");
        }
        assert_eq!(parse_request("bytes=0-", 0), Requested::Unsatisfiable);
    }

    #[test]
    fn ranges_of_uploads() {
        assert_eq!(parse_chunk("0-9"), Some((0, 9)));
        assert_eq!(parse_chunk("bytes 5-9/10"), Some((5, 9)));
        assert_eq!(parse_chunk("9-5"), None);
        assert_eq!(parse_chunk("+1-5"), None);
        assert_eq!(parse_received("0-41"), Some(42));
        assert_eq!(parse_received("bytes=0-41"), Some(42));
        assert_eq!(parse_received("0--1"), Some(0));
        assert_eq!(parse_received("3-4"), None);
        assert_eq!(parse_content("bytes 1-2/3"), Some((1, 2, Some(3))));
        assert_eq!(parse_content("bytes 1-2/*"), Some((1, 2, None)));
        assert_eq!(parse_content("bytes 1-3/3"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*", size in any::<u64>()) {
            let _ = (parse_request(&text, size), parse_chunk(&text), parse_received(&text), parse_content(&text));
        }

        #[test]
        fn a_part_lies_inside(first in any::<Option<u64>>(), last in any::<Option<u64>>(), size in any::<u64>()) {
            let text = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
            if let Requested::Part { first, last } = parse_request(&format!("bytes={}-{}", text(first), text(last)), size) {
                prop_assert!(first <= last && last < size);
            }
        }

        #[test]
        fn received_comes_back(bytes in 1u64..u64::MAX) {
            prop_assert_eq!(parse_received(&format_received(bytes)), Some(bytes));
        }
    }
}
