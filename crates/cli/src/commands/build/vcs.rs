//! What version control says of a build's folder, as buildx asks git for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use onetag_dockerfile::values::parse_bool;

use crate::context::variable;

/// The commit that is checked out and where the repository came from. Nothing where there is no repository or no git,
/// or BUILDX_GIT_INFO says not to look.
pub(super) fn describe(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if variable("BUILDX_GIT_INFO").and_then(|value| parse_bool(&value)) == Some(false) || !is_inside(folder) {
        return found;
    }
    if let Some(mut revision) = git(folder, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]) {
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
