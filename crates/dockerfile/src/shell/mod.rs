//! Words and variables as the shell reads them: quotes, escapes, `$name` and `${name…}`.
//!
//! The grammar is POSIX shell's parameter expansion with `:-`, `-`, `:+`, `+`, `:?`, `?`, `#`, `##`,
//! `%`, `%%`, `/` and `//`; everything else inside `${}` is an error. Nesting is bounded by
//! [`MAX_DEPTH`], the result by [`MAX_OUTPUT`].

mod environment;
mod pattern;
mod words;

pub use environment::{Environment, Variables};
pub use words::Words;

use std::collections::BTreeSet;

use pattern::{Greed, Pattern};
use words::WordList;

use crate::values::quote;

/// How deep `${a:-${b:-…}}` may nest.
pub const MAX_DEPTH: usize = 100;

/// How many bytes an expansion may yield.
pub const MAX_OUTPUT: usize = 64 << 20;

/// How words are read. The escape character is the only thing that a Dockerfile sets.
#[derive(Clone, Debug)]
pub struct Lex {
    /// The escape character: `\` or a backtick.
    pub escape: char,
    /// Whether quotes stay in the result.
    pub raw_quotes: bool,
    /// Whether escape characters stay in the result.
    pub raw_escapes: bool,
    /// Whether quotes are ordinary characters.
    pub skip_process_quotes: bool,
    /// Whether a reference to a variable that is not set stays as written.
    pub skip_unset_env: bool,
}

/// What came of a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text with everything expanded; space is kept.
    pub value: String,
    /// The text split at unquoted space after expansion.
    pub words: Words,
    /// The variables that were used and are set.
    pub matched: BTreeSet<String>,
    /// The variables that were used and are not set.
    pub unmatched: BTreeSet<String>,
}

/// Why a word could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {kind}", quote(.word))]
pub struct ShellError {
    /// The whole word.
    pub word: String,
    /// What is wrong with it.
    pub kind: ShellErrorKind,
    /// The variables that had been used until then.
    pub used: Box<UsedVariables>,
}

/// The variables a word uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedVariables {
    /// Those that are set.
    pub matched: BTreeSet<String>,
    /// Those that are not.
    pub unmatched: BTreeSet<String>,
}

/// What is wrong with a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShellErrorKind {
    /// A single quote that does not close.
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    /// A double quote that does not close.
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    /// The end came before a character that had to come.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(char),
    /// A `${` without its brace.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// A `${name/pattern` without the second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:`, `${{`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// Something after the name that is no modifier.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${name?message}` of a variable that is not set, or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What is said of it.
        message: String,
    },
    /// An escape that means nothing in a pattern.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{character}'")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The character after the backslash.
        character: String,
    },
    /// Deeper than [`MAX_DEPTH`].
    #[error("substitutions are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Longer than [`MAX_OUTPUT`].
    #[error("the result is longer than {MAX_OUTPUT} bytes")]
    TooLong,
}

impl Lex {
    /// The usual reading with this escape character.
    pub fn new(escape: char) -> Self {
        Lex { escape, raw_quotes: false, raw_escapes: false, skip_process_quotes: false, skip_unset_env: false }
    }

