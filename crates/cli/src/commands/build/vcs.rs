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
    let mut found = BTreeMap::new();
    if !looks_at(folder) {
        return found;
    }
    if let Some(mut revision) = head(folder) {
        let check = variable("BUILDX_GIT_CHECK_DIRTY").and_then(|value| parse_bool(&value)) == Some(true);
        if check && git(folder, &["status", "--porcelain", "--ignored"]).is_some_and(|changes| !changes.is_empty()) {
            revision.push_str("-dirty");
        }
        found.insert("revision".to_owned(), revision);
    }
    if let Some(source) = git(folder, &["remote", "get-url", "origin"]).filter(|source| !source.is_empty()) {
        found.insert("source".to_owned(), source);
    }
    found
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
