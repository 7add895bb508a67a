//! Paths of images, by their text alone.

use crate::values::clean_path;

/// Joins and cleans, as Go's `path.Join`: empty parts do not count.
pub(crate) fn join(parent: &str, path: &str) -> String {
    match (parent.is_empty(), path.is_empty()) {
        (true, true) => String::new(),
        (true, false) => clean_path(path),
        (false, true) => clean_path(parent),
        (false, false) => clean_path(&format!("{parent}/{path}")),
    }
}

/// A path made absolute below `parent`. An absolute one stays as written. With `keep_slash` a trailing `/` or `/.`
/// survives.
pub(crate) fn absolute(parent: &str, path: &str, keep_slash: bool) -> String {
    let parent = if parent.starts_with('/') { parent.to_owned() } else { join("/", parent) };
    let path_or_parent = if path.is_empty() { parent.as_str() } else { path };
    let mut result =
        if path_or_parent.starts_with('/') { path_or_parent.to_owned() } else { join(&parent, path_or_parent) };
    if keep_slash {
        restore_slash(path, &mut result);
    }
    result
}

/// A destination relative to the working directory.
pub(crate) fn destination(directory: &str, path: &str) -> String {
    match path {
        "." | "" => absolute(directory, "./", true),
        path => absolute(directory, path, true),
    }
}

/// A path as file operations hold it: absolute and clean.
pub(crate) fn normalized(path: &str, keep_slash: bool) -> String {
    let mut result = clean_path(path);
    if !result.starts_with('/') {
        result = join("/", &result);
    }
    if keep_slash {
        restore_slash(path, &mut result);
    }
    result
}

fn restore_slash(original: &str, path: &mut String) {
    if original.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    } else if original.ends_with("/.") {
        if path != "/" {
            path.push('/');
        }
        path.push('.');
    }
}

/// The last component, as Go's `path.Base`.
pub(crate) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path.is_empty(), trimmed.is_empty()) {
        (true, _) => ".",
        (false, true) => "/",
        (false, false) => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// Whether a source path is a pattern.
pub(crate) fn has_wildcard(path: &str) -> bool {
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' => return true,
            '\\' => drop(characters.next()),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_keep_their_slash() {
        assert_eq!(destination("/w", "a/"), "/w/a/");
        assert_eq!(destination("/w", "."), "/w/");
        assert_eq!(destination("/", ""), "/");
        assert_eq!(destination("/w", "/x//y/."), "/x//y/./.");
        assert_eq!(normalized("/x//y/.", true), "/x/y/.");
        assert_eq!(absolute("", "a/../b", false), "/b");
        assert_eq!(absolute("w", "", false), "/w");
    }

    #[test]
    fn names_and_patterns() {
        assert_eq!((base("/a/b/"), base("/"), base("")), ("b", "/", "."));
        assert!(has_wildcard("a/[bc]") && !has_wildcard(r"a/\[bc"));
    }
}
