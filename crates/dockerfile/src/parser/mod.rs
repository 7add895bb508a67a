//! From text to the raw instructions of a Dockerfile: lines joined, comments gone, flags and
//! arguments split, heredocs attached. What they mean is [`crate::instruction`]'s affair.
//!
//! [`Parser`] yields one [`Node`] an instruction and goes on after an error. It holds one
//! instruction at a time, so memory stays proportional to what the caller keeps.

mod arguments;
mod directives;
mod heredoc;
mod json;
mod lines;
mod split;

pub use directives::{Directive, DirectiveError, detect_syntax, directive_in_comment, find_directive};
pub use heredoc::{Heredoc, chomp_heredoc, parse_heredoc};

use crate::shell::ShellError;
use crate::span::{LineRange, Position, Span};
use directives::DirectiveParser;
use lines::{Lines, Piece};

/// The longest line that is read, its end included.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// One instruction as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The keyword as written; empty for a line that has none.
    pub keyword: Word,
    /// The flags (`--name=value`) before the arguments, without their quotes.
    pub flags: Vec<Word>,
    /// The arguments. `ENV` and `LABEL` have three words a pair: name, value and `=` (or nothing
    /// for the old form).
    pub args: Vec<Word>,
    /// Whether the arguments were a JSON array of strings.
    pub json: bool,
    /// The instruction inside an `ONBUILD`.
    pub sub: Option<Box<Node>>,
    /// The heredocs, in order.
    pub heredocs: Vec<Heredoc>,
    /// The lines, heredoc bodies included.
    pub lines: LineRange,
    /// The joined line, without comments and continuation characters.
    pub original: String,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<String>,
    pieces: Vec<Piece>,
}

/// A word of an instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// What it says.
    pub text: String,
    /// Where it begins in the joined line, in bytes.
    start: u32,
    /// Where it ends in the joined line, in bytes.
    end: u32,
}

impl Word {
    /// A word between two places of the joined line; beyond four gigabytes places are not told apart.
    fn new(text: impl Into<String>, start: usize, end: usize) -> Self {
        let place = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Word { text: text.into(), start: place(start), end: place(end) }
    }

    /// Where it begins in the joined line, in bytes.
    pub fn start(&self) -> usize {
        self.start as usize
    }

    /// Where it ends in the joined line, in bytes.
    pub fn end(&self) -> usize {
        self.end as usize
    }
}

/// Appends so that little room is left over: what is read of a file is to stay in proportion to it.
pub(crate) fn push_tight<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 4).max(1));
    }
    list.push(item);
}

impl Node {
    /// Where in the file a part of the joined line is.
    pub fn span(&self, start: usize, end: usize) -> Span {
        let first = self.position(start, false);
        Span { start: first, end: if end > start { self.position(end, true) } else { first } }
    }

    /// Where in the file a word is.
    pub fn word_span(&self, word: &Word) -> Span {
        self.span(word.start(), word.end())
    }

    /// From the first to after the last character of the joined line.
    pub fn whole_span(&self) -> Span {
        let start = self.original.len() - self.original.trim_start().len();
        self.span(start, self.original.trim_end().len())
    }

    fn position(&self, offset: usize, is_end: bool) -> Position {
        // An end that coincides with the start of a continuation line belongs to the line before.
        let after = |piece: &Piece| if is_end && offset > 0 { piece.offset >= offset } else { piece.offset > offset };
        let at = self.pieces.iter().position(after).unwrap_or(self.pieces.len());
        let Some(piece) = self.pieces[..at].last().or(self.pieces.first()) else {
            return Position { line: self.lines.start, column: 1 };
        };
        let end = offset.min(self.original.len());
        let columns = self.original.get(piece.offset..end).map_or(0, |text| text.chars().count());
        Position { line: piece.line, column: piece.column + columns as u32 }
    }
}

/// What stops an instruction from being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// What is wrong.
    pub kind: SyntaxErrorKind,
    /// The lines that BuildKit names for it.
    pub lines: LineRange,
    /// The characters it is about, where they are known.
    pub span: Option<Span>,
}

