//! Paths inside a merged tree: symlinks are followed as if the tree's root were `/`.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::node::{MergedDirectory, Node};
use crate::error::{At, Result};

/// How many symlinks one path may go through.
const MAX_LINKS: usize = 255;

/// A resolved path.
pub struct Resolved {
    /// The path without symlinks, relative to the root. Components that do not exist are taken as they are.
    pub path: PathBuf,
    /// What stands there, or `None`.
    pub node: Option<Node>,
}

pub(super) fn resolve(root: &MergedDirectory, path: &Path, follow_last: bool) -> Result<Resolved> {
    let mut todo: VecDeque<OsString> = components(path);
    // The folders walked through so far; `..` goes back one.
    let mut parents: Vec<(OsString, MergedDirectory)> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            parents.pop();
            continue;
        }
        let here = parents.last().map_or(root, |(_, directory)| directory);
        match here.child(&name)? {
            Some(Node::Directory(directory)) => parents.push((name, directory)),
            Some(Node::Leaf(leaf)) => {
                let is_link = leaf.metadata_type() == FileType::Symlink;
                if is_link && (follow_last || !todo.is_empty()) {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP).at("resolve", path);
                    }
                    let target = leaf.read_link()?;
                    if target.is_absolute() {
                        parents.clear();
                    }
                    for component in components(&target).into_iter().rev() {
                        todo.push_front(component);
                    }
                    continue;
                }
                let mut found = joined(&parents);
                found.push(&name);
                if todo.is_empty() {
                    return Ok(Resolved { path: found, node: Some(Node::Leaf(leaf)) });
                }
                return Ok(absent(found, todo));
            }
            None => {
                let mut found = joined(&parents);
                found.push(&name);
                return Ok(absent(found, todo));
            }
        }
    }
    let node = parents.last().map_or_else(|| root.clone(), |(_, directory)| directory.clone());
    Ok(Resolved { path: joined(&parents), node: Some(Node::Directory(node)) })
}

/// What cannot be followed any further is taken literally.
fn absent(mut path: PathBuf, rest: VecDeque<OsString>) -> Resolved {
    for name in rest {
        if name == ".." {
            path.pop();
        } else {
            path.push(name);
        }
    }
    Resolved { path, node: None }
}

fn joined(parents: &[(OsString, MergedDirectory)]) -> PathBuf {
    parents.iter().map(|(name, _)| name).collect()
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

impl super::node::Leaf {
    /// The type of file, without reading owners.
    pub fn metadata_type(&self) -> FileType {
        self.state().file_type
    }
}
