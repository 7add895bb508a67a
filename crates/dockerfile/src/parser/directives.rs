//! Parser directives: `# syntax=`, `# escape=` and `# check=` at the top of the file.

/// A directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The name, in lower case.
    pub name: String,
    /// The first word of the value: for `syntax` the image.
    pub value: String,
    /// The whole value: for `syntax` the image and what it is given.
    pub text: String,
    /// The line, from 1.
    pub line: u32,
}

/// What is wrong with a directive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectiveError {
    /// The same one twice.
    #[error("only one {0} parser directive can be used")]
    Repeated(String),
    /// An escape character that is none.
    #[error("invalid escape token '{0}' does not match ` or \\")]
    Escape(String),
}

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

/// Directives stop at the first line that is none.
pub(super) struct DirectiveParser {
    comment: &'static str,
    line: u32,
    seen: Vec<String>,
    done: bool,
}

impl DirectiveParser {
    /// `line` is how many lines come before.
    pub(super) fn new(comment: &'static str, line: u32) -> Self {
        DirectiveParser { comment, line, seen: Vec::new(), done: false }
    }

    /// There are none any more.
    pub(super) fn finish(&mut self) {
        self.done = true;
    }

    /// The directive on the next line, if it is one.
    pub(super) fn line(&mut self, line: &str) -> Result<Option<Directive>, DirectiveError> {
        self.line += 1;
        if self.done {
            return Ok(None);
        }
        let Some((name, text)) = line.strip_prefix(self.comment).and_then(|line| split(line.trim_start())) else {
            self.done = true;
            return Ok(None);
        };
        if self.seen.contains(&name) {
            return Err(DirectiveError::Repeated(name));
        }
        self.seen.push(name.clone());
        let value = text.split(' ').next().unwrap_or_default().to_owned();
        Ok(Some(Directive { name, value, text: text.to_owned(), line: self.line }))
    }
}

/// `name = value` with a known name and a value that is not empty.
fn split(text: &str) -> Option<(String, &str)> {
    let length = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    let name = name.to_lowercase();
    if !NAMES.contains(&name.as_str()) {
        return None;
    }
    let value = rest.trim_start_matches(is_space).strip_prefix('=')?;
    let trimmed = value.trim_matches(is_space);
    if trimmed.is_empty() {
        // Nothing but space: the last of it is the value.
        return value.char_indices().next_back().map(|(at, _)| (name, &value[at..]));
    }
    (!trimmed.contains('\n')).then_some((name, trimmed))
}

fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}

/// The directive of that name in a Dockerfile.
pub fn find_directive(text: &str, name: &str) -> Option<Directive> {
    let (text, shebang) = top(text);
    search(text, name, "#", shebang)
}

/// The `syntax` directive in any of its forms: `# syntax=`, `// syntax=` and a JSON object with
/// that name.
pub fn detect_syntax(text: &str) -> Option<Directive> {
    let (text, shebang) = top(text);
    search(text, "syntax", "#", shebang).or_else(|| search(text, "syntax", "//", shebang)).or_else(|| {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
        let value = object.get("syntax")?.as_str()?.to_owned();
        Some(Directive { name: "syntax".into(), text: value.clone(), value, line: shebang })
    })
}

/// The text without byte order mark and `#!` line, and how many lines the latter took.
fn top(text: &str) -> (&str, u32) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.starts_with("#!") {
        return (text, 0);
    }
    (text.split_once('\n').map_or("", |(_, rest)| rest), 1)
}

fn search(text: &str, name: &str, comment: &'static str, before: u32) -> Option<Directive> {
    let mut parser = DirectiveParser::new(comment, before);
    for line in text.lines() {
        if line.len() >= super::MAX_LINE_BYTES {
            return None;
        }
        match parser.line(line) {
            Ok(Some(directive)) if directive.name == name => return Some(directive),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
    None
}

/// The directive of that name in a comment line without its `#`.
pub fn directive_in_comment(comment: &str, name: &str) -> Option<Directive> {
    DirectiveParser::new("", 0).line(comment).ok().flatten().filter(|directive| directive.name == name)
}
