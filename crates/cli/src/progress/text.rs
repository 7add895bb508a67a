//! Text that fits a terminal: nothing that moves the cursor, and never wider than the window.

/// Text without what would move the cursor.
pub fn clean(text: &str) -> String {
    // a carriage return starts the line anew, as on a terminal
    let text = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\x1b' => skip_escape(&mut characters),
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

fn skip_escape(characters: &mut std::str::Chars<'_>) {
    if characters.clone().next() != Some('[') {
        characters.next();
        return;
    }
    characters.next();
    for c in characters.by_ref() {
        if ('@'..='~').contains(&c) {
            return;
        }
    }
}

/// How many columns of a terminal a text takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(character_columns).sum()
}

/// Wide are the scripts of East Asia and pictures; marks that are set upon the character before take no room.
fn character_columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
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
    use super::{align, clean, columns, shorten};

    #[test]
    fn control_sequences_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[31mred\x1b[0m\tb\x07"), "ared b");
        assert_eq!(clean("10%\r50%\r100%\r"), "100%");
        assert_eq!(clean("\x1b[2J\x1b]0;x"), "0;x");
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
        assert_eq!(shorten("日本a", 3), "日");
        assert_eq!(columns(&align("日本語日本語", "1s", 9)), 9);
    }
}
