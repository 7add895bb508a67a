//! The patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`: `*` is any run
//! of characters, `?` any one character, neither matches a line end; a backslash makes `*`, `?`,
//! `\`, `/` and `}` literal.

use super::ShellErrorKind;

/// How much a `*` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greed {
    /// As little as possible.
    Shortest,
    /// As much as possible.
    Longest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Run,
}

/// A pattern, matched in time proportional to its length times the text's.
#[derive(Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

/// A match as indices of characters.
#[derive(Clone, Copy)]
struct Match {
    start: usize,
    end: usize,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, ShellErrorKind> {
        let mut tokens = Vec::new();
        let mut characters = text.strip_prefix('\u{feff}').unwrap_or(text).chars();
        while let Some(c) = characters.next() {
            tokens.push(match c {
                '*' => Token::Run,
                '?' => Token::One,
                '\\' => match characters.next() {
                    Some(escaped @ ('}' | '/' | '*' | '?' | '\\')) => Token::Literal(escaped),
                    other => {
                        let character = other.unwrap_or('\u{fffd}').to_string();
                        return Err(ShellErrorKind::Pattern { pattern: text.to_owned(), character });
                    }
                },
                c => Token::Literal(c),
            });
        }
        Ok(Pattern { tokens })
    }

    /// The pattern back to front, for [`Pattern::trim_end`]: a `*` that takes as little as
    /// possible does so from the end.
    pub(super) fn parse_reversed(text: &str) -> Result<Self, ShellErrorKind> {
        let mut pattern = Pattern::parse(text)?;
        pattern.tokens.reverse();
        Ok(pattern)
    }

    pub(super) fn trim_start(&self, value: &str, greed: Greed) -> String {
        let characters: Vec<char> = value.chars().collect();
        let end = self.find(&characters, 0, true, greed).map_or(0, |found| found.end);
        characters[end..].iter().collect()
    }

    pub(super) fn trim_end(&self, value: &str, greed: Greed) -> String {
        let characters: Vec<char> = value.chars().rev().collect();
        let end = self.find(&characters, 0, true, greed).map_or(0, |found| found.end);
        characters[end..].iter().rev().collect()
    }

    /// Replaces the first match, or all of them. Only where all are replaced does a `$` in the
    /// replacement mean something: `$0` is what was matched, any other name is empty.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        limit: usize,
    ) -> Result<String, ShellErrorKind> {
        let characters: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let (mut position, mut copied) = (0, 0);
        while position <= characters.len() {
            let Some(found) = self.find(&characters, position, false, Greed::Longest) else { break };
            result.extend(&characters[copied..found.start]);
            // An empty match right after another match is not one.
            if found.end > copied || found.start == 0 {
                if all {
                    push_template(&mut result, replacement, &characters[found.start..found.end]);
                } else {
                    result.push_str(replacement);
                }
            }
            if result.len() > limit {
                return Err(ShellErrorKind::TooLong);
            }
            copied = found.end;
            position = found.end.max(position + 1);
            if !all {
                break;
            }
        }
        result.extend(&characters[copied..]);
        Ok(result)
    }

    /// The leftmost match that does not begin before `from`. All alternatives are followed at
    /// once, in the order in which a backtracking matcher would try them.
    fn find(&self, text: &[char], from: usize, anchored: bool, greed: Greed) -> Option<Match> {
        let mut found = None;
        let mut threads = Threads::new(self.tokens.len());
        let mut next = Threads::new(self.tokens.len());
        for position in from..=text.len() {
            if found.is_none() && (position == from || !anchored) {
                self.add(&mut threads, 0, position, greed);
            }
            if threads.list.is_empty() && (found.is_some() || anchored) {
                break;
            }
            let current = text.get(position).copied();
            for at in 0..threads.list.len() {
                let (token, start) = threads.list[at];
                let Some(wanted) = self.tokens.get(token) else {
                    // Whatever comes later in the list has lower priority.
                    found = Some(Match { start, end: position });
                    break;
                };
                match (wanted, current) {
                    (Token::Literal(literal), Some(c)) if *literal == c => self.add(&mut next, token + 1, start, greed),
                    (Token::One, Some(c)) if c != '\n' => self.add(&mut next, token + 1, start, greed),
                    (Token::Run, Some(c)) if c != '\n' => self.add(&mut next, token, start, greed),
                    _ => {}
                }
            }
            std::mem::swap(&mut threads, &mut next);
            next.clear();
        }
        found
    }

    /// Adds a thread and what it may become without reading a character.
    fn add(&self, threads: &mut Threads, token: usize, start: usize, greed: Greed) {
        let mut token = token;
        let mut skipped = Vec::new();
        loop {
            if threads.seen[token] {
                break;
            }
            threads.seen[token] = true;
            if self.tokens.get(token) != Some(&Token::Run) {
                threads.list.push((token, start));
                break;
            }
            match greed {
                Greed::Longest => threads.list.push((token, start)),
                Greed::Shortest => skipped.push((token, start)),
            }
            token += 1;
        }
        threads.list.extend(skipped.into_iter().rev());
    }
}

/// The places in the pattern that are reached, by priority, each once.
struct Threads {
    list: Vec<(usize, usize)>,
    seen: Vec<bool>,
}

impl Threads {
    fn new(tokens: usize) -> Self {
        Threads { list: Vec::new(), seen: vec![false; tokens + 1] }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.seen.fill(false);
    }
}

/// Appends the replacement with its `$` references resolved.
fn push_template(result: &mut String, template: &str, matched: &[char]) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
            continue;
        }
        match reference(after) {
            Some((name, after)) => {
                if name == "0" {
                    result.extend(matched);
                }
                rest = after;
            }
            None => {
                result.push('$');
                rest = after;
            }
        }
    }
    result.push_str(rest);
}

/// The name after a `$`, bare or in braces, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (braced, text) = text.strip_prefix('{').map_or((false, text), |text| (true, text));
    let length = text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    if name.is_empty() {
        return None;
    }
    if braced { rest.strip_prefix('}').map(|rest| (name, rest)) } else { Some((name, rest)) }
}
