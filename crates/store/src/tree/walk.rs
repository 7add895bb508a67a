//! Walking a merged tree in the order of layers.

use std::path::PathBuf;

use super::node::{Listed, MergedDirectory, Node};
use crate::error::Result;

/// An entry met on a walk.
pub struct WalkEntry {
    /// The path relative to where the walk began; empty for that place itself.
    pub path: PathBuf,
    /// The entry.
    pub node: Node,
}

/// A walk: an iterator that can be told to leave a folder out.
pub struct Walk {
    start: Option<Node>,
    levels: Vec<Level>,
    /// The folder given last, whose children come next unless they are skipped.
    pending: Option<WalkFolder>,
}

/// A folder whose children are to come, or are coming.
struct WalkFolder {
    path: PathBuf,
    directory: MergedDirectory,
}

struct Level {
    folder: WalkFolder,
    /// What is left, the next name last, each with the first layer of the folder that has it.
    left: Vec<Listed>,
}

pub(super) fn walk(start: Option<Node>) -> Result<Walk> {
    Ok(Walk { start, levels: Vec::new(), pending: None })
}

impl Walk {
    /// Leaves out what is in the folder that was given last.
    pub fn skip_directory(&mut self) {
        self.pending = None;
    }

    fn advance(&mut self) -> Result<Option<WalkEntry>> {
        if let Some(node) = self.start.take() {
            return Ok(Some(self.give(PathBuf::new(), node)));
        }
        if let Some(folder) = self.pending.take() {
            let mut left = folder.directory.listed()?;
            left.reverse();
            self.levels.push(Level { folder, left });
        }
        while let Some(level) = self.levels.last_mut() {
            let Some(listed) = level.left.pop() else {
                self.levels.pop();
                continue;
            };
            if let Some(node) = level.folder.directory.listed_child(&listed)? {
                let path = level.folder.path.join(listed.name);
                return Ok(Some(self.give(path, node)));
            }
        }
        Ok(None)
    }

    fn give(&mut self, path: PathBuf, node: Node) -> WalkEntry {
        if let Some(directory) = node.as_directory() {
            self.pending = Some(WalkFolder { path: path.clone(), directory: directory.clone() });
        }
        WalkEntry { path, node }
    }
}

impl Iterator for Walk {
    type Item = Result<WalkEntry>;

    fn next(&mut self) -> Option<Result<WalkEntry>> {
        self.advance().transpose()
    }
}
