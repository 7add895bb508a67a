//! The revision of the sources: what git says of a folder, else what the CI system says.

use std::path::Path;
use std::process::{Command, Stdio};

use onetag_engine::index::SourceRevision;

use crate::arguments::go_bool;
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

/// The revision of a folder's checkout; without one, the commit that the CI system names. BUILDX_GIT_INFO=false leaves
/// git out, as with buildx.
pub fn revision(folder: Option<&Path>) -> Option<SourceRevision> {
    let asks_git = variable("BUILDX_GIT_INFO").and_then(|text| go_bool(&text).ok()).unwrap_or(true);
    let checkout = folder.filter(|_| asks_git).and_then(checkout);
    checkout.or_else(|| {
        let commit = COMMITS.iter().find_map(|name| variable(name))?;
        Some(SourceRevision { revision: commit, dirty: false })
    })
}

/// As `git describe --dirty`: files that the commit does not have make nothing dirty.
fn checkout(folder: &Path) -> Option<SourceRevision> {
    let revision = git(folder, &["rev-parse", "HEAD"])?;
    let status = git(folder, &["status", "--porcelain", "--untracked-files=no"])?;
    Some(SourceRevision { revision, dirty: !status.is_empty() })
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