/// What can be wrong before instructions are understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxErrorKind {
    /// Nothing but comments.
    #[error("file with no instructions")]
    NoInstructions,
    /// A line beyond [`MAX_LINE_BYTES`].
    #[error("dockerfile line greater than max allowed size of {}", MAX_LINE_BYTES - 1)]
    LineTooLong,
    /// A heredoc whose delimiter never comes.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    /// A heredoc whose delimiter is no word.
    #[error(transparent)]
    HeredocWord(Box<ShellError>),
    /// A parser directive is wrong.
    #[error(transparent)]
    Directive(#[from] DirectiveError),
    /// A JSON array with something other than strings in it.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    /// `ENV name` without a value.
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    /// A word without `=` after a word with one.
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", crate::values::quote(.0))]
    NoEquals(String),
}

/// An instruction whose continuation is interrupted by an empty line, which is deprecated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyContinuation {
    /// The last line of the instruction, which is what BuildKit points at.
    pub line: u32,
    /// The joined line.
    pub text: String,
}

/// Reads instruction after instruction.
pub struct Parser<'a> {
    lines: Lines<'a>,
    directives: DirectiveParser,
    escape: char,
    comments: Vec<String>,
    seen_instruction: bool,
    finished: bool,
    /// The empty continuation lines met so far.
    pub empty_continuations: Vec<EmptyContinuation>,
}

impl<'a> Parser<'a> {
    /// Begins at the top of the text.
    pub fn new(text: &'a str) -> Self {
        Parser {
            lines: Lines::new(text),
            directives: DirectiveParser::new("#", 0),
            escape: '\\',
            comments: Vec::new(),
            seen_instruction: false,
            finished: false,
            empty_continuations: Vec::new(),
        }
    }

    /// Begins at a line, counted from 1, below the parser directives.
    pub(crate) fn at_line(text: &'a str, line: u32, escape: char) -> Self {
        let mut parser = Parser::new(text);
        parser.lines.skip_to(line);
        parser.directives.finish();
        parser.escape = escape;
        parser
    }

    /// The escape character; known for sure once the first instruction is read.
    pub fn escape(&self) -> char {
        self.escape
    }

    /// The next instruction or error, or None at the end.
    fn read(&mut self) -> Option<Result<Node, SyntaxError>> {
        while let Some(raw) = self.lines.next() {
            self.note_comment(raw);
            let text = lines::trim_line_end(raw).trim_start();
            if let Err(error) = self.directive(text) {
                // BuildKit counts this one from zero.
                let line = self.lines.number - 1;
                return Some(Err(self.error(error, LineRange::single(line))));
            }
            let text = if lines::is_comment(text) { "" } else { text };
            let (content, continues) = lines::strip_continuation(text, self.escape);
            if content.is_empty() && !continues {
                continue;
            }
            self.seen_instruction = true;
            let space = &raw[..raw.len() - raw.trim_start().len()];
            let column = space.chars().count() + 1;
            return Some(self.instruction(content, continues, column as u32));
        }
        self.end()
    }

    /// What is left to say at the end of the file.
    fn end(&mut self) -> Option<Result<Node, SyntaxError>> {
        if std::mem::replace(&mut self.finished, true) {
            return None;
        }
        let lines = LineRange::single(self.lines.number);
        if !self.seen_instruction {
            return Some(Err(self.error(SyntaxErrorKind::NoInstructions, lines)));
        }
        self.lines.too_long.then(|| Err(self.error(SyntaxErrorKind::LineTooLong, lines)))
    }

    fn error(&self, kind: impl Into<SyntaxErrorKind>, lines: LineRange) -> SyntaxError {
        SyntaxError { kind: kind.into(), lines, span: None }
    }

    /// Keeps the comment for the instruction below it; an empty one separates.
    fn note_comment(&mut self, raw: &str) {
        if !lines::is_comment(raw) {
            return;
        }
        let mut characters = raw.chars();
        characters.next();
        match characters.as_str().trim() {
            "" => self.comments.clear(),
            comment => self.comments.push(comment.to_owned()),
        }
    }

