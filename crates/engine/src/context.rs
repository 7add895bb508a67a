//! Folders of the host as a build sees them: the context, filtered by its ignore file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use onetag_dockerfile::ignore::Patterns;
use onetag_store::tree::{Matched, MergedTree, PathFilter};

/// What mends a build whose context was changed meanwhile.
pub(crate) const CHANGED_HINT: &str = "build again when nothing writes to the context any more";

/// Why a context cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The folder is not there or cannot be opened.
    #[error("unable to prepare context: path {path:?} not found")]
    NotFound {
        /// The folder.
        path: PathBuf,
    },
    /// A pattern of the ignore file means nothing.
    #[error("invalid exclusion pattern in the ignore file")]
    Pattern(#[source] onetag_dockerfile::ignore::PatternError),
    /// The store's reader failed.
    #[error(transparent)]
    Store(#[from] onetag_store::Error),
}

/// A folder of the host of which a part is visible. All of it belongs to root, as in BuildKit.
#[derive(Clone)]
pub struct LocalContext {
    root: PathBuf,
    tree: MergedTree,
}

impl LocalContext {
    /// The folder `root` without what the patterns exclude, and where `include` is not empty, only what it names.
    ///
    /// # Errors
    /// A folder that is not there, a broken pattern.
    pub fn open(root: &Path, exclude: &[String], include: &[String]) -> Result<Self, ContextError> {
        if !root.is_dir() {
            return Err(ContextError::NotFound { path: root.to_owned() });
        }
        let tree = MergedTree::plain(root, Some((0, 0)), path_filter(exclude, include)?)?;
        Ok(Self { root: root.to_owned(), tree })
    }

    /// The folder on the host.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The visible part.
    pub fn tree(&self) -> &MergedTree {
        &self.tree
    }
}

impl std::fmt::Debug for LocalContext {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("LocalContext").field(&self.root).finish()
    }
}

/// The filter that leaves out what the first patterns match and, where there are others, what those do not match.
///
/// # Errors
/// A broken pattern.
pub(crate) fn path_filter(exclude: &[String], include: &[String]) -> Result<Option<Arc<dyn PathFilter>>, ContextError> {
    let mut filters: Vec<Arc<dyn PathFilter>> = Vec::new();
    if !exclude.is_empty() {
        filters.push(Arc::new(Excluding::new(exclude)?));
    }
    if !include.is_empty() {
        filters.push(Arc::new(Including::new(include)?));
    }
    Ok(match filters.len() {
        0 | 1 => filters.pop(),
        _ => Some(Arc::new(All(filters))),
    })
}

/// Everything but what patterns match, as `.dockerignore` means it.
struct Excluding {
    patterns: Patterns,
    has_exceptions: bool,
}

impl Excluding {
    fn new(patterns: &[String]) -> Result<Self, ContextError> {
        let has_exceptions = patterns.iter().any(|pattern| pattern.starts_with('!'));
        Ok(Self { patterns: Patterns::new(patterns).map_err(ContextError::Pattern)?, has_exceptions })
    }
}

impl PathFilter for Excluding {
    fn matched(&self, path: &Path, is_directory: bool) -> Matched {
        let Some(path) = path.to_str() else { return Matched::Included };
        match self.patterns.matches(path) {
            Ok(true) if is_directory && self.has_exceptions => Matched::Descend,
            Ok(true) => Matched::Excluded,
            // A pattern that cannot be matched against this path excludes nothing.
            Ok(false) | Err(_) => Matched::Included,
        }
    }
}

/// Only what patterns match, with all that is below it.
struct Including {
    patterns: Patterns,
}

impl Including {
    fn new(patterns: &[String]) -> Result<Self, ContextError> {
        Ok(Self { patterns: Patterns::new(patterns).map_err(ContextError::Pattern)? })
    }
}

impl PathFilter for Including {
    fn matched(&self, path: &Path, is_directory: bool) -> Matched {
        match path.to_str().map(|path| self.patterns.matches(path)) {
            Some(Ok(true)) => Matched::Included,
            _ if is_directory => Matched::Descend,
            _ => Matched::Excluded,
        }
    }
}

/// What all filters let through.
struct All(Vec<Arc<dyn PathFilter>>);

impl PathFilter for All {
    fn matched(&self, path: &Path, is_directory: bool) -> Matched {
        let mut result = Matched::Included;
        for filter in &self.0 {
            match filter.matched(path, is_directory) {
                Matched::Excluded => return Matched::Excluded,
                Matched::Descend => result = Matched::Descend,
                Matched::Included => {}
            }
        }
        result
    }
}
