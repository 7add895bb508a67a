//! Changes of a text by bytes, and how they are shown.

use std::fmt::Write as _;
use std::ops::Range;

/// Lines that are shown around a change.
const CONTEXT: usize = 3;

/// A change: `bytes` become `text`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edit {
    /// The bytes, or none for an insertion.
    pub bytes: (usize, usize),
    /// What takes their place.
    pub text: String,
}

impl Edit {
    /// A change.
    pub fn new(bytes: &Range<usize>, text: String) -> Self {
        Edit { bytes: (bytes.start, bytes.end), text }
    }
}

/// The text with the changes; everything else stays byte for byte. The same change twice is one.
///
/// Returns None where two changes are about the same bytes, or outside of the text.
pub fn apply(text: &[u8], mut edits: Vec<Edit>) -> Option<Vec<u8>> {
    edits.sort();
    edits.dedup();
    let mut result = Vec::with_capacity(text.len() + edits.len() * 80);
    let mut position = 0;
    let mut last = None;
    for edit in &edits {
        let (start, end) = edit.bytes;
        if start < position || end < start || last == Some(start) {
            return None;
        }
        result.extend_from_slice(text.get(position..start)?);
        result.extend_from_slice(edit.text.as_bytes());
        (position, last) = (end, Some(start));
    }
    result.extend_from_slice(text.get(position..)?);
    Some(result)
}

/// The difference of two texts as `diff -u` shows it; empty where there is none.
pub fn diff(old_name: &str, new_name: &str, old: &[u8], new: &[u8]) -> String {
    let (before, after) = (lines(old), lines(new));
    let changes = changes(&before, &after);
    if changes.is_empty() {
        return String::new();
    }
    let mut out = format!("--- {old_name}\n+++ {new_name}\n");
    let mut at = 0;
    while at < changes.len() {
        // Changes whose surroundings touch are shown together.
        let mut end = at + 1;
        while end < changes.len() && changes[end].0.start <= changes[end - 1].0.end + 2 * CONTEXT {
            end += 1;
        }
        hunk(&mut out, &changes[at..end], &before, &after);
        at = end;
    }
    out
}

fn lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    text.split_inclusive('\n').map(str::to_owned).collect()
}

/// The ranges of lines that differ.
fn changes(before: &[String], after: &[String]) -> Vec<(Range<usize>, Range<usize>)> {
    if before.len() == after.len() {
        let mut changes: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        for at in (0..before.len()).filter(|at| before[*at] != after[*at]) {
            match changes.last_mut() {
                Some((old, new)) if old.end == at => (old.end, new.end) = (at + 1, at + 1),
                _ => changes.push((at..at + 1, at..at + 1)),
            }
        }
        return changes;
    }
    let start = before.iter().zip(after).take_while(|(old, new)| old == new).count();
    let rest = before[start..].iter().rev().zip(after[start..].iter().rev());
    let end = rest.take_while(|(old, new)| old == new).count();
    vec![(start..before.len() - end, start..after.len() - end)]
}

fn hunk(out: &mut String, changes: &[(Range<usize>, Range<usize>)], before: &[String], after: &[String]) {
    let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return };
    let lead = first.0.start.min(CONTEXT);
    let (old_start, new_start) = (first.0.start - lead, first.1.start - lead);
    let old_end = (last.0.end + CONTEXT).min(before.len());
    let new_end = (last.1.end + CONTEXT).min(after.len());
    // A String takes whatever is written to it.
    let _ = writeln!(out, "@@ -{} +{} @@", extent(old_start, old_end), extent(new_start, new_end));
    let mut position = old_start;
    for (old, new) in changes {
        before[position..old.start].iter().for_each(|line| show(out, ' ', line));
        before[old.clone()].iter().for_each(|line| show(out, '-', line));
        after[new.clone()].iter().for_each(|line| show(out, '+', line));
        position = old.end;
    }
    before[position..old_end].iter().for_each(|line| show(out, ' ', line));
}

fn extent(start: usize, end: usize) -> String {
    // An empty range is named by the line before it.
    if start == end { format!("{start},0") } else { format!("{},{}", start + 1, end - start) }
}

fn show(out: &mut String, mark: char, line: &str) {
    out.push(mark);
    out.push_str(line);
    if !line.ends_with('\n') {
        out.push_str("\n\\ No newline at end of file\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_touch_nothing_else() {
        let edit = |start, end, text: &str| Edit { bytes: (start, end), text: text.to_owned() };
        let edits = vec![edit(4, 4, "@x"), edit(0, 1, "A"), edit(4, 4, "@x")];
        assert_eq!(apply(b"abcd\xff", edits).unwrap(), b"Abcd@x\xff");
        assert_eq!(apply(b"abcd", vec![edit(1, 1, "x"), edit(1, 1, "y")]), None);
        assert_eq!(apply(b"abcd", vec![edit(0, 3, "x"), edit(2, 3, "y")]), None);
        assert_eq!(apply(b"abcd", vec![edit(9, 9, "x")]), None);
    }

    #[test]
    fn differences_look_like_those_of_diff() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12";
        let new = "1\n2\n3\n4x\n5\n6\n7\n8\n9\n10\n11\n12x";
        let expected = "--- a\n+++ b\n@@ -1,7 +1,7 @@\n 1\n 2\n 3\n-4\n+4x\n 5\n 6\n 7\n@@ -9,4 +9,4 @@\n 9\n 10\n 11\n-12\n\
                        \\ No newline at end of file\n+12x\n\\ No newline at end of file\n";
        assert_eq!(diff("a", "b", old.as_bytes(), new.as_bytes()), expected);
        assert_eq!(diff("/dev/null", "b", b"", b"x\n"), "--- /dev/null\n+++ b\n@@ -0,0 +1,1 @@\n+x\n");
        assert_eq!(diff("a", "b", b"x", b"x"), "");
    }
}
