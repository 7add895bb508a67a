//! Patterns and the paths they match.

use std::sync::OnceLock;

use super::regex::Regex;
use crate::values::clean_path;

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `!` with nothing behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyExclusion,
    /// A set that does not close, a backslash at the end and the like.
    #[error("syntax error in pattern")]
    Syntax(String),
}

/// The patterns of an ignore file, in order.
#[derive(Debug, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    has_exclusions: bool,
}

/// Which patterns matched a folder; needed for what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentMatches(Vec<bool>);

#[derive(Debug)]
struct Pattern {
    /// The cleaned text, without `!`.
    text: String,
    exclusion: bool,
    /// Built at the first use: a pattern that is never asked may be wrong.
    matcher: OnceLock<Option<Matcher>>,
}

/// The way a pattern is matched.
#[derive(Debug)]
enum Matcher {
    Exact,
    /// `text**`
    Prefix,
    /// `**text`
    Suffix,
    Regex(Regex),
}

impl Patterns {
    /// From patterns as [`super::read`] gives them. Empty ones are skipped.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, PatternError> {
        let mut result = Patterns::default();
        for text in patterns {
            let text = text.as_ref().trim();
            if text.is_empty() {
                continue;
            }
            let clean = clean_path(text);
            let (text, exclusion) = clean.strip_prefix('!').map_or((clean.as_str(), false), |text| (text, true));
            if text.is_empty() {
                return Err(PatternError::EmptyExclusion);
            }
            if !is_valid(text) {
                return Err(PatternError::Syntax(text.to_owned()));
            }
            result.has_exclusions |= exclusion;
            result.patterns.push(Pattern { text: text.to_owned(), exclusion, matcher: OnceLock::new() });
        }
        Ok(result)
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether any pattern takes paths back in.
    pub fn has_exclusions(&self) -> bool {
        self.has_exclusions
    }

    /// The patterns without `!`, and whether they have one.
    pub fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        self.patterns.iter().map(|pattern| (pattern.text.as_str(), pattern.exclusion))
    }

    /// Whether a slash-separated path is ignored, its folders considered.
    pub fn matches(&self, path: &str) -> Result<bool, PatternError> {
        let mut matched = false;
        for pattern in &self.patterns {
            // Only a pattern that could change the verdict is asked.
            if pattern.exclusion == matched && pattern.matches_or_parent(path)? {
                matched = !pattern.exclusion;
            }
        }
        Ok(matched)
    }

    /// Whether a path is ignored, for a walk: `parent` is what this function gave for the folder
    /// it is in, None at the top.
    pub fn matches_below(
        &self,
        path: &str,
        parent: Option<&ParentMatches>,
    ) -> Result<(bool, ParentMatches), PatternError> {
        let mut matched = false;
        let mut matches = vec![false; self.patterns.len()];
        for (index, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.is_some_and(|parent| parent.0.get(index).copied().unwrap_or_default());
            if !inherited && pattern.exclusion != matched {
                continue;
            }
            matches[index] = inherited
                || match parent {
                    Some(_) => pattern.matches(path)?,
                    None => pattern.matches_or_parent(path)?,
                };
            if matches[index] {
                matched = !pattern.exclusion;
            }
        }
        Ok((matched, ParentMatches(matches)))
    }
}

impl Pattern {
    fn matches_or_parent(&self, path: &str) -> Result<bool, PatternError> {
        if self.matches(path)? {
            return Ok(true);
        }
        let folder =
            clean_path(path.rsplit_once('/').map_or("", |(folder, _)| if folder.is_empty() { "/" } else { folder }));
        if folder == "." {
            return Ok(false);
        }
        let ends = folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]);
        for end in ends {
            if self.matches(&folder[..end])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn matches(&self, path: &str) -> Result<bool, PatternError> {
        let matcher = self.matcher.get_or_init(|| compile(&self.text));
        let matcher = matcher.as_ref().ok_or_else(|| PatternError::Syntax(self.text.clone()))?;
        Ok(match matcher {
            Matcher::Exact => path == self.text,
            Matcher::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            Matcher::Suffix => {
                // Bytes, since a byte order mark may stand before the asterisks.
                let (suffix, path) = (&self.text.as_bytes()[2..], path.as_bytes());
                path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
            }
            Matcher::Regex(regex) => regex.is_match(path),
        })
    }
}

/// Whether sets are closed and not empty and backslashes have something behind them.
fn is_valid(pattern: &str) -> bool {
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        let valid = match c {
            '\\' => rest.next().is_some(),
            '[' => skip_set(&mut rest).is_some(),
            _ => true,
        };
        if !valid {
            return false;
        }
    }
    true
}

/// Reads to the end of a set; None where it has none or is malformed.
fn skip_set(rest: &mut std::str::Chars<'_>) -> Option<()> {
    let member = |rest: &mut std::str::Chars<'_>| match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    };
    if rest.as_str().starts_with('^') {
        rest.next();
    }
    let mut is_first = true;
    loop {
        if rest.as_str().starts_with(']') && !is_first {
            rest.next();
            return Some(());
        }
        is_first = false;
        member(rest)?;
        if rest.as_str().starts_with('-') {
            rest.next();
            member(rest)?;
        }
        if rest.as_str().is_empty() {
            return None;
        }
    }
}

/// Translates a pattern. What a `*` or `?` inside a set turns into, and that a backslash before a
/// letter is a class of characters, follows from the translation that Docker's matcher makes; existing
/// ignore files rely on the former by accident.
fn compile(pattern: &str) -> Option<Matcher> {
    let mut source = String::from("^");
    let mut kind = Kind::Exact;
    let mut rest = pattern.strip_prefix('\u{feff}').unwrap_or(pattern).chars().peekable();
    let mut is_first = true;
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_some() {
                    source.push_str("(.*/)?");
                    kind = Kind::Regex;
                } else if kind == Kind::Exact {
                    kind = Kind::Prefix;
                } else {
                    source.push_str(".*");
                    kind = Kind::Regex;
                }
                if is_first {
                    kind = Kind::Suffix;
                }
            }
            '*' | '?' => {
                source.push_str(if c == '*' { "[^/]*" } else { "[^/]" });
                kind = Kind::Regex;
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => source.extend(['\\', c]),
            '\\' => {
                source.push('\\');
                if let Some(escaped) = rest.next() {
                    source.push(escaped);
                    kind = Kind::Regex;
                }
            }
            '[' | ']' => {
                source.push(c);
                kind = Kind::Regex;
            }
            c => source.push(c),
        }
        is_first = false;
    }
    Some(match kind {
        Kind::Exact => Matcher::Exact,
        Kind::Prefix => Matcher::Prefix,
        Kind::Suffix => Matcher::Suffix,
        Kind::Regex => {
            source.push('$');
            Matcher::Regex(Regex::compile(&source)?)
        }
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Suffix,
    Regex,
}
