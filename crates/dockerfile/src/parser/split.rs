//! Splitting of a joined line into keyword, flags and arguments.

use super::lines::is_separator;
use super::{Node, SyntaxErrorKind, Word, arguments, push_tight};

/// What is wrong, and where in the joined line it begins and ends.
pub(super) type SplitError = (SyntaxErrorKind, usize, usize);

/// How deep `ONBUILD ONBUILD …` is followed.
const MAX_DEPTH: usize = 8;

/// Reads a joined line. `offset` is where the line begins in the outermost one.
pub(super) fn node(line: &str, offset: usize, escape: char) -> Result<Node, SplitError> {
    nested(line, offset, escape, 0)
}

fn nested(line: &str, offset: usize, escape: char, depth: usize) -> Result<Node, SplitError> {
    let start = line.len() - line.trim_start().len();
    let text = line.trim();
    let length = text.find(is_separator).unwrap_or(text.len());
    let keyword = &text[..length];
    let rest = text[length..].trim_start_matches(is_separator);
    let rest_start = offset + start + text.len() - rest.len();
    let (flags, after) = flags(rest, rest_start, escape);
    let args = rest[after..].trim();
    let args_start = rest_start + after + rest[after..].len() - rest[after..].trim_start().len();

    let keyword_word = Word::new(keyword, offset + start, offset + start + length);
    let mut node = Node { keyword: keyword_word, flags, ..Node::empty() };
    if keyword.eq_ignore_ascii_case("onbuild") && depth < MAX_DEPTH {
        if !args.is_empty() {
            let mut sub = nested(args, args_start, escape, depth + 1)?;
            sub.original = args.to_owned();
            node.sub = Some(Box::new(sub));
        }
        return Ok(node);
    }
    let parsed = arguments::parse(&keyword.to_lowercase(), args, args_start, escape)
        .map_err(|kind| (kind, args_start, args_start + args.len()))?;
    node.args = parsed.words;
    node.json = parsed.json;
    Ok(node)
}

/// The flags at the front, and where they end. A lone `--` ends them and is dropped.
fn flags(text: &str, offset: usize, escape: char) -> (Vec<Word>, usize) {
    let mut flags = Vec::new();
    let mut position = 0;
    loop {
        let rest = &text[position..];
        position += rest.len() - rest.trim_start().len();
        if !text[position..].starts_with("--") {
            return (flags, position);
        }
        let (flag, length) = flag(&text[position..], escape);
        let word = Word::new(flag, offset + position, offset + position + length);
        position += length;
        if word.text == "--" {
            return (flags, position);
        }
        push_tight(&mut flags, word);
    }
}

/// One flag without its quotes and escapes, and how long it is as written.
///
/// BuildKit reads flags byte by byte and takes each byte for a character of its own, so that `é`
/// comes out as `Ã©`. Cache keys, stage names and mount targets of existing builds hold such text,
/// hence it is read the same way here.
fn flag(text: &str, escape: char) -> (String, usize) {
    let mut flag = String::new();
    let mut quote = None;
    let mut bytes = text.bytes().map(char::from).enumerate();
    while let Some((at, c)) = bytes.next() {
        if quote.is_none() && c.is_whitespace() {
            let end = (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            return (flag, end);
        }
        if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        } else if c == escape {
            // One at the very end is dropped.
            flag.extend(bytes.next().map(|(_, escaped)| escaped));
        } else {
            flag.push(c);
        }
    }
    (flag, text.len())
}