    /// Expands a word.
    pub fn process_word(&self, word: &str, environment: &dyn Environment) -> Result<Expanded, ShellError> {
        let mut reader = Reader {
            lex: self,
            environment,
            // A byte order mark is no character of the word.
            text: word.strip_prefix('\u{feff}').unwrap_or(word),
            position: 0,
            depth: 0,
            raw_escapes: self.raw_escapes,
            produced: 0,
            arguments: 0,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        match reader.until(None) {
            Ok((value, words)) => Ok(Expanded { value, words, matched: reader.matched, unmatched: reader.unmatched }),
            Err(kind) => {
                let used = UsedVariables { matched: reader.matched, unmatched: reader.unmatched };
                Err(ShellError { word: word.to_owned(), kind, used: Box::new(used) })
            }
        }
    }
}

struct Reader<'a> {
    lex: &'a Lex,
    environment: &'a dyn Environment,
    text: &'a str,
    position: usize,
    depth: usize,
    raw_escapes: bool,
    produced: usize,
    /// How many arguments of `${name…}` have been read.
    arguments: usize,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

type Outcome<T> = Result<T, ShellErrorKind>;

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.position..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.position += next.len_utf8();
        Some(next)
    }

    /// Counts what was produced against the limit.
    fn spend(&mut self, bytes: usize) -> Outcome<()> {
        self.produced += bytes;
        if self.produced > MAX_OUTPUT { Err(ShellErrorKind::TooLong) } else { Ok(()) }
    }

    /// Reads up to the stop character, which is consumed, or up to the end where there is none.
    fn until(&mut self, stop: Option<char>) -> Outcome<(String, Words)> {
        let mut value = String::new();
        let mut words = WordList::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.next();
                return Ok((value, words.finish()));
            }
            match c {
                '$' => {
                    let arguments = self.arguments;
                    let text = self.dollar()?;
                    self.spend(text.len())?;
                    value.push_str(&text);
                    words.forget_if(arguments != self.arguments);
                    words.text(&text);
                }
                '<' => {
                    let text = self.possible_heredoc();
                    value.push_str(&text);
                    words.raw_text(&text);
                }
                '\'' | '"' if !self.lex.skip_process_quotes => {
                    let arguments = self.arguments;
                    let text = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    value.push_str(&text);
                    words.forget_if(arguments != self.arguments);
                    words.raw_text(&text);
                }
                _ => self.plain(&mut value, &mut words),
            }
        }
        match stop {
            Some(stop) => Err(ShellErrorKind::Unclosed(stop)),
            None => Ok((value, words.finish())),
        }
    }

    /// One ordinary or escaped character.
    fn plain(&mut self, value: &mut String, words: &mut WordList) {
        let Some(c) = self.next() else { return };
        if c != self.lex.escape {
            words.character(c);
            value.push(c);
            return;
        }
        if self.raw_escapes {
            words.raw_character(c);
            value.push(c);
        }
        if let Some(escaped) = self.next() {
            words.raw_character(escaped);
            value.push(escaped);
        }
    }

    fn single_quoted(&mut self) -> Outcome<String> {
        let start = self.position + 1;
        let length = self.text[start..].find('\'').ok_or(ShellErrorKind::SingleQuote)?;
        let (inner, end) = (&self.text[start..start + length], start + length + 1);
        let result = if self.lex.raw_quotes { &self.text[self.position..end] } else { inner };
        self.position = end;
        Ok(result.to_owned())
    }

    fn double_quoted(&mut self) -> Outcome<String> {
        let mut result = String::new();
        self.next();
        if self.lex.raw_quotes {
            result.push('"');
        }
        loop {
            match self.peek().ok_or(ShellErrorKind::DoubleQuote)? {
                '"' => {
                    self.next();
                    if self.lex.raw_quotes {
                        result.push('"');
                    }
                    return Ok(result);
                }
                '$' => {
                    let text = self.dollar()?;
                    self.spend(text.len())?;
                    result.push_str(&text);
                }
                c if c == self.lex.escape => {
                    self.next();
                    if self.raw_escapes {
                        result.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(escaped) if matches!(escaped, '"' | '$') || escaped == self.lex.escape => {
                            self.next();
                            result.push(escaped);
                        }
                        Some(_) => result.push(c),
                    }
                }
                c => {
                    self.next();
                    result.push(c);
                }
            }
        }
    }

    /// `<`, or `<<` with the space that may stand before a heredoc's delimiter.
    fn possible_heredoc(&mut self) -> String {
        self.next();
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.next();
        let start = self.position;
        while matches!(self.peek(), Some('\t' | '\r' | ' ')) {
            self.next();
        }
        format!("<<{}", &self.text[start..self.position])
    }

    fn dollar(&mut self) -> Outcome<String> {
        self.next();
        if self.peek() == Some('{') {
            self.next();
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(ShellErrorKind::TooDeep);
            }
            let result = self.braced();
            self.depth -= 1;
            return result;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match self.lookup(&name) {
            Some(value) => value,
            None if self.lex.skip_unset_env => format!("${name}"),
            None => String::new(),
        })
    }

    /// What follows `${`.
    fn braced(&mut self) -> Outcome<String> {
        match self.peek() {
            None => return Err(ShellErrorKind::MissingBrace),
            Some('{' | '}' | ':') => return Err(ShellErrorKind::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => {
                let value = self.lookup(&name);
                if value.is_none() && self.lex.skip_unset_env {
                    return Ok(format!("${{{name}}}"));
                }
                Ok(value.unwrap_or_default())
            }
            Some(':') => match self.next() {
                Some(c @ ('#' | '%')) => Err(ShellErrorKind::Modifier(format!(":{c}"))),
                Some(c) => self.modified(&name, c, true),
                // What BuildKit's scanner shows for the end is not a character either.
                None => self.modified(&name, '\u{fffd}', true),
            },
            Some(c @ ('+' | '-' | '?' | '#' | '%')) => self.modified(&name, c, false),
            Some('/') => self.replaced(&name),
            Some(c) => Err(ShellErrorKind::Modifier(c.to_string())),
            None => Err(ShellErrorKind::Modifier('\u{fffd}'.to_string())),
        }
    }

    /// Reads to the stop character; an end that comes too early is `missing`.
    fn argument(&mut self, stop: char, raw_escapes: bool, missing: ShellErrorKind) -> Outcome<String> {
        self.arguments += 1;
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until(Some(stop));
        self.raw_escapes = outer;
        match result {
            Ok((value, _)) => Ok(value),
            Err(kind @ (ShellErrorKind::TooDeep | ShellErrorKind::TooLong)) => Err(kind),
            Err(_) if self.peek().is_none() => Err(missing),
            Err(kind) => Err(kind),
        }
    }

    /// `${name:-word}` and the like, after the modifier.
    fn modified(&mut self, name: &str, modifier: char, null_is_unset: bool) -> Outcome<String> {
        let is_trim = matches!(modifier, '#' | '%');
        let word = self.argument('}', is_trim, ShellErrorKind::MissingBrace)?;
        let value = self.lookup(name);
        let written = if null_is_unset { format!(":{modifier}") } else { modifier.to_string() };
        if value.is_none() && self.lex.skip_unset_env {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let given = value.as_deref().filter(|value| !(null_is_unset && value.is_empty()));
        match modifier {
            '-' => Ok(given.map(str::to_owned).unwrap_or(word)),
            '+' => Ok(given.map(|_| word).unwrap_or_default()),
            '?' => match given {
                Some(given) => Ok(given.to_owned()),
                None => {
                    let default =
                        if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                    let message = if word.is_empty() { default.to_owned() } else { word };
                    Err(ShellErrorKind::Required { name: name.to_owned(), message })
                }
            },
            '#' | '%' => {
                let value = value.unwrap_or_default();
                let (greed, word) = match word.strip_prefix(modifier) {
                    Some(rest) => (Greed::Longest, rest),
                    None => (Greed::Shortest, word.as_str()),
                };
                let trimmed = if modifier == '#' {
                    Pattern::parse(word)?.trim_start(&value, greed)
                } else {
                    Pattern::parse_reversed(word)?.trim_end(&value, greed)
                };
                Ok(trimmed)
            }
            _ => Err(ShellErrorKind::Modifier(written)),
        }
    }

    /// `${name/pattern/replacement}`, after the first slash.
    fn replaced(&mut self, name: &str) -> Outcome<String> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.argument('/', true, ShellErrorKind::MissingSlash)?;
        let replacement = self.argument('}', true, ShellErrorKind::MissingBrace)?;
        match self.lookup(name) {
            None if self.lex.skip_unset_env => Ok(format!("${{{name}/{pattern}/{replacement}}}")),
            value => {
                let limit = MAX_OUTPUT - self.produced.min(MAX_OUTPUT);
                Pattern::parse(&pattern)?.replace(&value.unwrap_or_default(), &replacement, all, limit)
            }
        }
    }

    /// A variable's name: digits, or one special parameter, or letters, digits and underscores.
    fn name(&mut self) -> String {
        let rest = &self.text[self.position..];
        let length = match rest.chars().next() {
            Some(c) if is_digit(c) => rest.find(|c| !is_digit(c)).unwrap_or(rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest.find(|c: char| !(c == '_' || c.is_alphabetic() || is_digit(c))).unwrap_or(rest.len()),
        };
        self.position += length;
        rest[..length].to_owned()
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        match self.environment.get(name) {
            Some(value) => {
                self.matched.insert(name.to_owned());
                Some(value.to_owned())
            }
            None => {
                self.unmatched.insert(name.to_owned());
                None
            }
        }
    }
}

/// A decimal digit of any script, as Unicode has them.
fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || is_decimal(c)
}

/// Whether the character is one of a run of ten decimal digits outside ASCII.
fn is_decimal(c: char) -> bool {
    const ZEROS: [u32; 20] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0xf20,
        0x1040, 0x17e0, 0x1810, 0xff10, 0x1d7ce,
    ];
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&(c as u32)))
}

#[cfg(test)]
mod tests;
