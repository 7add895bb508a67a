//! Which words of an instruction a mistake is about. Instructions do not keep where their words stand: that is read
//! again from the text when there is something to tell.

use crate::file::Dockerfile;
use crate::parser::{Node, Parser, Word, parse_heredoc};
use crate::span::{LineRange, Span};

/// A part of an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// The flag of that name; of several the one of that index.
    Flag(&'static str, usize),
    /// The argument of that index.
    Argument(usize),
    /// The source of that index of a `COPY` or `ADD`, heredocs not counted.
    Source(usize),
    /// The flag or the argument that holds this text.
    Text(String),
}

impl Part {
    /// The characters of the part, in an instruction of these lines; those of the whole instruction where it has no
    /// such part. None where no instruction begins there.
    pub(crate) fn span(&self, file: &Dockerfile, lines: LineRange) -> Option<Span> {
        let node = Parser::at_line(&file.source, lines.start, file.escape).next()?.ok()?;
        if node.lines.start != lines.start {
            return None;
        }
        Some(self.word(&node).map_or_else(|| node.whole_span(), |word| node.word_span(word)))
    }

    fn word<'a>(&self, node: &'a Node) -> Option<&'a Word> {
        match self {
            Part::Whole => None,
            Part::Flag(name, index) => {
                let is_it = |word: &&Word| flag_value(word).is_some_and(|(given, _)| given == *name);
                node.flags.iter().filter(is_it).nth(*index)
            }
            Part::Argument(index) => node.args.get(*index),
            Part::Source(index) => {
                let (_, sources) = node.args.split_last()?;
                sources.iter().filter(|word| parse_heredoc(&word.text).is_none()).nth(*index)
            }
            Part::Text(text) => {
                let is_value = |word: &&Word| flag_value(word).is_some_and(|(_, value)| value == text);
                let is_it = |word: &&Word| word.text == *text;
                let holds_it = |word: &&Word| !text.is_empty() && word.text.contains(text.as_str());
                let flags = || node.flags.iter();
                let words = || flags().chain(&node.args);
                flags().find(is_value).or_else(|| words().find(is_it)).or_else(|| words().find(holds_it))
            }
        }
    }
}

fn flag_value(word: &Word) -> Option<(&str, &str)> {
    let flag = word.text.strip_prefix("--")?;
    Some(flag.split_once('=').unwrap_or((flag, "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::parse;

    fn marked(text: &str, line: u32, part: Part) -> String {
        let (file, errors) = parse(text.as_bytes());
        assert_eq!(errors, []);
        let span = part.span(&file, LineRange::single(line)).expect("an instruction");
        assert_eq!(span.start.line, span.end.line, "{span:?}");
        let line = file.source.lines().nth(span.start.line as usize - 1).expect("a line");
        line.chars().skip(span.start.column as usize - 1).take((span.end.column - span.start.column) as usize).collect()
    }

    #[test]
    fn parts_are_found_where_they_were_written() {
        let text = "# escape=`\nFROM --platform=$X é AS b\n\tCOPY --from=b `\n  --chmod=9 <<A /s /t `\n /d\nx\nA\nRUN --mount=a --mount=b,c=${d?} x\nENV A=b C=${d:?no}\n";
        for (line, part, expected) in [
            (2, Part::Flag("platform", 0), "--platform=$X"),
            (2, Part::Argument(0), "é"),
            (3, Part::Flag("chmod", 0), "--chmod=9"),
            (3, Part::Source(1), "/t"),
            (3, Part::Argument(3), "/d"),
            (8, Part::Flag("mount", 1), "--mount=b,c=${d?}"),
            (8, Part::Text("${d?}".into()), "--mount=b,c=${d?}"),
            (9, Part::Text("${d:?no}".into()), "C=${d:?no}"),
            (9, Part::Argument(77), "ENV A=b C=${d:?no}"),
            (8, Part::Whole, "RUN --mount=a --mount=b,c=${d?} x"),
        ] {
            assert_eq!(marked(text, line, part.clone()), expected, "{part:?}");
        }
        assert_eq!(Part::Whole.span(&parse(b"FROM a\n").0, LineRange::single(7)), None);
    }
}
