//! The files that name images: reading, telling their kind, replacing them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use onetag_dockerfile::diagnostic::{Diagnostic, render};
use onetag_dockerfile::images::{ImageOptions, images};
use onetag_dockerfile::instruction::KEYWORDS;

use super::occurrence::Occurrence;
use super::yaml::{self, YamlError};

/// A file is not larger than this.
const LIMIT_BYTES: u64 = 16 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A Dockerfile.
    Dockerfile,
    /// A compose file or Kubernetes objects.
    Yaml,
}

/// A file to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What messages call it.
    pub name: String,
    /// Where it is; None for content that came from elsewhere.
    pub path: Option<PathBuf>,
    /// What is in it.
    pub content: Vec<u8>,
    /// What it is.
    pub kind: SourceKind,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Larger than any.
    #[error("{path} is larger than {LIMIT_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A broken Dockerfile.
    #[error("{name}: {}", diagnostics.first().map(|diagnostic| diagnostic.message.as_str()).unwrap_or_default())]
    Dockerfile {
        /// The file.
        name: String,
        /// All that is wrong.
        diagnostics: Vec<Diagnostic>,
        /// The lines in question.
        excerpt: String,
    },
    /// Broken YAML.
    #[error("{name}{}: cannot read it as YAML", position(source))]
    Yaml {
        /// The file.
        name: String,
        /// Why not.
        #[source]
        source: YamlError,
    },
    /// Somebody else changed it.
    #[error("{path} was changed meanwhile; nothing was written")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be replaced.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn position(error: &YamlError) -> String {
    match error {
        YamlError::Syntax { line, column, .. } => format!(":{line}:{column}"),
        _ => String::new(),
    }
}

impl Source {
    /// Reads a file. Those whose names end in `.yaml` or `.yml` are YAML, others Dockerfiles.
    ///
    /// # Errors
    /// It is absent, too large, or cannot be read.
    pub fn read(path: &Path) -> Result<Source, SourceError> {
        let failed = |source| SourceError::Read { path: path.to_owned(), source };
        let mut content = Vec::new();
        File::open(path).and_then(|file| file.take(LIMIT_BYTES + 1).read_to_end(&mut content)).map_err(failed)?;
        if content.len() as u64 > LIMIT_BYTES {
            return Err(SourceError::TooLarge { path: path.to_owned() });
        }
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml"));
        let kind = if is_yaml { SourceKind::Yaml } else { SourceKind::Dockerfile };
        Ok(Source { name: path.display().to_string(), path: Some(path.to_owned()), content, kind })
    }

    /// Content without a file: a Dockerfile when its first instruction is one, else YAML.
    pub fn from_content(name: &str, content: Vec<u8>) -> Source {
        let text = String::from_utf8_lossy(&content);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let word = first.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
        let is_dockerfile = KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word));
        let kind = if is_dockerfile { SourceKind::Dockerfile } else { SourceKind::Yaml };
        Source { name: name.to_owned(), path: None, content, kind }
    }

    /// The images that it names.
    ///
    /// # Errors
    /// It is no Dockerfile, or no YAML.
    pub fn occurrences(&self, options: &ImageOptions) -> Result<Vec<Occurrence>, SourceError> {
        match self.kind {
            SourceKind::Dockerfile => match images(&self.content, options) {
                Ok(found) => Ok(found.into_iter().map(Occurrence::from).collect()),
                Err(diagnostics) => {
                    let excerpt = render(&self.name, &String::from_utf8_lossy(&self.content), &diagnostics);
                    Err(SourceError::Dockerfile { name: self.name.clone(), diagnostics, excerpt })
                }
            },
            SourceKind::Yaml => {
                let found = yaml::occurrences(&self.content);
                found.map_err(|source| SourceError::Yaml { name: self.name.clone(), source })
            }
        }
    }
}

