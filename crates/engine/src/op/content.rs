//! Digests of what operations read.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use onetag_llb::CopyAction;
use onetag_oci::{Algorithm, Digest, Digester};
use onetag_solver::ExecContext;
use onetag_store::LayerId;
use onetag_store::checksum::{self, Captured, Selection};
use onetag_store::copy::CopyRequest;
use onetag_store::tree::{MergedTree, Node};
use rustix::fs::FileType;

use super::{Session, StepError};
use crate::context::{LocalContext, path_filter};
use crate::snapshot::{Artifact, Layer, Snapshot, StepLayer};
use onetag_dockerfile::export::rfc3339;

/// More of `/etc/passwd` is not read.
const SMALL_FILE_BYTES: u64 = 1 << 20;

/// One digest of several, in their order.
pub(super) fn combine(digests: &[Digest]) -> Digest {
    if let [only] = digests {
        return only.clone();
    }
    let mut digester = Digester::new(Algorithm::Sha256);
    digester.update(b"onetag.selections.1\0");
    for digest in digests {
        digester.update(digest.as_str().as_bytes());
        digester.update(b"\0");
    }
    digester.finish()
}

/// The content of a small file; nothing where there is none.
pub(super) fn read_small(tree: &MergedTree, path: &str) -> Result<Vec<u8>, StepError> {
    let mut content = Vec::new();
    if let Some(Node::Leaf(leaf)) = tree.lookup_following(Path::new(path))?
        && leaf.metadata()?.file_type == FileType::RegularFile
    {
        let action = || format!("read {path}");
        leaf.open()?
            .take(SMALL_FILE_BYTES)
            .read_to_end(&mut content)
            .map_err(|source| StepError::Io { action: action(), source })?;
    }
    Ok(content)
}

/// What a folder of the host showed.
pub(crate) struct Capture {
    captured: Mutex<Option<Arc<Captured>>>,
    /// Kept, so that its address stays its own.
    _local: Arc<LocalContext>,
}

impl Capture {
    fn new(local: Arc<LocalContext>) -> Self {
        Self { captured: Mutex::default(), _local: local }
    }
}

/// What a copy reads.
pub(super) fn selection_of(copy: &CopyAction) -> Result<Selection, StepError> {
    Ok(Selection {
        path: copy.source.clone().into(),
        wildcard: copy.allow_wildcard,
        follow_symlinks: copy.follow_symlink,
        filter: path_filter(&copy.exclude_patterns, &copy.include_patterns)?,
        contents_only: copy.dir_copy_contents,
    })
}

/// What tells a copy's selection from others of the same folder.
fn selection_name(copy: &CopyAction) -> String {
    let flags = (copy.allow_wildcard, copy.follow_symlink, copy.dir_copy_contents);
    format!("{:?} {flags:?} {:?} {:?}", copy.source, copy.exclude_patterns, copy.include_patterns)
}

impl Session {
    /// The digest of what a mount or several show of an artifact.
    pub(super) fn content_of_paths(
        &self,
        artifact: &Artifact,
        paths: &[&str],
        context: &ExecContext<'_>,
    ) -> Result<Digest, StepError> {
        let tree = self.tree(artifact, context)?;
        let digest = |path: &&str| {
            let path = if path.is_empty() { "/" } else { path };
            let selection = Selection { path: path.into(), follow_symlinks: true, ..Selection::default() };
            self.digest(artifact, &tree, &selection)
        };
        let digests: Result<Vec<Digest>, StepError> = paths.iter().map(digest).collect();
        Ok(combine(&digests?))
    }

    /// Files of the host are digested again only when they changed; those of snapshots are not remembered.
    fn digest(&self, artifact: &Artifact, tree: &MergedTree, selection: &Selection) -> Result<Digest, StepError> {
        Ok(match artifact {
            Artifact::Local(local) => {
                let captured = checksum::capture(tree, selection, &*self.files.folder(local.root()))?;
                captured.digest().cloned().ok_or(StepError::Unsupported("a selection without a digest"))?
            }
            Artifact::Snapshot(_) => checksum::digest(tree, selection)?,
        })
    }

