//! From places in an instruction to bytes of the file.

use std::ops::Range;

use crate::parser::Node;
use crate::span::Position;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a file.
pub(super) struct Places<'t> {
    text: &'t [u8],
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'t> Places<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        let first = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let starts = std::iter::once(first).chain(memchr::memchr_iter(b'\n', text).map(|at| at + 1)).collect();
        Places { text, starts }
    }

    /// The bytes of the file behind the character `last` of a joined line, as many as `bytes` has; None where they
    /// are on several lines.
    pub(super) fn behind(&self, node: &Node, last: &Range<usize>, bytes: &Range<usize>) -> Option<Range<usize>> {
        let start = node.span(last.start, last.end).end;
        let end = if bytes.is_empty() { start } else { node.span(bytes.start, bytes.end).end };
        let is_together = bytes.is_empty() || node.span(bytes.start, bytes.end).start == start;
        if start.line != end.line || !is_together {
            return None;
        }
        Some(self.byte(start)?..self.byte(end)?)
    }

    /// The byte of a place. Bytes that are no UTF-8 count as the characters that stand for them when the file is read.
    fn byte(&self, position: Position) -> Option<usize> {
        let start = *self.starts.get(usize::try_from(position.line).ok()?.checked_sub(1)?)?;
        let mut left = usize::try_from(position.column).ok()?.checked_sub(1)?;
        let mut at = start;
        for chunk in self.text.get(start..)?.utf8_chunks() {
            for (offset, _) in chunk.valid().char_indices() {
                if left == 0 {
                    return Some(at + offset);
                }
                left -= 1;
            }
            at += chunk.valid().len();
            if left == 0 {
                return Some(at);
            }
            if !chunk.invalid().is_empty() {
                left -= 1;
                at += chunk.invalid().len();
            }
        }
        (left == 0).then_some(at)
    }
}