/// A file that is written beside the one whose place it takes.
struct Staged {
    target: PathBuf,
    temporary: PathBuf,
    /// What the target has to hold still; None where it must not exist.
    expected: Option<Vec<u8>>,
}

impl Staged {
    fn write(target: PathBuf, expected: Option<Vec<u8>>, content: &[u8]) -> io::Result<Staged> {
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = folder.join(format!(".{name}.onetag-{}", std::process::id()));
        let staged = Staged { target, temporary, expected };
        let mut file = File::options().write(true).create_new(true).open(&staged.temporary)?;
        file.write_all(content)?;
        if let Ok(original) = fs::metadata(&staged.target) {
            keep_owner(&file, &original);
            file.set_permissions(original.permissions())?;
        }
        file.sync_all()?;
        Ok(staged)
    }

    fn is_unchanged(&self) -> bool {
        match (&self.expected, fs::read(&self.target)) {
            (Some(expected), Ok(content)) => *expected == content,
            (None, Err(error)) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The owner of the file before, as far as this user may give it.
fn keep_owner(file: &File, original: &fs::Metadata) {
    use std::os::unix::fs::MetadataExt;
    let _ = std::os::unix::fs::fchown(file, Some(original.uid()), Some(original.gid()));
}

/// A file's new content.
pub(super) struct Replacement<'a> {
    pub(super) path: &'a Path,
    /// What was read; None for a file that did not exist.
    pub(super) old: Option<&'a [u8]>,
    pub(super) new: &'a [u8],
}

/// Replaces files: each in one step, keeping its mode, through symbolic links, and none before all are written out.
///
/// # Errors
/// One cannot be written, or is no longer what was read; then none is replaced, unless it is a rename that fails.
pub(super) fn replace(replacements: &[Replacement<'_>]) -> Result<(), SourceError> {
    let mut staged = Vec::new();
    for replacement in replacements {
        let path = replacement.path;
        let failed = |source| SourceError::Write { path: path.to_owned(), source };
        // The file that the link leads to is replaced, the link stays.
        let target = match replacement.old {
            Some(_) => fs::canonicalize(path).map_err(failed)?,
            None => path.to_owned(),
        };
        let expected = replacement.old.map(<[u8]>::to_vec);
        staged.push((path, Staged::write(target, expected, replacement.new).map_err(failed)?));
    }
    if let Some((path, _)) = staged.iter().find(|(_, staged)| !staged.is_unchanged()) {
        return Err(SourceError::Changed { path: (*path).to_owned() });
    }
    for (path, staged) in &staged {
        let failed = |source| SourceError::Write { path: (*path).to_owned(), source };
        fs::rename(&staged.temporary, &staged.target).map_err(failed)?;
        if let Some(folder) = staged.target.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_replaced_through_links_with_their_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let fresh = folder.path().join("fresh");
        replace(&[
            Replacement { path: &link, old: Some(b"old"), new: b"new" },
            Replacement { path: &fresh, old: None, new: b"lock" },
        ])
        .unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&fresh).unwrap(), b"lock");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn nothing_is_replaced_when_one_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&a, "a").unwrap();
        fs::write(&b, "changed").unwrap();
        let result = replace(&[
            Replacement { path: &a, old: Some(b"a"), new: b"x" },
            Replacement { path: &b, old: Some(b"b"), new: b"x" },
        ]);
        assert!(matches!(result, Err(SourceError::Changed { .. })));
        assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"a".to_vec(), b"changed".to_vec()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn content_tells_what_it_is() {
        let kind = |text: &str| Source::from_content("-", text.as_bytes().to_vec()).kind;
        assert_eq!(kind("# syntax=x\n\nfrom a\n"), SourceKind::Dockerfile);
        assert_eq!(kind("\u{feff}ARG A\nFROM $A"), SourceKind::Dockerfile);
        assert_eq!(kind("# x\nservices:\n"), SourceKind::Yaml);
    }
}
