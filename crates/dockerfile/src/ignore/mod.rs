//! `.dockerignore`: reading the file and matching paths against its patterns.
//!
//! A pattern is a path in which `*` is any run of characters but `/`, `?` any one of them, `[…]` a
//! set, `**` any number of folders and `\` takes the next character literally; `!` in front takes
//! paths back in. The last pattern that matches decides, and a folder's verdict holds for what is
//! in it.

mod pattern;
mod regex;

pub use pattern::{ParentMatches, PatternError, Patterns};

use crate::values::clean_path;

/// The patterns of an ignore file: without comments and empty lines, cleaned, relative.
pub fn read(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    text.split('\n').filter_map(read_line).collect()
}

fn read_line(line: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    let (mark, pattern) = line.strip_prefix('!').map_or(("", line), |pattern| ("!", pattern.trim()));
    if pattern.is_empty() {
        return Some(mark.to_owned());
    }
    let clean = clean_path(pattern);
    let relative = if clean.len() > 1 { clean.strip_prefix('/').unwrap_or(&clean) } else { &clean };
    Some(format!("{mark}{relative}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_match_decides_and_folders_decide_for_their_content() {
        let patterns = Patterns::new(read(b"*\n!src\nsrc/**/*.log\n")).unwrap();
        assert!(patterns.matches("README").unwrap());
        assert!(!patterns.matches("src/main.rs").unwrap());
        assert!(patterns.matches("src/a/b.log").unwrap());
        assert!(patterns.has_exclusions());
    }

    #[test]
    fn walking_down_gives_the_same_answer() {
        let patterns = Patterns::new(["a/*", "!a/b", "a/b/c"]).unwrap();
        let (_, a) = patterns.matches_below("a", None).unwrap();
        let (ignored, b) = patterns.matches_below("a/b", Some(&a)).unwrap();
        assert!(!ignored);
        assert!(patterns.matches_below("a/b/c", Some(&b)).unwrap().0);
        assert!(!patterns.matches_below("a/b/d", Some(&b)).unwrap().0);
    }

    #[test]
    fn a_pattern_is_only_compiled_when_it_is_needed() {
        let patterns = Patterns::new(["a", "[z-a]"]).unwrap();
        assert_eq!(patterns.matches("a"), Ok(true));
        assert_eq!(patterns.matches("b"), Err(PatternError::Syntax("[z-a]".into())));
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_read_and_matched(
            file in "[a-c/*?!\\[\\]\\\\^.#\n -]{0,40}",
            path in "[a-c/.]{0,20}",
        ) {
            if let Ok(patterns) = Patterns::new(read(file.as_bytes())) {
                let _ = patterns.matches(&path);
                let _ = patterns.matches_below(&path, None);
            }
        }
    }
}
