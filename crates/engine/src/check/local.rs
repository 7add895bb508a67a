//! The cheap part, on what a build just made: the entry point and the copied programs, as far as files lie on this
//! host. Nothing is fetched or unpacked for it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use onetag_oci::{ImageConfig, Platform};
use onetag_store::tree::{MergedTree, Node};
use onetag_store::{LayerId, Store};
use rustix::fs::FileType;

use super::entry::trace;
use super::file::Content;
use super::image::{Groups, judge_trace};
use super::problem::{Problem, Severity};
use super::tree::{Entry, FileTree, Unread};
use crate::snapshot::{Layer, Snapshot};

/// Copied files that are looked at; more of them are no longer cheap.
const FILES_MAX: usize = 256;

/// What is wrong with an image of this platform, so far as that can be told from files that are here.
pub(crate) fn check_locally(
    store: &Store,
    snapshot: &Snapshot,
    config: &ImageConfig,
    platform: &Platform,
) -> Vec<Problem> {
    let platform = platform.normalize();
    let mut at_hand: Vec<LayerId> = snapshot.ids();
    let first = at_hand.iter().rposition(|id| !is_at_hand(store, id)).map_or(0, |position| position + 1);
    let is_whole = first == 0;
    at_hand.drain(..first);
    let mut problems = Vec::new();
    if let Ok(merged) = store.view(&at_hand)
        && let Ok(trace) = trace(&Local { merged, is_whole }, &config.config)
    {
        problems = judge_trace(&trace, &platform);
    }
    problems.extend(copied(store, snapshot, &platform));
    // A build warns of lies; what is merely missing may be mounted later.
    problems.retain(|problem| problem.severity() != Severity::Note && !matches!(problem, Problem::Entry(_)));
    let on_the_way: Vec<String> = problems.iter().filter_map(named).collect();
    problems.retain(|problem| match problem {
        Problem::ForeignPrograms { paths, count, .. } => *count > 1 || !on_the_way.contains(&paths[0]),
        _ => true,
    });
    problems
}

/// Whether a layer's files are on this host, or held in memory; what is only an archive is not unpacked for this.
fn is_at_hand(store: &Store, layer: &LayerId) -> bool {
    store.layer_tree(layer).is_ok() || (matches!(layer, LayerId::Step(_)) && !store.has_layer(layer))
}

fn named(problem: &Problem) -> Option<String> {
    match problem {
        Problem::Foreign { path, .. } => Some(path.clone()),
        _ => None,
    }
}

/// Programs that `COPY` and `ADD` brought; what a step of the platform itself installs is its own.
fn copied(store: &Store, snapshot: &Snapshot, platform: &Platform) -> Vec<Problem> {
    let mut groups = Groups::default();
    let mut left = FILES_MAX;
    for layer in &snapshot.layers {
        let Layer::Step(step) = layer else { continue };
        let is_copy = ["COPY ", "ADD "].iter().any(|word| step.description.contains(word));
        if !is_copy || !is_at_hand(store, &layer.id()) {
            continue;
        }
        let Ok(tree) = store.view(&[layer.id()]) else { continue };
        let Ok(walk) = tree.walk(Path::new("")) else { continue };
        for entry in walk.flatten() {
            let Node::Leaf(leaf) = &entry.node else { continue };
            let Ok(metadata) = leaf.metadata() else { continue };
            if metadata.file_type != FileType::RegularFile || metadata.mode & 0o111 == 0 {
                continue;
            }
            if left == 0 {
                return groups.problems(platform).filter(is_lie).collect();
            }
            left -= 1;
            let Ok(Content::Elf(program)) =
                leaf.open().map_err(drop).and_then(|mut file| Content::read(&mut file).map_err(drop))
            else {
                continue;
            };
            groups.add(format!("/{}", leaf.path().display()), &program, true, platform);
        }
    }
    groups.problems(platform).filter(is_lie).collect()
}

fn is_lie(problem: &Problem) -> bool {
    problem.severity() == Severity::Error
}

/// Layers that are unpacked here, the topmost first.
struct Local {
    merged: MergedTree,
    /// Whether those are all.
    is_whole: bool,
}

impl FileTree for Local {
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, Unread> {
        let mut folder = self.merged.root().clone();
        let mut parts = path.split(|byte| *byte == b'/').peekable();
        while let Some(part) = parts.next() {
            let child = folder.child(std::ffi::OsStr::from_bytes(part)).map_err(|_| Unread)?;
            match child {
                None if self.is_whole => return Ok(None),
                None => return Err(Unread),
                Some(Node::Directory(child)) => folder = child,
                Some(Node::Leaf(leaf)) if parts.peek().is_none() => {
                    let metadata = leaf.metadata().map_err(|_| Unread)?;
                    return Ok(Some(match metadata.file_type {
                        FileType::Symlink => {
                            let target = leaf.read_link().map_err(|_| Unread)?;
                            Entry::Symlink(target.as_os_str().as_bytes().to_vec())
                        }
                        FileType::RegularFile => {
                            let mut file = leaf.open().map_err(|_| Unread)?;
                            let content = Content::read(&mut file).map_err(|_| Unread)?;
                            Entry::File { mode: metadata.mode, content }
                        }
                        _ => Entry::Other,
                    }));
                }
                Some(Node::Leaf(_)) => return Ok(None),
            }
        }
        Ok(Some(Entry::Directory))
    }
}
