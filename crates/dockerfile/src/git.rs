//! References to git repositories in BuildKit's syntax.
//!
//! ```text
//! https://host/path.git[?query][#ref[:folder]]      http:// needs the suffix .git too
//! git://host/path  ssh://user@host/path             with the same query and fragment
//! user@host:path                                    SSH as scp writes it
//! github.com/org/repo                               contexts only, for the sake of old habits
//! ```
//! The query may hold `ref`, `tag`, `branch`, `subdir`, `checksum` or `commit`, `keep-git-dir`, `submodules`, `mtime`
//! and `fetch-by-commit`.

use crate::values::{clean_path, parse_bool, quote};

/// A git repository and what of it is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitReference {
    /// The repository, without query and fragment, as git takes it.
    pub remote: String,
    /// `https`, `http`, `ssh` or `git`.
    pub scheme: String,
    /// Host and port.
    pub host: String,
    /// Path on the host.
    pub path: String,
    /// Branch, tag or commit; empty for the default branch.
    pub reference: String,
    /// Commit that the reference must be; empty for any.
    pub checksum: String,
    /// Folder of the repository; empty for all of it.
    pub folder: String,
    /// Whether the text could be a local path too (`github.com/…`).
    pub like_local_path: bool,
    /// Whether `.git` stays, where said.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched, where said.
    pub submodules: Option<bool>,
    /// `checkout` or `commit`: which times files get; empty where not said.
    pub mtime: String,
    /// Whether the commit is fetched without asking for the reference.
    pub fetch_by_commit: bool,
}

/// What is wrong with the query of a git reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitReferenceError {
    /// A name without its value.
    #[error("query {} has no value", quote(.0))]
    NoValue(String),
    /// A name more than once.
    #[error("query {} has multiple values", quote(.0))]
    SeveralValues(String),
    /// Two different references or folders.
    #[error("{what} conflicts: {} vs {}", quote(.first), quote(.second))]
    Conflict {
        /// `ref` or `subdir`.
        what: &'static str,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A value that is not of the name's kind.
    #[error("invalid {name} value: {}", quote(.value))]
    Value {
        /// The name.
        name: String,
        /// Its value.
        value: String,
    },
    /// `branch` and `tag` together.
    #[error("branch conflicts with tag")]
    BranchAndTag,
    /// A name that means nothing.
    #[error("unexpected query {}", quote(.0))]
    Unknown(String),
}

impl GitReference {
    /// Reads a reference; `None` where the text does not mean a git repository.
    ///
    /// # Errors
    /// It means one, but its query is wrong.
    pub fn parse(text: &str) -> Result<Option<GitReference>, GitReferenceError> {
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(None);
        }
        let parts = if text.starts_with("github.com/") {
            url_parts("https", text)
        } else if let Some((scheme, rest)) = split_scheme(text) {
            match scheme.as_str() {
                "http" | "https" | "git" | "ssh" => url_parts(&scheme, rest),
                _ => return Ok(None),
            }
        } else {
            match scp_parts(text) {
                Some(parts) => parts,
                None => return Ok(None),
            }
        };
        if matches!(parts.scheme.as_str(), "http" | "https") && !text.starts_with("github.com/") {
            let has_suffix = parts.path.ends_with(".git");
            if !has_suffix || parts.host.is_empty() {
                return Ok(None);
            }
        }
        let like_local_path = text.starts_with("github.com/");
        let remote = match like_local_path {
            true => parts.remote.trim_start_matches("https://").to_owned(),
            false => parts.remote,
        };
        let (reference, folder) = parts.fragment.split_once(':').unwrap_or((&parts.fragment, ""));
        let mut git = GitReference {
            remote,
            scheme: parts.scheme,
            host: parts.host,
            path: parts.path,
            reference: reference.to_owned(),
            folder: relative(folder),
            like_local_path,
            ..GitReference::default()
        };
        git.read_query(&parts.query)?;
        Ok(Some(git))
    }

    /// Whether a source of `ADD` is a repository rather than a path or a file at a URL.
    pub fn is_source(text: &str) -> bool {
        !matches!(GitReference::parse(text), Ok(None))
    }

    /// The identifier of the source: the same for every protocol.
    pub fn identifier(&self) -> String {
        let (host, path) = match self.like_local_path {
            // The text has no scheme, so that the host is its first component.
            true => self.remote.split_once('/').unwrap_or((&self.remote, "")),
            false => (self.host.as_str(), self.path.as_str()),
        };
        let mut identifier = format!("git://{host}{}", clean_path(&format!("/{path}")));
        if !self.reference.is_empty() || !self.folder.is_empty() {
            identifier.push('#');
            identifier.push_str(&self.reference);
            if !self.folder.is_empty() {
                identifier.push(':');
                identifier.push_str(&self.folder);
            }
        }
        identifier
    }

    /// The URL to clone from.
    pub fn clone_url(&self) -> String {
        if self.like_local_path { format!("https://{}", self.remote) } else { self.remote.clone() }
    }

    fn read_query(&mut self, query: &str) -> Result<(), GitReferenceError> {
        let (mut tag, mut branch) = (String::new(), String::new());
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (percent_decode(name), percent_decode(value));
            if seen.contains(&name) {
                return Err(GitReferenceError::SeveralValues(name));
            }
            let flag = || match value.as_str() {
                "" => Ok(true),
                text => parse_bool(text)
                    .ok_or_else(|| GitReferenceError::Value { name: name.clone(), value: value.clone() }),
            };
            if value.is_empty() && !matches!(name.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit") {
                return Err(GitReferenceError::NoValue(name));
            }
            match name.as_str() {
                "ref" => replace("ref", &mut self.reference, value.clone())?,
                "tag" => tag.clone_from(&value),
                "branch" => branch.clone_from(&value),
                "subdir" => replace("subdir", &mut self.folder, value.clone())?,
                "checksum" | "commit" => self.checksum.clone_from(&value),
                "keep-git-dir" => self.keep_git_dir = Some(flag()?),
                "submodules" => self.submodules = Some(flag()?),
                "fetch-by-commit" => self.fetch_by_commit = flag()?,
                "mtime" if value == "checkout" || value == "commit" => self.mtime.clone_from(&value),
                "mtime" => return Err(GitReferenceError::Value { name, value }),
                _ => return Err(GitReferenceError::Unknown(name)),
            }
            seen.push(name);
        }
        if !tag.is_empty() {
            replace("ref", &mut self.reference, qualified("refs/tags/", &tag))?;
        }
        if !branch.is_empty() {
            if !tag.is_empty() {
                return Err(GitReferenceError::BranchAndTag);
            }
            replace("ref", &mut self.reference, qualified("refs/heads/", &branch))?;
        }
        Ok(())
    }
}

