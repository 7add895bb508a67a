//! Results of build steps: the upper folder of an overlay mount, taken over as a layer.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use onetag_oci::DiffId;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::files;
use crate::leases::Resource;
use crate::record::{self, TreeRecord};
use crate::stack::Stack;
use crate::store::{Store, unique_name};
use crate::tree::{MergedTree, Metadata};

/// The name of a step's result: unique, without meaning.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepId(String);

impl StepId {
    /// Takes a name that [`StepId::as_str`] gave.
    pub fn parse(text: &str) -> Option<StepId> {
        let valid = !text.is_empty()
            && text.len() <= 64
            && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
            && !text.starts_with('-');
        valid.then(|| StepId(text.to_owned()))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn new() -> StepId {
        StepId(unique_name())
    }
}

impl std::fmt::Display for StepId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for StepId {
    type Error = String;

    fn try_from(text: String) -> Result<StepId, String> {
        StepId::parse(&text).ok_or_else(|| format!("{text:?} is no name of a step"))
    }
}

impl From<StepId> for String {
    fn from(step: StepId) -> String {
        step.0
    }
}

/// A layer that a stack can be made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerId {
    /// A layer of an image, unpacked.
    Diff(DiffId),
    /// The result of a build step, not necessarily a blob yet.
    Step(StepId),
}

impl LayerId {
    /// What holds the layer against collection.
    pub fn resource(&self) -> Resource {
        match self {
            LayerId::Diff(diff_id) => Resource::Layer(diff_id.clone()),
            LayerId::Step(step) => Resource::Step(step.clone()),
        }
    }
}

impl std::fmt::Display for LayerId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LayerId::Diff(diff_id) => write!(formatter, "{diff_id}"),
            LayerId::Step(step) => write!(formatter, "step:{step}"),
        }
    }
}

/// An upper folder in the making. Dropped without a commit, it is removed by descriptor, whatever is in it.
pub struct Upper {
    store: Store,
    path: PathBuf,
    committed: bool,
}

impl Store {
    /// A new upper folder for a step on top of `below`, whose root's attributes it takes over.
    pub fn new_upper(&self, below: &Stack) -> Result<Upper> {
        let path = self.temporary("upper")?;
        let upper = Upper { store: self.clone(), path, committed: false };
        std::fs::create_dir(&upper.path).at("make folder", &upper.path)?;
        for name in ["tree", "work"] {
            let folder = upper.path.join(name);
            std::fs::create_dir(&folder).at("make folder", &folder)?;
        }
        // The topmost folder alone says what the root looks like: where a layer says nothing, a generated one does.
        let topmost = &below.lowers[..below.lowers.len().min(1)];
        let root = MergedTree::open(topmost, self.ownership())?.root_metadata()?;
        let tree = upper.upper();
        set_root(self, &tree, &root).at("set attributes of", &tree)?;
        Ok(upper)
    }

    /// Whether a layer can be stacked, now and by other processes: as it is, or unpacked from a blob.
    pub fn has_layer(&self, layer: &LayerId) -> bool {
        let is_unpacked = record::read_valid(self, &self.layer_id_path(layer)).is_some();
        is_unpacked || matches!(layer, LayerId::Step(step) if self.step_blob(step).is_some())
    }

    /// Removes a step's result. Nothing may use it any more.
    pub fn remove_step(&self, step: &StepId) -> Result<()> {
        self.discard(&self.step_path(step))
    }

    pub(crate) fn layer_id_path(&self, layer: &LayerId) -> PathBuf {
        match layer {
            LayerId::Diff(diff_id) => self.layer_path(diff_id),
            LayerId::Step(step) => self.step_path(step),
        }
    }

    /// The folder that holds a layer's tree.
    ///
    /// # Errors
    /// [`Error::LayerNotFound`] where it is not unpacked, or was unpacked before a crash of the machine that may
    /// have damaged it.
    pub fn layer_tree(&self, layer: &LayerId) -> Result<PathBuf> {
        let path = self.layer_id_path(layer);
        match record::read_valid(self, &path) {
            Some(_) => Ok(path.join("tree")),
            None => Err(Error::LayerNotFound { layer: layer.to_string() }),
        }
    }
}

fn set_root(store: &Store, tree: &Path, root: &Metadata) -> std::io::Result<()> {
    let folder = files::open_folder(tree)?;
    store.ownership().set(folder.as_fd(), root.uid, root.gid, true)?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(root.mode))?;
    Ok(())
}

impl Upper {
    /// The folder that takes the changes (overlayfs's `upperdir`).
    pub fn upper(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// The folder for overlayfs's own use (`workdir`).
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Takes the upper folder over as a layer. The mount MUST be gone; nothing is synced, which is why the tree is
    /// believed only until the machine restarts.
    pub fn commit(mut self) -> Result<LayerId> {
        self.store.discard_later(&self.work())?;
        let step = StepId::new();
        self.store.hold(&Resource::Step(step.clone()))?;
        TreeRecord::unsynced(&self.store).write(&self.path)?;
        let path = self.store.step_path(&step);
        std::fs::rename(&self.path, &path).at("name", &path)?;
        self.committed = true;
        Ok(LayerId::Step(step))
    }

    /// Removes the upper folder now and says whether that worked; dropping does the same in silence.
    pub fn discard(mut self) -> Result<()> {
        self.committed = true;
        self.store.remove_temporary(&self.path)
    }
}

impl Drop for Upper {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is reclaimed by collection.
            let _ = self.store.remove_temporary(&self.path);
        }
    }
}

/// Opens a folder below the store for changing what is in it.
pub(crate) fn open_tree(path: &Path) -> Result<std::os::fd::OwnedFd> {
    rustix::fs::openat(rustix::fs::CWD, path, files::FOLDER | OFlags::NOFOLLOW, Mode::empty()).at("open", path)
}

/// Makes an empty folder for a tree with the mode that a root folder has.
pub(crate) fn create_tree(path: &Path) -> Result<std::os::fd::OwnedFd> {
    std::fs::create_dir(path).at("make folder", path)?;
    let folder = open_tree(path)?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755)).at("set mode of", path)?;
    Ok(folder)
}