    fn directive(&mut self, text: &str) -> Result<(), DirectiveError> {
        let Some(directive) = self.directives.line(text)? else { return Ok(()) };
        self.comments.pop();
        if directive.name == "escape" {
            self.escape = match directive.text.as_str() {
                "\\" => '\\',
                "`" => '`',
                _ => return Err(DirectiveError::Escape(directive.text)),
            };
        }
        Ok(())
    }

    /// The instruction that begins with this content.
    fn instruction(&mut self, content: &str, mut continues: bool, column: u32) -> Result<Node, SyntaxError> {
        let first = self.lines.number;
        let mut line = content.to_owned();
        let mut pieces = vec![Piece { offset: 0, line: first, column }];
        let mut has_empty = false;
        while continues {
            let Some(raw) = self.lines.next() else { break };
            let text = lines::trim_line_end(raw);
            // Only the parser of directives minds; it is done long since.
            let _ = self.directives.line(text);
            if lines::is_comment(raw) {
                continue;
            }
            if text.trim_start().is_empty() {
                has_empty = true;
                continue;
            }
            let (content, goes_on) = lines::strip_continuation(text, self.escape);
            pieces.push(Piece { offset: line.len(), line: self.lines.number, column: 1 });
            line.push_str(content);
            continues = goes_on;
        }
        if has_empty {
            self.empty_continuations.push(EmptyContinuation { line: self.lines.number, text: line.clone() });
        }
        let comments = std::mem::take(&mut self.comments);
        let range = LineRange::new(first, self.lines.number);
        let mut node = match split::node(&line, 0, self.escape) {
            Ok(node) => node,
            Err((kind, start, end)) => {
                let node = Node { original: line, pieces, lines: range, ..Node::empty() };
                let span = Some(node.span(start, end));
                return Err(SyntaxError { kind, lines: range, span });
            }
        };
        node.original = line;
        node.pieces = pieces;
        node.comments = comments;
        node.lines = range;
        if node.may_have_heredocs() && node.original.contains("<<") {
            self.heredocs(&mut node)?;
        }
        Ok(node)
    }

    /// Reads the bodies of the heredocs that the line announces.
    fn heredocs(&mut self, node: &mut Node) -> Result<(), SyntaxError> {
        let first = node.lines.start;
        let announced = heredoc::on_line(&node.original).map_err(|error| {
            let kind = SyntaxErrorKind::HeredocWord(Box::new(error));
            SyntaxError { kind, lines: node.lines, span: Some(node.whole_span()) }
        })?;
        for mut heredoc in announced {
            let content = self.lines.until_line(|line| {
                let line = lines::trim_line_end(line);
                let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
                line == heredoc.name
            });
            let Some(content) = content else {
                let lines = LineRange::new(first, self.lines.number);
                let kind = SyntaxErrorKind::UnterminatedHeredoc;
                return Err(SyntaxError { kind, lines, span: Some(node.whole_span()) });
            };
            heredoc.content = content.to_owned();
            node.heredocs.push(heredoc);
        }
        node.lines = LineRange::new(first, self.lines.number);
        Ok(())
    }
}

impl Iterator for Parser<'_> {
    type Item = Result<Node, SyntaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read()
    }
}

impl Node {
    fn empty() -> Self {
        Node {
            keyword: Word::default(),
            flags: Vec::new(),
            args: Vec::new(),
            json: false,
            sub: None,
            heredocs: Vec::new(),
            lines: LineRange::default(),
            original: String::new(),
            comments: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// Whether heredocs mean something here: `ADD`, `COPY` and `RUN`, also inside `ONBUILD`, and
    /// not in JSON form.
    fn may_have_heredocs(&self) -> bool {
        let node = match &self.sub {
            Some(sub) => sub,
            None => self,
        };
        let keyword = node.keyword.text.as_str();
        !node.json && ["add", "copy", "run"].iter().any(|known| keyword.eq_ignore_ascii_case(known))
    }
}

#[cfg(test)]
mod tests;
