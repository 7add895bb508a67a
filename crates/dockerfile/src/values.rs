//! Numbers, sizes, durations and paths read the way Docker's tools read them.

/// A boolean: `1 t T TRUE true True` or `0 f F FALSE false False`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// An unsigned number of at most 32 bits in the given base: digits only, no sign.
pub fn parse_u32(text: &str, base: u32) -> Option<u32> {
    if text.is_empty() || !text.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    u32::from_str_radix(text, base).ok()
}

/// Why a size could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a number, or a negative one.
    #[error("invalid size: '{0}'")]
    Number(String),
    /// The unit is not one.
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
}

/// A size in bytes: a decimal number, then optionally a space and a unit (`b`, `k`, `kb`, `kib`, …
/// up to `p`, in either case, powers of 1024).
pub fn parse_size(text: &str) -> Result<i64, SizeError> {
    let number_error = || SizeError::Number(text.to_owned());
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(number_error)?;
    let number_end = if text.as_bytes()[last] == b' ' { last } else { last + 1 };
    let (number, suffix) = (&text[..number_end], &text[last + 1..]);
    let size = parse_float(number).filter(|size| *size >= 0.0).ok_or_else(number_error)?;
    let lower = suffix.to_lowercase();
    let multiplier = match lower.as_str() {
        "" | "b" => 1u64,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return Err(SizeError::Suffix(if suffix.len() > 3 { suffix.to_owned() } else { lower })),
    };
    let bytes = size * multiplier as f64;
    // Beyond the range of the type Go's conversion gives the smallest number on the usual machine.
    Ok(if bytes >= 9_223_372_036_854_775_808.0 { i64::MIN } else { bytes as i64 })
}

/// A finite decimal number as Go's `ParseFloat` accepts it: no words, no surrounding space,
/// underscores between digits.
fn parse_float(text: &str) -> Option<f64> {
    let is_digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' => {}
            b'_' if at > 0 && is_digit(bytes.get(at - 1)) && is_digit(bytes.get(at + 1)) => {}
            _ => return None,
        }
    }
    text.replace('_', "").parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Why a duration could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a duration at all, or too long a one.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that is none.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
}

/// A duration in nanoseconds: a sign, then numbers with fractions and units (`1h2m3.5s`), or `0`.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let part;
        (part, rest) = duration_part(rest, text)?;
        total = total.checked_add(part).filter(|total| *total <= 1 << 63).ok_or_else(invalid)?;
    }
    match (negative, total) {
        (true, total) => Ok((total as i64).wrapping_neg()),
        (false, total) => i64::try_from(total).map_err(|_| invalid()),
    }
}

/// One number with its unit, and what follows it.
fn duration_part<'a>(text: &'a str, whole_text: &str) -> Result<(u64, &'a str), DurationError> {
    let invalid = || DurationError::Invalid(whole_text.to_owned());
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole_len = digits(text);
    let mut rest = &text[whole_len..];
    let whole: u64 = if whole_len == 0 {
        0
    } else {
        text[..whole_len].parse().ok().filter(|n| *n <= 1 << 63).ok_or_else(invalid)?
    };
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        let length = digits(after);
        (fraction, rest) = after.split_at(length);
    }
    if whole_len == 0 && fraction.is_empty() {
        return Err(invalid());
    }
    let unit_len = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    let scale: u64 = match unit {
        "" => return Err(DurationError::MissingUnit(whole_text.to_owned())),
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(DurationError::UnknownUnit { unit: unit.to_owned(), text: whole_text.to_owned() }),
    };
    let mut value = whole.checked_mul(scale).filter(|value| *value <= 1 << 63).ok_or_else(invalid)?;
    if !fraction.is_empty() {
        let (mut numerator, mut denominator) = (0u64, 1f64);
        for digit in fraction.bytes() {
            let Some(next) = numerator.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0'))) else {
                break;
            };
            if next > i64::MAX as u64 {
                break;
            }
            numerator = next;
            denominator *= 10.0;
        }
        value += (numerator as f64 * (scale as f64 / denominator)) as u64;
    }
    Ok((value, rest))
}

/// The shortest equal form of a slash-separated path, by its text alone: no `.`, no double
/// slashes, `..` resolved where something precedes it. The empty path is `.`.
pub fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The text in double quotes as Go's `%q` writes it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_unprintable(c) && (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if is_unprintable(c) => out.push_str(&format!("\\U{:08x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The characters beyond ASCII that quoting commonly has to escape: controls, separators and
/// format characters, and private use.
fn is_unprintable(c: char) -> bool {
    (c.is_control() && !c.is_ascii())
        || (c.is_whitespace() && c != ' ')
        || matches!(c as u32,
            0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff | 0xe000..=0xf8ff | 0xfff9..=0xfffb
            | 0xfffe..=0xffff | 0xe0000..=0xe0fff | 0xf0000..=0x10_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_follow_go() {
        assert_eq!(parse_duration("1h2m3.5s"), Ok(3_723_500_000_000));
        assert_eq!(parse_duration("-1.5h"), Ok(-5_400_000_000_000));
        assert_eq!(parse_duration("0"), Ok(0));
        assert_eq!(parse_duration(".5s"), Ok(500_000_000));
        assert!(matches!(parse_duration("5"), Err(DurationError::MissingUnit(_))));
        assert!(matches!(parse_duration("5d"), Err(DurationError::UnknownUnit { .. })));
        assert!(matches!(parse_duration(".s"), Err(DurationError::Invalid(_))));
        assert!(matches!(parse_duration("99999999999h"), Err(DurationError::Invalid(_))));
    }

    #[test]
    fn paths_are_cleaned_by_text() {
        for (path, clean) in
            [("", "."), ("a//b/.", "a/b"), ("/../a", "/a"), ("../a/..", ".."), ("a/..", "."), ("/", "/"), ("a/", "a")]
        {
            assert_eq!(clean_path(path), clean, "{path}");
        }
    }

    #[test]
    fn quoting_escapes_what_go_escapes() {
        assert_eq!(quote("a\"b\\\n\u{1}é\u{200b}"), "\"a\\\"b\\\\\\n\\x01é\\u200b\"");
    }
}
