//! What is said of a Dockerfile, and how it is shown.

use std::fmt::Write as _;

use crate::lint::Rule;
use crate::redact::user_info_in_place;
use crate::span::{LineRange, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing can be built.
    Error,
    /// It can, but should be changed.
    Warning,
}

/// One remark about a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The check that found it, for warnings.
    pub rule: Option<&'static Rule>,
    /// What is wrong, in one line; for errors BuildKit's words.
    pub message: String,
    /// The lines it is about; the excerpt marks them. Empty where it is about no line.
    pub lines: Vec<LineRange>,
    /// The characters it is about, where they are known.
    pub span: Option<Span>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error about these lines.
    pub fn error(message: impl Into<String>, lines: impl IntoIterator<Item = LineRange>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            rule: None,
            message: message.into(),
            lines: lines.into_iter().collect(),
            span: None,
            help: None,
        }
    }

    /// A warning of a rule about these lines.
    pub fn warning(rule: &'static Rule, message: String, lines: LineRange) -> Self {
        Diagnostic {
            severity: Severity::Warning,
            rule: Some(rule),
            message,
            lines: vec![lines],
            span: None,
            help: None,
        }
    }

    /// With the characters it is about.
    pub fn with_span(mut self, span: Option<Span>) -> Self {
        self.span = span;
        self
    }

    /// With what to do about it.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// In one line: rule, what it found, where.
    pub fn short(&self) -> String {
        let rule = self.rule.map(|rule| format!("{}: ", rule.name)).unwrap_or_default();
        let line = self.first_line().map(|line| format!(" (line {line})")).unwrap_or_default();
        format!("{rule}{}{line}", self.message)
    }

    /// The first line it is about.
    pub fn first_line(&self) -> Option<u32> {
        self.lines.iter().map(|lines| lines.start).min()
    }

    /// The excerpt with its lines marked, as BuildKit prints it below a failed build; empty where
    /// it is about no line of the source.
    pub fn excerpt(&self, filename: &str, source: &str) -> String {
        excerpt(filename, source, &self.lines)
    }

    /// The excerpt of a single marked line with the characters underlined; empty where they are
    /// not known.
    pub fn underline(&self, source: &str) -> String {
        let Some(span) = self.span else { return String::new() };
        let Some(line) = source.split('\n').nth(span.start.line.saturating_sub(1) as usize) else {
            return String::new();
        };
        let line = user_info_in_place(line.trim_end_matches('\r'));
        let start = (span.start.column.max(1) - 1) as usize;
        let end = if span.end.line == span.start.line { span.end.column as usize } else { usize::MAX };
        let width = end.saturating_sub(1).min(line.chars().count()).saturating_sub(start).max(1);
        // Tabs stay tabs, so that the marks stand below what they mark.
        let indent: String = line.chars().take(start).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("{line}\n{indent}{}\n", "^".repeat(width))
    }
}

/// Leaves the first where it is and puts the others in the order of their places.
pub(crate) fn sort_others(diagnostics: &mut [Diagnostic]) {
    if let Some((_, others)) = diagnostics.split_first_mut() {
        others.sort_by_key(|error| (error.first_line(), error.span.map(|span| span.start)));
    }
}

/// All errors of a Dockerfile as a user is to see them: BuildKit's excerpt for the first, then for each its place, what is
/// wrong, the characters in question and what to do about it.
pub fn render(filename: &str, source: &str, diagnostics: &[Diagnostic]) -> String {
    let first = diagnostics.first().map(|first| first.excerpt(filename, source)).unwrap_or_default();
    first + &list(filename, source, diagnostics)
}

/// As [`render`], without the excerpt.
pub fn list(filename: &str, source: &str, diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        // What is about no line is told elsewhere.
        let Some(line) = diagnostic.first_line() else { continue };
        let prefix = format!("dockerfile parse error on line {line}: ");
        let message = diagnostic.message.strip_prefix(&prefix).unwrap_or(&diagnostic.message);
        let place = match diagnostic.span {
            Some(span) => span.start.to_string(),
            None => line.to_string(),
        };
        out.push_str(&format!("{filename}:{place}: {message}\n"));
        for line in diagnostic.underline(source).lines() {
            out.push_str(&format!("    {line}\n"));
        }
        if let Some(help) = &diagnostic.help {
            out.push_str(&format!("    hint: {help}\n"));
        }
    }
    out
}

/// The lines around the marked ones: file name and line, then every line with its number, `>>>` in
/// front of the marked ones.
pub fn excerpt(filename: &str, source: &str, marked: &[LineRange]) -> String {
    let (Some(first), Some(last)) =
        (marked.iter().map(|lines| lines.start).min(), marked.iter().map(|lines| lines.end.max(lines.start)).max())
    else {
        return String::new();
    };
    let lines: Vec<&str> = source.split('\n').collect();
    let (first, count) = (first as usize, lines.len());
    if first < 1 || first > count {
        return String::new();
    }
    let last = (last as usize).min(count);
    let (start, end) = with_context(first, last, count);
    let mut out = format!("{filename}:{first}\n--------------------\n");
    for number in start..=end {
        let is_marked = marked.iter().any(|lines| LineRange::new(lines.start, lines.end).contains(number as u32));
        let mark = if is_marked { ">>>" } else { "   " };
        // A String takes whatever is written to it.
        let _ = writeln!(out, " {number:3} | {mark} {}", user_info_in_place(lines[number - 1]));
    }
    out.push_str("--------------------\n");
    out
}

/// Four more lines around a single one, two around several, as far as there are any.
fn with_context(mut start: usize, mut end: usize, count: usize) -> (usize, usize) {
    let wanted = if start == end { 4 } else { 2 };
    let mut added = 0;
    while added < wanted {
        if start > 1 {
            start -= 1;
            added += 1;
        }
        if end != count {
            end += 1;
            added += 1;
        }
        added += 1;
    }
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_excerpt_is_the_one_below_a_failed_build() {
        let source = "FROM localhost:5000/busybox:latest\nRUN echo before\nRUN exit 3\n";
        let expected = "fail.Dockerfile:3\n--------------------\n   1 |     FROM localhost:5000/busybox:latest\n   2 |     RUN echo before\n   3 | >>> RUN exit 3\n   4 |     \n--------------------\n";
        assert_eq!(excerpt("fail.Dockerfile", source, &[LineRange::single(3)]), expected);
    }

    #[test]
    fn lines_outside_the_source_show_nothing() {
        assert_eq!(excerpt("Dockerfile", "FROM a", &[LineRange::single(9)]), "");
        assert_eq!(excerpt("Dockerfile", "FROM a", &[]), "");
    }

    #[test]
    fn characters_are_underlined_below_tabs() {
        let position = |column| crate::span::Position { line: 1, column };
        let span = Span { start: position(2), end: position(5) };
        let diagnostic = Diagnostic::error("x", []).with_span(Some(span));
        assert_eq!(diagnostic.underline("\tRUN x\n"), "\tRUN x\n\t^^^\n");
    }
}
