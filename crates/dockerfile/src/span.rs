//! Places in a Dockerfile: lines, columns and the ranges between them.

use std::fmt;

/// A place in the source. Lines and columns count from 1; a column counts characters, not bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1; 0 where only the line is known.
    pub column: u32,
}

/// The text from `start` up to, and not including, `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first character.
    pub start: Position,
    /// The place after the last character.
    pub end: Position,
}

/// The lines of an instruction, both ends included, counted from 1. This is what BuildKit calls
/// the location of an instruction; heredoc bodies belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineRange {
    /// The first line.
    pub start: u32,
    /// The last line; equal to `start` for an instruction of one line.
    pub end: u32,
}

impl LineRange {
    /// One line.
    pub fn single(line: u32) -> Self {
        LineRange { start: line, end: line }
    }

    /// From `start` to `end`; an `end` before `start` means one line.
    pub fn new(start: u32, end: u32) -> Self {
        LineRange { start, end: end.max(start) }
    }

    /// Whether the line belongs to the range.
    pub fn contains(&self, line: u32) -> bool {
        self.start <= line && line <= self.end
    }
}

impl fmt::Display for LineRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end { write!(f, "{}", self.start) } else { write!(f, "{}-{}", self.start, self.end) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
