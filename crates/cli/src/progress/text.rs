//! Text that fits a terminal: nothing that moves the cursor, and never wider than the window.

use std::str::Chars;

use unicode_width::UnicodeWidthChar;

use super::palette::RESET;

/// Text without what would move the cursor, change colours or turn the direction of writing.
pub fn clean(text: &str) -> String {
    filter(text, false).0
}

/// The same with the colours, which end with the text.
pub fn clean_but_colours(text: &str) -> String {
    let (mut text, is_coloured) = filter(text, true);
    if is_coloured {
        text.push_str(RESET);
    }
    text
}

/// The text, and whether colours stayed in it.
fn filter(text: &str, keeps_colours: bool) -> (String, bool) {
    // a carriage return starts the line anew, as on a terminal
    let text = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut is_coloured = false;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\x1b' => {
                let parameters = escape(&mut characters);
                if let Some(parameters) = parameters.filter(|_| keeps_colours) {
                    out.push_str(&format!("\x1b[{parameters}m"));
                    is_coloured = true;
                }
            }
            '\t' => out.push(' '),
            c if c.is_control() || is_format(c) => {}
            c => out.push(c),
        }
    }
    (out, is_coloured)
}

/// What breaks lines or turns the direction of what follows, though it is no control character.
fn is_format(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Passes over what follows an escape character; gives the parameters of a sequence that changes colours.
fn escape(characters: &mut Chars<'_>) -> Option<String> {
    match characters.next()? {
        '[' => {
            let mut parameters = String::new();
            let last = characters.find(|c| {
                let is_last = ('@'..='~').contains(c);
                if !is_last {
                    parameters.push(*c);
                }
                is_last
            });
            let is_plain = parameters.chars().all(|c| c.is_ascii_digit() || matches!(c, ';' | ':'));
            (last == Some('m') && is_plain).then_some(parameters)
        }
        // Titles, hyperlinks and the like last until a bell or ESC \.
        ']' | 'P' | 'X' | '^' | '_' => {
            if characters.find(|c| matches!(c, '\x07' | '\x1b' | '\u{9c}')) == Some('\x1b') {
                characters.next();
            }
            None
        }
        '(' | ')' | '*' | '+' | '#' | '%' | ' ' => {
            characters.next();
            None
        }
        _ => None,
    }
}

/// How many columns of a terminal a text takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(character_columns).sum()
}

/// At most so many columns: terminals do not agree about pictures of several characters.
fn character_columns(c: char) -> usize {
    // asks for the wide form of the character before
    if c == '\u{fe0f}' { 1 } else { c.width().unwrap_or(0) }
}

/// As much of a text as fits so many columns.
pub fn shorten(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (position, c) in text.char_indices() {
        used += character_columns(c);
        if used > width {
            return &text[..position];
        }
    }
    text
}

/// A text at the left edge and another at the right one, in exactly so many columns where the left one needs cutting
/// or the right one has something to say.
pub fn align(left: &str, right: &str, width: usize) -> String {
    let right = shorten(right, width);
    if right.is_empty() {
        return shorten(left, width).to_owned();
    }
    let room = width.saturating_sub(columns(right) + 1);
    let left = shorten(left, room);
    let gap = width.saturating_sub(columns(left) + columns(right));
    format!("{left}{:gap$}{right}", "")
}

#[cfg(test)]
mod tests {
    use super::{align, clean, clean_but_colours, columns, shorten};

    #[test]
    fn control_sequences_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[31mred\x1b[0m\tb\x07"), "ared b");
        assert_eq!(clean("10%\r50%\r100%\r"), "100%");
        assert_eq!(clean("\x1b[2Ja\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c\x1b(Bd\x1b]0;never ends"), "abcd");
        assert_eq!(clean("\x1b[1;31"), "");
        assert_eq!(clean("a\u{202e}b\u{2028}c\u{9b}d"), "abcd");
    }

    #[test]
    fn colours_may_stay_and_end_with_the_text() {
        assert_eq!(clean_but_colours("\x1b[31mred\x1b[2J\x1b[?25l"), "\x1b[31mred\x1b[0m");
        assert_eq!(clean_but_colours("\x1b[38:5:1mred"), "\x1b[38:5:1mred\x1b[0m");
        assert_eq!(clean_but_colours("\x1b[>4mplain"), "plain");
    }

    #[test]
    fn lines_never_exceed_the_window() {
        assert_eq!(align(&"x".repeat(100), "1.0s", 20), format!("{} 1.0s", "x".repeat(15)));
        assert_eq!(align("left", "1.0s", 14), "left      1.0s");
        for width in 0..12 {
            assert!(columns(&align("left side", "12.5s", width)) <= width, "{width}");
        }
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(columns("日本a"), 5);
        for wide in ["✅", "✨", "🎉", "❤\u{fe0f}", "한"] {
            assert_eq!(columns(wide), 2, "{wide}");
        }
        assert_eq!(columns("e\u{301}\u{200d}"), 1);
        assert_eq!(shorten("日本a", 3), "日");
        assert_eq!(columns(&align("日本語日本語", "1s", 9)), 9);
    }
}
