//! The physical lines of a file.

use super::MAX_LINE_BYTES;

/// A physical line's part of a joined line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where the part begins in the joined line, in bytes.
    pub(super) offset: usize,
    /// The line of the file.
    pub(super) line: u32,
    /// The column of the file in which the part begins.
    pub(super) column: u32,
}

/// Yields lines with their ends, and stops for good at one that is too long.
pub(super) struct Lines<'a> {
    text: &'a str,
    position: usize,
    /// How many lines have been read.
    pub(super) number: u32,
    /// Whether a line was too long.
    pub(super) too_long: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Lines { text, position: 0, number: 0, too_long: false }
    }

    /// Goes on at a line, counted from 1.
    pub(super) fn skip_to(&mut self, line: u32) {
        while self.number + 1 < line && self.next().is_some() {}
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.position..];
        if rest.is_empty() || self.too_long {
            return None;
        }
        let length = memchr::memchr(b'\n', rest.as_bytes()).map(|at| at + 1);
        // A line without its end has to leave room for one.
        if length.unwrap_or(rest.len() + 1) > MAX_LINE_BYTES {
            self.too_long = true;
            return None;
        }
        let line = &rest[..length.unwrap_or(rest.len())];
        self.position += line.len();
        self.number += 1;
        Some(line)
    }

    /// The text up to the line for which the test holds, which is consumed; None where the file
    /// ends before.
    pub(super) fn until_line(&mut self, is_last: impl Fn(&str) -> bool) -> Option<&'a str> {
        let start = self.position;
        loop {
            let before = self.position;
            if is_last(self.next()?) {
                return Some(&self.text[start..before]);
            }
        }
    }
}

pub(super) fn trim_line_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The line without its continuation character, and whether it has one: the escape character at
/// the end, space after it ignored, unless another one stands before it.
pub(super) fn strip_continuation(line: &str, escape: char) -> (&str, bool) {
    let Some(content) = line.trim_end_matches([' ', '\t']).strip_suffix(escape) else { return (line, false) };
    if content.ends_with(escape) { (line, false) } else { (content, true) }
}

/// The space that separates arguments: less than Unicode's.
pub(super) fn is_separator(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}
