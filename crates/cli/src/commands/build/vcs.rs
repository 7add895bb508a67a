//! What version control says of a build's folder, as buildx asks git for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use onetag_dockerfile::values::parse_bool;
use onetag_engine::index::SourceRevision;

use crate::context::variable;

/// Where CI systems tell the commit.
const COMMITS: [&str; 9] = [
    "GITHUB_SHA",
    "CI_COMMIT_SHA",
    "BUILDKITE_COMMIT",
    "CIRCLE_SHA1",
    "BITBUCKET_COMMIT",
    "DRONE_COMMIT_SHA",
    "BUILD_SOURCEVERSION",
    "TRAVIS_COMMIT",
    "GIT_COMMIT",
];

/// The revision of a folder's checkout; without one, the commit that the CI system names. A checkout is dirty as
/// `git describe --dirty` says: files that the commit does not have make nothing dirty.
pub(super) fn revision(folder: Option<&Path>) -> Option<SourceRevision> {
    let checkout = folder.filter(|folder| looks_at(folder)).and_then(|folder| {
        let revision = head(folder)?;
        let changes = git(folder, &["status", "--porcelain", "--untracked-files=no"])?;
        Some(SourceRevision { revision, dirty: !changes.is_empty() })
    });
    checkout.or_else(|| {
        let commit = COMMITS.iter().find_map(|name| variable(name))?;
        Some(SourceRevision { revision: commit, dirty: false })
    })
}

/// The commit that is checked out and where the repository came from. Nothing where there is no repository or no git,
/// or BUILDX_GIT_INFO says not to look.
pub(super) fn describe(folder: &Path) -> BTreeMap<String, String> {
    if !looks_at(folder) {
        return BTreeMap::new();
    }
    let found = [("revision", described_head(folder)), ("source", origin(folder))];
    found.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The labels that BUILDX_GIT_LABELS asks for: commit, origin, and the Dockerfile's place in the repository.
pub(super) fn labels(folder: &Path, dockerfile: Option<&Path>) -> BTreeMap<String, String> {
    let is_wanted = |value: String| value == "full" || parse_bool(&value) == Some(true);
    if !variable("BUILDX_GIT_LABELS").is_some_and(is_wanted) || !is_inside(folder) {
        return BTreeMap::new();
    }
    let found = [
        ("org.opencontainers.image.revision", described_head(folder)),
        ("org.opencontainers.image.source", origin(folder)),
        ("com.docker.image.source.entrypoint", dockerfile.and_then(|dockerfile| place(folder, dockerfile))),
    ];
    found.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The commit, marked where BUILDX_GIT_CHECK_DIRTY wants that and there are changes.
fn described_head(folder: &Path) -> Option<String> {
    let revision = head(folder)?;
    let check = variable("BUILDX_GIT_CHECK_DIRTY").and_then(|value| parse_bool(&value)) == Some(true);
    let is_dirty = || git(folder, &["status", "--porcelain", "--ignored"]).is_some_and(|changes| !changes.is_empty());
    Some(if check && is_dirty() { format!("{revision}-dirty") } else { revision })
}

/// Where the repository came from; who fetched it, and with which password, is nobody's concern.
fn origin(folder: &Path) -> Option<String> {
    let url = git(folder, &["remote", "get-url", "origin"]).filter(|url| !url.is_empty())?;
    Some(without_user(&url))
}

fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| scheme.starts_with("http")) else {
        return url.to_owned();
    };
    let host = &rest[..rest.find('/').unwrap_or(rest.len())];
    let user = host.rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[user..])
}

/// The path of a file within the repository that a folder belongs to; none for what lies outside.
fn place(folder: &Path, file: &Path) -> Option<String> {
    let root = std::fs::canonicalize(git(folder, &["rev-parse", "--show-toplevel"])?).ok()?;
    let file = std::fs::canonicalize(file).ok()?;
    Some(file.strip_prefix(root).ok()?.to_str()?.to_owned())
}

/// Whether git is asked about a folder.
fn looks_at(folder: &Path) -> bool {
    variable("BUILDX_GIT_INFO").and_then(|value| parse_bool(&value)) != Some(false) && is_inside(folder)
}

fn head(folder: &Path) -> Option<String> {
    git(folder, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
}

/// Whether a folder above is a repository: where none is, no process is started.
fn is_inside(folder: &Path) -> bool {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    folder.ancestors().any(|folder| folder.join(".git").exists())
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::without_user;

    #[test]
    fn addresses_are_told_without_users() {
        for (url, told) in [
            ("https://user:token@example.com/a.git", "https://example.com/a.git"),
            ("https://token@example.com", "https://example.com"),
            ("https://example.com/a@b.git", "https://example.com/a@b.git"),
            ("git@example.com:a.git", "git@example.com:a.git"),
        ] {
            assert_eq!(without_user(url), told);
        }
    }
}