    /// What a copy reads of a folder of the host, as it was seen first in this build: what is digested is copied.
    pub(super) fn captured(&self, local: &Arc<LocalContext>, copy: &CopyAction) -> Result<Arc<Captured>, StepError> {
        let selection = selection_of(copy)?;
        let key = (Arc::as_ptr(local) as usize, selection_name(copy));
        let slot = {
            let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(captures.entry(key).or_insert_with(|| Arc::new(Capture::new(Arc::clone(local)))))
        };
        // Whoever wants the same waits rather than reading it all again.
        let mut captured = slot.captured.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(captured) = &*captured {
            return Ok(Arc::clone(captured));
        }
        let known = self.files.folder(local.root());
        let made = Arc::new(checksum::capture(local.tree(), &selection, &*known)?);
        Ok(Arc::clone(captured.insert(made)))
    }

    /// The digest of what a copy reads.
    pub(super) fn content_of_copy(
        &self,
        artifact: &Artifact,
        tree: &MergedTree,
        copy: &CopyAction,
    ) -> Result<Digest, StepError> {
        for path in &copy.required_paths {
            if !path.contains(['*', '?', '[']) && tree.lookup_following(Path::new(path))?.is_none() {
                return Err(StepError::PathNotFound { path: path.clone() });
            }
        }
        match artifact {
            Artifact::Local(local) => {
                let captured = self.captured(local, copy)?;
                captured.digest().cloned().ok_or(StepError::Unsupported("a selection without a digest"))
            }
            Artifact::Snapshot(_) => self.digest(artifact, tree, &selection_of(copy)?),
        }
    }

    /// Puts a new layer on top of `below`.
    pub(super) fn finish_layer(&self, below: &Snapshot, layer: LayerId, name: &str) -> Result<Artifact, StepError> {
        let LayerId::Step(step) = layer else {
            return Err(StepError::Unsupported("a step result that is no step"));
        };
        let created = rfc3339(SystemTime::now());
        let layer = StepLayer { step, created, description: name.to_owned(), below: None };
        Ok(Artifact::Snapshot(Arc::new(below.with(Layer::Step(Box::new(layer))))))
    }

    /// All files of a tree as a layer of their own.
    fn whole(&self, tree: &MergedTree) -> Result<LayerId, StepError> {
        let stack = self.store.stack(&[])?;
        let mut workspace = self.store.workspace(&stack)?;
        let request = CopyRequest {
            source: "/".into(),
            destination: "/".into(),
            copy_directory_contents: true,
            create_destination: true,
            ..CopyRequest::default()
        };
        workspace.copy(tree, &request)?;
        Ok(workspace.commit()?)
    }

    /// A folder of the host as a layer, for what needs to be mounted.
    pub(crate) fn materialize(&self, local: &LocalContext) -> Result<Arc<Snapshot>, StepError> {
        match self.finish_layer(&Snapshot::default(), self.whole(local.tree())?, "local")? {
            Artifact::Snapshot(snapshot) => Ok(snapshot),
            Artifact::Local(_) => Err(StepError::Unsupported("a layer that is a folder")),
        }
    }

    /// Where the folders of cache mounts are.
    pub(super) fn cache_mounts(&self) -> PathBuf {
        self.store.root().join("cache-mounts")
    }

    /// Makes a cache's folder with the files of a snapshot, unless it is there.
    pub(super) fn fill_cache_folder(
        &self,
        folder: &Path,
        snapshot: &Snapshot,
        context: &ExecContext<'_>,
    ) -> Result<(), StepError> {
        if folder.is_dir() {
            return Ok(());
        }
        let stack = self.stack(snapshot, context)?;
        let layer = self.whole(&MergedTree::open(&stack.lowers, self.store.ownership())?)?;
        let tree = self.store.layer_tree(&layer)?;
        match std::fs::rename(&tree, folder) {
            // Somebody else was first, or the folder is ours now; either way it is there.
            Err(_) if folder.is_dir() => {}
            result => result.map_err(|source| StepError::Io {
                action: format!("make the cache folder {}", folder.display()),
                source,
            })?,
        }
        if let LayerId::Step(step) = &layer {
            self.store.remove_step(step)?;
        }
        Ok(())
    }
}
