//! Patterns in source paths, as Go's `filepath.Match` reads them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::{CopyError, Result};
use crate::tree::MergedTree;

/// The paths that a pattern matches, in the order of a walk. A path without wildcards is given as it is, whether or
/// not it is there.
pub(crate) fn resolve(tree: &MergedTree, pattern: &Path, follow: bool) -> Result<Vec<PathBuf>> {
    let clean = super::clean(pattern);
    let names: Vec<&OsStr> = clean.iter().filter(|name| *name != "/").collect();
    let Some(first) = names.iter().position(|name| has_wildcard(name.as_bytes())) else {
        return Ok(vec![pattern.to_owned()]);
    };
    let base: PathBuf = names[..first].iter().collect();
    let rest: Vec<Vec<u8>> = names[first..].iter().map(|name| name.as_bytes().to_vec()).collect();
    for component in &rest {
        match_name(component, b"").map_err(|()| CopyError::InvalidPattern { pattern: pattern.to_owned() })?;
    }
    let base = tree.resolve(&base, follow)?.path;
    let Some(node) = tree.lookup(&base)? else { return Ok(Vec::new()) };
    let mut matches = Vec::new();
    if let Some(directory) = node.as_directory() {
        collect(directory, &base, &rest, &mut matches)?;
    }
    Ok(matches)
}

/// Every path with as many components as the pattern has is compared component by component: `*` never matches `/`.
fn collect(
    directory: &crate::tree::MergedDirectory,
    path: &Path,
    pattern: &[Vec<u8>],
    matches: &mut Vec<PathBuf>,
) -> Result<()> {
    let Some((component, rest)) = pattern.split_first() else { return Ok(()) };
    for name in directory.names()? {
        if match_name(component, name.as_bytes()) != Ok(true) {
            continue;
        }
        let Some(child) = directory.child(&name)? else { continue };
        let path = path.join(&name);
        if rest.is_empty() {
            matches.push(path);
        } else if let Some(below) = child.as_directory() {
            collect(below, &path, rest, matches)?;
        }
    }
    Ok(())
}

/// Whether a component of a path is a pattern.
pub(crate) fn has_wildcard(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether a name without slashes matches a pattern. An error where the pattern is malformed, which is also told
/// where the name is exhausted before the malformed part.
pub(crate) fn match_name(pattern: &[u8], name: &[u8]) -> Result<bool, ()> {
    let tokens = tokenize(pattern)?;
    let name: Vec<char> = decode(name);
    Ok(matches(&tokens, &name))
}

enum Token {
    Any,
    One,
    Literal(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

fn tokenize(pattern: &[u8]) -> Result<Vec<Token>, ()> {
    let characters = decode(pattern);
    let mut tokens = Vec::new();
    let mut rest = characters.iter().copied();
    while let Some(character) = rest.next() {
        tokens.push(match character {
            '*' => Token::Any,
            '?' => Token::One,
            '\\' => Token::Literal(rest.next().ok_or(())?),
            '[' => class(&mut rest)?,
            other => Token::Literal(other),
        });
    }
    Ok(tokens)
}

fn class(rest: &mut (impl Iterator<Item = char> + Clone)) -> Result<Token, ()> {
    let mut ranges = Vec::new();
    let negated = rest.clone().next() == Some('^');
    if negated {
        rest.next();
    }
    loop {
        if rest.clone().next() == Some(']') && !ranges.is_empty() {
            rest.next();
            return Ok(Token::Class { negated, ranges });
        }
        let low = bound(rest)?;
        let high = if rest.clone().next() == Some('-') {
            rest.next();
            bound(rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// One end of a range: neither `-` nor `]` unless escaped.
fn bound(rest: &mut impl Iterator<Item = char>) -> Result<char, ()> {
    match rest.next() {
        Some('\\') => rest.next().ok_or(()),
        Some('-' | ']') | None => Err(()),
        Some(other) => Ok(other),
    }
}

fn matches(tokens: &[Token], name: &[char]) -> bool {
    // The classic walk with one point to return to: the last `*` and how much it took.
    let (mut token, mut position) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match tokens.get(token) {
            Some(Token::Any) => {
                retry = Some((token, position));
                token += 1;
                continue;
            }
            Some(one) => name.get(position).is_some_and(|&character| one.accepts(character)),
            None if position == name.len() => return true,
            None => false,
        };
        if step {
            token += 1;
            position += 1;
            continue;
        }
        match retry {
            Some((star, taken)) if taken < name.len() => {
                retry = Some((star, taken + 1));
                token = star + 1;
                position = taken + 1;
            }
            _ => return false,
        }
    }
}

impl Token {
    fn accepts(&self, character: char) -> bool {
        match self {
            Token::Any => false,
            Token::One => true,
            Token::Literal(literal) => *literal == character,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&character)) != *negated
            }
        }
    }
}

/// Characters of a name; bytes that are no UTF-8 stand for themselves in a range that no text uses.
fn decode(bytes: &[u8]) -> Vec<char> {
    let mut characters = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        characters.extend(chunk.valid().chars());
        let invalid = chunk.invalid().iter().filter_map(|&byte| char::from_u32(0x10_ff00 + u32::from(byte)));
        characters.extend(invalid);
    }
    characters
}

/// The last name of a source path, which a copy into a folder gets.
pub(super) fn base_name(path: &Path) -> OsString {
    path.file_name().map(OsStr::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "abc", Ok(true)),
            ("a*b*c*d*e*", "axbxcxdxexxx", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[e-g]", "abc", Ok(false)),
            ("ab[^c]", "abc", Ok(false)),
            ("ab[^e-g]", "abc", Ok(true)),
            ("a\\*b", "a*b", Ok(true)),
            ("a\\*b", "ab", Ok(false)),
            ("a?b", "a☺b", Ok(true)),
            ("a[^a]b", "a☺b", Ok(true)),
            ("[\\]a]", "]", Ok(true)),
            ("[\\-]", "-", Ok(true)),
            ("[x\\-]", "z", Ok(false)),
            ("[]a]", "]", Err(())),
            ("[-]", "-", Err(())),
            ("[x-]", "x", Err(())),
            ("[", "a", Err(())),
            ("a[", "ab", Err(())),
            ("\\", "a", Err(())),
            ("*x", "xxx", Ok(true)),
        ] {
            assert_eq!(match_name(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
