//! Splits template text into text and the tokens of actions.

use super::TemplateError;

/// A token with the byte offset where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Byte offset in the template.
    pub position: usize,
}

/// The kinds of tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind {
    /// Text outside actions, trimmed already.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// `.Name`, without the dot.
    Field(String),
    /// `$name`, with the dollar.
    Variable(String),
    /// A word: function, keyword, `true`, `false`, `nil`.
    Word(String),
    /// A quoted or raw string; the source form is kept for error messages.
    Quoted(String, String),
    /// A character constant's value.
    Character(char, String),
    /// A number as written.
    Number(String),
    /// `.` alone.
    Dot,
    /// `|`.
    Pipe,
    /// `(`.
    LeftParenthesis,
    /// `)`.
    RightParenthesis,
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
    /// `,`.
    Comma,
    /// One or more blanks: they separate arguments.
    Space,
}

struct Lexer<'a> {
    text: &'a str,
    position: usize,
    tokens: Vec<Token>,
}

/// Turns `text` into tokens.
pub fn tokenize(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer { text, position: 0, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

/// The error for a mistake at byte `position` of `text`.
pub fn error_at(text: &str, position: usize, message: impl Into<String>) -> TemplateError {
    let before = text.get(..position).unwrap_or(text);
    TemplateError::Parse { line: 1 + before.matches('\n').count(), message: message.into() }
}

impl Lexer<'_> {
    fn run(&mut self) -> Result<(), TemplateError> {
        let mut trim_next = false;
        loop {
            let rest = &self.text[self.position..];
            let start = self.position;
            let (mut text, open) = match rest.find("{{") {
                Some(at) => (&rest[..at], Some(start + at)),
                None => (rest, None),
            };
            if trim_next {
                text = text.trim_start();
            }
            let Some(open) = open else {
                self.push_text(text, start);
                return Ok(());
            };
            let mut inside = open + 2;
            if starts_with_trim_marker(&self.text[inside..]) {
                text = text.trim_end();
                inside += 1;
            }
            self.push_text(text, start);
            self.position = inside;
            trim_next = match self.comment(open)? {
                Some(trimmed) => trimmed,
                None => {
                    self.tokens.push(Token { kind: TokenKind::Open, position: open });
                    self.action(open)?
                }
            };
        }
    }

    fn push_text(&mut self, text: &str, position: usize) {
        if !text.is_empty() {
            self.tokens.push(Token { kind: TokenKind::Text(text.to_owned()), position });
        }
    }

    /// Skips `{{/* … */}}`; the answer says whether the text after it is trimmed.
    fn comment(&mut self, open: usize) -> Result<Option<bool>, TemplateError> {
        let rest = &self.text[self.position..];
        let Some(body) = rest.trim_start().strip_prefix("/*") else { return Ok(None) };
        let end = body.find("*/").ok_or_else(|| error_at(self.text, open, "unclosed comment"))?;
        let after = &body[end + 2..];
        let (trimmed, tail) = match after.strip_prefix(" -}}") {
            Some(tail) => (true, tail),
            None => match after.strip_prefix("}}") {
                Some(tail) => (false, tail),
                None => return Err(error_at(self.text, open, "comment ends before closing delimiter")),
            },
        };
        self.position = self.text.len() - tail.len();
        Ok(Some(trimmed))
    }

    /// Reads up to `}}`; the answer says whether the text after it is trimmed.
    fn action(&mut self, open: usize) -> Result<bool, TemplateError> {
        loop {
            let rest = &self.text[self.position..];
            let trimmed = rest.starts_with([' ', '\t', '\r', '\n']) && rest[1..].starts_with("-}}");
            if trimmed || rest.starts_with("}}") {
                let skip = if trimmed { 2 } else { 0 };
                self.tokens.push(Token { kind: TokenKind::Close, position: self.position + skip });
                self.position += skip + 2;
                return Ok(trimmed);
            }
            let Some(first) = rest.chars().next() else {
                return Err(error_at(self.text, open, "unclosed action"));
            };
            self.token(first)?;
        }
    }

    fn token(&mut self, first: char) -> Result<(), TemplateError> {
        let position = self.position;
        let rest = &self.text[position..];
        let (kind, length) = match first {
            ' ' | '\t' | '\r' | '\n' => {
                let mut length = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
                // a trim marker owns its blank
                if rest[length..].starts_with("-}}") && length > 1 {
                    length -= 1;
                }
                (TokenKind::Space, length)
            }
            ':' if rest.starts_with(":=") => (TokenKind::Declare, 2),
            '=' => (TokenKind::Assign, 1),
            '|' => (TokenKind::Pipe, 1),
            '(' => (TokenKind::LeftParenthesis, 1),
            ')' => (TokenKind::RightParenthesis, 1),
            ',' => (TokenKind::Comma, 1),
            '"' => self.quoted(rest, position)?,
            '`' => self.raw(rest, position)?,
            '\'' => self.character(rest, position)?,
            '$' => {
                let length = 1 + word_length(&rest[1..]);
                (TokenKind::Variable(rest[..length].to_owned()), length)
            }
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(rest),
            '.' => match word_length(&rest[1..]) {
                0 => (TokenKind::Dot, 1),
                length => (TokenKind::Field(rest[1..=length].to_owned()), length + 1),
            },
            '+' | '-' | '0'..='9' => self.number(rest),
            c if c.is_alphabetic() || c == '_' => {
                let length = word_length(rest);
                (TokenKind::Word(rest[..length].to_owned()), length)
            }
            c => {
                return Err(error_at(self.text, position, format!("unexpected {:?} in command", c.to_string())));
            }
        };
        self.tokens.push(Token { kind, position });
        self.position += length;
        Ok(())
    }

    fn number(&self, rest: &str) -> (TokenKind, usize) {
        let signed = usize::from(rest.starts_with(['+', '-']));
        let length = rest[signed..]
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'))
            .map_or(rest.len(), |at| at + signed)
            .max(1);
        (TokenKind::Number(rest[..length].to_owned()), length)
    }

    fn quoted(&self, rest: &str, position: usize) -> Result<(TokenKind, usize), TemplateError> {
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let source = &rest[..=at];
                    let text = unquote(&source[1..at])
                        .ok_or_else(|| error_at(self.text, position, "invalid syntax in quoted string"))?;
                    return Ok((TokenKind::Quoted(text, source.to_owned()), at + 1));
                }
                _ => {}
            }
        }
        Err(error_at(self.text, position, "unterminated quoted string"))
    }

    fn raw(&self, rest: &str, position: usize) -> Result<(TokenKind, usize), TemplateError> {
        match rest[1..].find('`') {
            Some(at) => Ok((TokenKind::Quoted(rest[1..=at].to_owned(), rest[..at + 2].to_owned()), at + 2)),
            None => Err(error_at(self.text, position, "unterminated raw quoted string")),
        }
    }

    fn character(&self, rest: &str, position: usize) -> Result<(TokenKind, usize), TemplateError> {
        let bad = || error_at(self.text, position, "unterminated character constant");
        let end = rest.char_indices().skip(2).find(|(_, c)| *c == '\'').map(|(at, _)| at).ok_or_else(bad)?;
        let text = unquote(&rest[1..end]).ok_or_else(bad)?;
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(c), None) => Ok((TokenKind::Character(c, rest[..=end].to_owned()), end + 1)),
            _ => Err(error_at(self.text, position, format!("malformed character constant: {}", &rest[..=end]))),
        }
    }
}

fn starts_with_trim_marker(rest: &str) -> bool {
    rest.starts_with('-') && rest[1..].starts_with([' ', '\t', '\r', '\n'])
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
}

/// Undoes Go's escapes; `None` for an escape that is none.
fn unquote(body: &str) -> Option<String> {
    let mut out = String::with_capacity(body.len());
    let mut characters = body.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match characters.next()? {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            c @ ('\\' | '\'' | '"') => c,
            'x' => hexadecimal(&mut characters, 2)?,
            'u' => hexadecimal(&mut characters, 4)?,
            'U' => hexadecimal(&mut characters, 8)?,
            _ => return None,
        });
    }
    Some(out)
}

fn hexadecimal(characters: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let mut value = 0u32;
    for _ in 0..digits {
        value = value.checked_mul(16)?.checked_add(characters.next()?.to_digit(16)?)?;
    }
    char::from_u32(value)
}