fn qualified(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn replace(what: &'static str, place: &mut String, value: String) -> Result<(), GitReferenceError> {
    if !place.is_empty() && *place != value {
        return Err(GitReferenceError::Conflict { what, first: place.clone(), second: value });
    }
    *place = value;
    Ok(())
}

/// A folder as a path without `..` that leaves the repository.
fn relative(folder: &str) -> String {
    clean_path(&format!("/{folder}")).trim_start_matches('/').to_owned()
}

struct Parts {
    scheme: String,
    host: String,
    path: String,
    query: String,
    fragment: String,
    remote: String,
}

fn split_scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let valid = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    valid.then(|| (scheme.to_ascii_lowercase(), rest))
}

fn url_parts(scheme: &str, rest: &str) -> Parts {
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Parts {
        scheme: scheme.to_owned(),
        host: host.to_owned(),
        path: percent_decode(path),
        query: query.to_owned(),
        fragment: percent_decode(fragment),
        remote: format!("{scheme}://{rest}"),
    }
}

fn scp_parts(text: &str) -> Option<Parts> {
    let (user, rest) = text.split_once('@')?;
    let (host, rest) = rest.split_once(':')?;
    let word = |text: &str, extra: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || extra.contains(c))
    };
    if !word(user, "_") || !word(host, ".") || rest.contains('\n') {
        return None;
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Some(Parts {
        scheme: "ssh".to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        fragment: fragment.to_owned(),
        remote: format!("{user}@{host}:{path}"),
    })
}

/// Percent-decoding; what is not an escape stays.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while position < bytes.len() {
        let escape = bytes.get(position + 1..position + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[position] == b'%' => {
                decoded.push(byte);
                position += 3;
            }
            _ => {
                decoded.push(bytes[position]);
                position += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> GitReference {
        GitReference::parse(text).unwrap().unwrap_or_else(|| panic!("{text} is a repository"))
    }

    #[test]
    fn repositories_are_told_from_paths_and_files() {
        for text in ["./a.git", "a/b", "https://host/file.tar", "ftp://host/a.git", "docker-image://a", "a b@c"] {
            assert_eq!(GitReference::parse(text), Ok(None), "{text}");
        }
        for text in
            ["https://h/a.git", "http://h/a.git#main", "git://h/a", "ssh://git@h/a", "git@h:a/b", "github.com/a/b"]
        {
            assert!(GitReference::is_source(text), "{text}");
        }
    }

    #[test]
    fn fragment_and_query_say_what_is_meant() {
        let git = parse("https://user:token@host:81/org/repo.git#v1:a/../b");
        assert_eq!((git.reference.as_str(), git.folder.as_str()), ("v1", "b"));
        assert_eq!(git.remote, "https://user:token@host:81/org/repo.git");
        assert_eq!(git.identifier(), "git://host:81/org/repo.git#v1:b");
        let git = parse("git@host:org/repo.git?tag=v2&subdir=x&submodules=0&keep-git-dir");
        assert_eq!(git.reference, "refs/tags/v2");
        assert_eq!((git.submodules, git.keep_git_dir), (Some(false), Some(true)));
        assert_eq!(git.identifier(), "git://host/org/repo.git#refs/tags/v2:x");
        assert_eq!(parse("github.com/org/repo").identifier(), "git://github.com/org/repo");
        assert_eq!(parse("https://h/a.git#:../../x").folder, "x");
    }

    #[test]
    fn wrong_queries_are_errors() {
        for (query, words) in [
            ("x=1", "unexpected query"),
            ("ref=", "no value"),
            ("ref=a&ref=b", "multiple values"),
            ("tag=a&branch=b", "branch conflicts"),
            ("mtime=never", "invalid mtime"),
            ("submodules=maybe", "invalid submodules"),
        ] {
            let error = GitReference::parse(&format!("https://h/a.git?{query}")).unwrap_err();
            assert!(error.to_string().contains(words), "{query}: {error}");
        }
        let conflict = GitReference::parse("https://h/a.git?ref=a#b").unwrap_err();
        assert!(conflict.to_string().contains("ref conflicts"), "{conflict}");
    }
}
