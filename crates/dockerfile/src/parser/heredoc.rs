//! Heredocs: `<<EOF`, `<<-EOF`, `<<"EOF"`.

use crate::shell::{Lex, ShellError, Variables};

/// A heredoc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, without its quotes.
    pub name: String,
    /// The number before `<<`, or 0.
    pub file_descriptor: u64,
    /// Whether variables in the body are expanded: no part of the delimiter is quoted.
    pub expand: bool,
    /// Whether leading tabs are dropped (`<<-`).
    pub chomp: bool,
    /// The body, its last line end included.
    pub content: String,
}

/// The heredoc that a word announces; None where it is not one. The body is empty.
pub fn parse_heredoc(word: &str) -> Option<Heredoc> {
    announced(word).ok().flatten()
}

fn announced(word: &str) -> Result<Option<Heredoc>, ShellError> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let Some(rest) = word[digits..].strip_prefix("<<") else { return Ok(None) };
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let mut lex = Lex { skip_unset_env: true, ..Lex::new('\\') };
    let words = lex.process_word(rest, &Variables::new())?.words;
    let Some(name) = words.only() else { return Ok(None) };
    lex.raw_quotes = true;
    let raw = lex.process_word(rest, &Variables::new())?.words;
    let Some(raw) = raw.only() else { return Ok(None) };
    // What is quoted loses its quotes in one of the two.
    let quotes = |text: &str| text.chars().filter(|c| matches!(c, '\'' | '"')).count();
    let expand = quotes(raw) == quotes(name);
    let file_descriptor = if digits == 0 { 0 } else { word[..digits].parse().unwrap_or(u64::MAX) };
    Ok(Some(Heredoc { name: name.to_owned(), file_descriptor, expand, chomp, content: String::new() }))
}

/// The heredocs that a line announces. A line that is no proper shell text announces none.
pub(super) fn on_line(line: &str) -> Result<Vec<Heredoc>, ShellError> {
    let lex = Lex { raw_quotes: true, raw_escapes: true, skip_unset_env: true, ..Lex::new('\\') };
    let words = lex.process_word(line, &Variables::new()).map(|done| done.words).unwrap_or_default();
    let mut heredocs = Vec::new();
    for word in words.iter() {
        heredocs.extend(announced(word)?);
    }
    Ok(heredocs)
}

/// The body without the tabs at the start of its lines.
pub fn chomp_heredoc(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}
