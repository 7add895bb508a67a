//! Choosing a part of a tree by patterns that somebody else knows.

use std::path::Path;

/// What a filter says about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// It is there.
    Included,
    /// It is not there; if it is a folder, nothing below it is.
    Excluded,
    /// It is not there by itself; something below it may be, and then it is there as its parent.
    Descend,
}

/// Patterns over paths relative to a root, without a leading `/`. Must not depend on anything but the path.
pub trait PathFilter: Send + Sync {
    /// Judges a path. `is_directory` is false for links to folders.
    fn matched(&self, path: &Path, is_directory: bool) -> Matched;
}

impl<F: Fn(&Path, bool) -> Matched + Send + Sync> PathFilter for F {
    fn matched(&self, path: &Path, is_directory: bool) -> Matched {
        self(path, is_directory)
    }
}
