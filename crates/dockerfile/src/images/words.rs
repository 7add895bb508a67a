//! Words with variables and flags with quotes, read so that each character keeps its place.

use std::collections::HashMap;

use super::{Expression, Obstacle};

/// The arguments that are there without an `ARG`, another value for each build.
const AUTOMATIC: [&str; 11] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// How deep defaults in defaults are followed.
const MAX_DEPTH: usize = 16;

/// What the global arguments are worth.
pub(super) type Values = HashMap<String, Result<Expression, Obstacle>>;

/// Whether a variable has another value for each build.
pub(super) fn is_automatic(name: &str) -> bool {
    AUTOMATIC.contains(&name)
}

/// A part of an instruction, which is read with its variables.
pub(super) struct Words<'a> {
    pub(super) escape: char,
    pub(super) values: &'a Values,
    /// The number of the instruction.
    pub(super) source: usize,
}

impl Words<'_> {
    /// Expands `text`, which begins at `offset` of the instruction.
    pub(super) fn expand(&self, text: &str, offset: usize) -> Result<Expression, Obstacle> {
        self.part(text, offset, 0)
    }

    fn part(&self, text: &str, offset: usize, depth: usize) -> Result<Expression, Obstacle> {
        let mut result = Expression::default();
        let mut quote = None;
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let end = at + c.len_utf8();
            let next = text[end..].chars().next();
            match c {
                '\'' | '"' if quote == Some(c) => quote = None,
                '\'' | '"' if quote.is_none() => quote = Some(c),
                '$' if quote != Some('\'') => {
                    at = self.variable(text, end, offset, depth, &mut result)?;
                    continue;
                }
                _ if c == self.escape && quote != Some('\'') => {
                    let Some(escaped) = next else { break };
                    let after = end + escaped.len_utf8();
                    // Between double quotes most characters keep their escape character.
                    if quote == Some('"') && !matches!(escaped, '"' | '$') && escaped != self.escape {
                        result.push(c, self.source, offset + at..offset + end);
                    }
                    result.push(escaped, self.source, offset + end..offset + after);
                    at = after;
                    continue;
                }
                _ => result.push(c, self.source, offset + at..offset + end),
            }
            at = end;
        }
        Ok(result)
    }

    /// A variable whose `$` ends at `start`. Returns where it ends.
    fn variable(
        &self,
        text: &str,
        start: usize,
        offset: usize,
        depth: usize,
        result: &mut Expression,
    ) -> Result<usize, Obstacle> {
        let rest = &text[start..];
        let Some(inner) = rest.strip_prefix('{') else {
            let name = name(rest);
            if name.is_empty() {
                result.push('$', self.source, offset + start - 1..offset + start);
                return Ok(start);
            }
            let value = self.value(name)?.unwrap_or_default();
            result.append(name, &value)?;
            return Ok(start + name.len());
        };
        let name = name(inner);
        let modifier = start + 1 + name.len();
        let unknown = || Obstacle::Substitution { variable: name.to_owned() };
        let (default, null_is_unset) = match &text[modifier..] {
            after if after.starts_with('}') => {
                let value = self.value(name)?.unwrap_or_default();
                result.append(name, &value)?;
                return Ok(modifier + 1);
            }
            after if after.starts_with(":-") => (modifier + 2, true),
            after if after.starts_with('-') => (modifier + 1, false),
            _ => return Err(unknown()),
        };
        let end = default + closing(&text[default..], self.escape).ok_or_else(unknown)?;
        let known = self.value(name)?.filter(|value| !(null_is_unset && value.characters.is_empty()));
        let value = match known {
            Some(value) => value,
            None if depth < MAX_DEPTH => self.part(&text[default..end], offset + default, depth + 1)?,
            None => return Err(unknown()),
        };
        result.append(name, &value)?;
        Ok(end + 1)
    }

    fn value(&self, name: &str) -> Result<Option<Expression>, Obstacle> {
        match self.values.get(name) {
            Some(value) => value.clone().map(Some),
            None if is_automatic(name) => Err(Obstacle::PerPlatform { variable: name.to_owned() }),
            None => Ok(None),
        }
    }
}

/// The name of a variable at the start of the text.
fn name(text: &str) -> &str {
    let length = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    &text[..length]
}

/// Where the `}` is that closes what is open at the start of the text.
fn closing(text: &str, escape: char) -> Option<usize> {
    let (mut depth, mut quote, mut before) = (0_usize, None, '\0');
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            _ if c == escape && quote != Some('\'') => {
                characters.next();
            }
            '\'' | '"' if quote == Some(c) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(c),
            '{' if before == '$' => depth += 1,
            '}' if quote.is_none() && depth == 0 => return Some(at),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = c;
    }
    None
}

/// A flag as written, from `offset` on, without its quotes and escapes. Characters outside ASCII are no part of a
/// reference and need not be those that the flag is read as.
pub(super) fn flag(text: &str, offset: usize, escape: char, source: usize) -> Expression {
    let mut result = Expression::default();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        let place = |at: usize, c: char| offset + at..offset + at + c.len_utf8();
        if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        } else if c == escape {
            if let Some((at, escaped)) = characters.next() {
                result.push(escaped, source, place(at, escaped));
            }
        } else {
            result.push(c, source, place(at, c));
        }
    }
    result
}

/// The value of the last `from` in the comma-separated list of a mount.
pub(super) fn mount_from(list: &Expression) -> Option<Expression> {
    let mut found = None;
    let count = list.characters.len();
    let mut start = 0;
    while start < count {
        let mut field = Vec::new();
        let quoted = list.characters[start].value == '"';
        let mut at = start + usize::from(quoted);
        while at < count {
            let value = list.characters[at].value;
            let doubled = list.characters.get(at + 1).is_some_and(|next| next.value == '"');
            match value {
                '"' if quoted && doubled => at += 1,
                '"' if quoted => {
                    at += 1;
                    break;
                }
                ',' if !quoted => break,
                _ => {}
            }
            field.push(list.characters[at].clone());
            at += 1;
        }
        let field = Expression { characters: field, empty: Vec::new() };
        let key_length = field.characters.iter().position(|character| character.value == '=');
        if let Some(length) = key_length
            && field.slice(0..length).text().eq_ignore_ascii_case("from")
        {
            found = Some(field.slice(length + 1..field.characters.len()));
        }
        start = at + 1;
    }
    found
}
