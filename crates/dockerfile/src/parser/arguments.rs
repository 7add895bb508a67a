//! The arguments of each kind of instruction.

use super::json::{self, ArrayError};
use super::lines::is_separator;
use super::{SyntaxErrorKind, Word, push_tight};

/// Arguments as words.
pub(super) struct Arguments {
    pub(super) words: Vec<Word>,
    pub(super) json: bool,
}

impl Arguments {
    fn plain(words: Vec<Word>) -> Self {
        Arguments { words, json: false }
    }
}

/// Reads the arguments of the instruction with that lower-case keyword.
pub(super) fn parse(keyword: &str, text: &str, offset: usize, escape: char) -> Result<Arguments, SyntaxErrorKind> {
    match keyword {
        "add" | "copy" | "volume" => {
            Ok(json_array(text, offset)?.unwrap_or_else(|| Arguments::plain(separated(text, offset))))
        }
        "cmd" | "entrypoint" | "run" | "shell" => json_or_text(text, offset),
        "expose" | "from" => Ok(Arguments::plain(separated(text, offset))),
        "arg" => Ok(Arguments::plain(words(text, offset, escape))),
        "env" => pairs("ENV", text, offset, escape).map(Arguments::plain),
        "label" => pairs("LABEL", text, offset, escape).map(Arguments::plain),
        "healthcheck" => health(text, offset),
        "maintainer" | "stopsignal" | "user" | "workdir" => Ok(Arguments::plain(whole(text, offset))),
        // An unknown instruction has one argument that says nothing.
        _ => Ok(Arguments::plain(vec![Word::new("", offset, offset + text.len())])),
    }
}

/// The text as one word, unless it is empty.
fn whole(text: &str, offset: usize) -> Vec<Word> {
    if text.is_empty() {
        return Vec::new();
    }
    vec![Word::new(text, offset, offset + text.len())]
}

/// The words of a JSON array, or None where the text is something else.
fn json_array(text: &str, offset: usize) -> Result<Option<Arguments>, SyntaxErrorKind> {
    match json::string_array(text) {
        Ok(strings) => {
            let words = strings.into_iter().map(|word| Word::new(word, offset, offset + text.len()));
            Ok(Some(Arguments { words: words.collect(), json: true }))
        }
        Err(ArrayError::NotStrings) => Err(SyntaxErrorKind::NotStrings),
        Err(ArrayError::NotArray) => Ok(None),
    }
}

fn json_or_text(text: &str, offset: usize) -> Result<Arguments, SyntaxErrorKind> {
    Ok(json_array(text, offset)?.unwrap_or_else(|| Arguments::plain(whole(text, offset))))
}

/// The words between separators.
fn separated(text: &str, offset: usize) -> Vec<Word> {
    let mut result = Vec::new();
    let mut position = 0;
    while position < text.len() {
        let rest = &text[position..];
        let length = rest.find(is_separator).unwrap_or(rest.len());
        let start = offset + position;
        push_tight(&mut result, Word::new(&rest[..length], start, start + length));
        let after = &rest[length..];
        position += length + after.len() - after.trim_start_matches(is_separator).len();
    }
    result
}

/// The words of the line; quotes hold words together and stay, as do escape characters.
fn words(text: &str, offset: usize, escape: char) -> Vec<Word> {
    let mut result = Vec::new();
    // Where it begins, and what there is of it.
    let mut word: Option<(usize, String)> = None;
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            if let Some((start, text)) = word.take() {
                push_tight(&mut result, Word::new(text, start, offset + at));
            }
            continue;
        }
        let (_, current) = word.get_or_insert_with(|| (offset + at, String::new()));
        if c == escape && quote != Some('\'') {
            // One at the very end is dropped.
            if let Some((_, escaped)) = characters.next() {
                current.push(c);
                current.push(escaped);
            }
            continue;
        }
        if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        }
        current.push(c);
    }
    if let Some((start, last)) = word.filter(|(_, word)| !word.is_empty()) {
        push_tight(&mut result, Word::new(last, start, offset + text.len()));
    }
    result
}

/// `name=value …`, or the old `name value`: three words each.
fn pairs(keyword: &'static str, text: &str, offset: usize, escape: char) -> Result<Vec<Word>, SyntaxErrorKind> {
    let words = words(text, offset, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.text.contains('=') {
        let length = text.find(is_separator).ok_or(SyntaxErrorKind::TwoArguments(keyword))?;
        let (name, rest) = text.split_at(length);
        let value = rest.trim_start_matches(is_separator);
        let value_start = offset + text.len() - value.len();
        let end = offset + text.len();
        return Ok(vec![
            Word::new(name, offset, offset + length),
            Word::new(value, value_start, end),
            Word::new("", end, end),
        ]);
    }
    let mut result = Vec::with_capacity(words.len() * 3);
    for word in words {
        let Some((name, value)) = word.text.split_once('=') else {
            return Err(SyntaxErrorKind::NoEquals(word.text));
        };
        for part in [name, value, "="] {
            result.push(Word { text: part.to_owned(), start: word.start, end: word.end });
        }
    }
    Ok(result)
}

/// The type of a health check, then its command.
fn health(text: &str, offset: usize) -> Result<Arguments, SyntaxErrorKind> {
    let length = text.find(char::is_whitespace).unwrap_or(text.len());
    if length == 0 {
        return Ok(Arguments::plain(Vec::new()));
    }
    let command = text[length..].trim_start();
    let mut arguments = json_or_text(command, offset + text.len() - command.len())?;
    arguments.words.insert(0, Word::new(&text[..length], offset, offset + length));
    Ok(arguments)
}
