//! Emulators kept in the store: for hosts whose PATH has none, taken out of an image, a folder or an archive.
//!
//! They lie in `emulators/` below the store's root under QEMU's own names and are searched after PATH. Nothing is
//! registered anywhere; what is registered for the whole host is [`onetag_sandbox::Sandbox::binfmt_install`]'s.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onetag_dockerfile::resolver::ResolveMode;
use onetag_oci::{Platform, Reference};
use onetag_sandbox::Sandbox;
use onetag_store::layer::CompressionOptions;
use onetag_store::tree::{Leaf, MergedTree, Node};
use onetag_store::{LayerId, Store};

use crate::Engine;
use crate::catalog::{Catalog, CatalogError};
use crate::layers::{LayerError, Layers, unheard};

/// The folder of the store that holds them.
const FOLDER: &str = "emulators";
/// No emulator is larger.
const SIZE_LIMIT_BYTES: u64 = 512 << 20;

/// Where emulators are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmulatorSource {
    /// An image with emulators in it, such as `tonistiigi/binfmt`; the host's platform of it.
    Image(Reference),
    /// A folder that has them, at any depth.
    Folder(PathBuf),
    /// A tar archive that has them, compressed or not.
    Archive(PathBuf),
}

impl std::fmt::Display for EmulatorSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(reference) => formatter.write_str(&reference.familiar()),
            Self::Folder(path) | Self::Archive(path) => path.display().fmt(formatter),
        }
    }
}

/// An emulator that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEmulator {
    /// The file.
    pub path: PathBuf,
    /// The platforms whose programs it was seen to execute.
    pub platforms: Vec<Platform>,
}

/// Why emulators could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The source has no file with an emulator's name.
    #[error("{source_name} has no file named qemu-*")]
    NoneThere {
        /// The source.
        source_name: String,
    },
    /// What the source has does not execute programs of any wanted platform on this host.
    #[error("no emulator of {source_name} runs here ({})", found.join(", "))]
    NoneWorks {
        /// The source.
        source_name: String,
        /// The names that were tried.
        found: Vec<String>,
    },
    /// The image is not to be had.
    #[error(transparent)]
    Image(#[from] CatalogError),
    /// Its layers are not to be had.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] onetag_store::Error),
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn at(path: &Path) -> impl Fn(io::Error) -> EmulatorError + '_ {
    |source| EmulatorError::File { path: path.to_owned(), source }
}

/// The folder below a store's root that holds emulators, whether it exists or not.
pub fn folder(root: &Path) -> PathBuf {
    root.join(FOLDER)
}

/// Takes the emulators of a source into the store: those that execute a program of one of `platforms`, or, where none
/// is named, of any platform. Each is tried before it gets its name, so what is there works.
///
/// # Errors
/// [`EmulatorError::NoneThere`] and [`EmulatorError::NoneWorks`]; nothing has changed then.
pub fn keep(
    engine: &Engine,
    source: &EmulatorSource,
    platforms: &[Platform],
) -> Result<Vec<KeptEmulator>, EmulatorError> {
    let store = engine.store()?;
    let candidates = candidates(&tree(engine, store, source)?)?;
    if candidates.is_empty() {
        return Err(EmulatorError::NoneThere { source_name: source.to_string() });
    }
    let found = candidates.keys().cloned().collect();
    let folder = folder(store.root());
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let mut kept = Vec::new();
    for (name, leaf) in candidates {
        if let Some(emulator) = keep_one(engine.sandbox(), &folder, &name, &leaf, platforms)? {
            kept.push(emulator);
        }
    }
    if kept.is_empty() {
        return Err(EmulatorError::NoneWorks { source_name: source.to_string(), found });
    }
    // The names last, for all of them at once.
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(at(&folder))?;
    Ok(kept)
}

/// Removes emulators from the store: those of `platforms`, or all where none is named. Gives the files removed.
///
/// # Errors
/// A file cannot be removed.
pub fn forget(engine: &Engine, platforms: &[Platform]) -> Result<Vec<PathBuf>, EmulatorError> {
    let folder = folder(engine.store()?.root());
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(&folder)(error)),
    };
    let mut removed = Vec::new();
    for entry in entries {
        let path = entry.map_err(at(&folder))?.path();
        let emulated = engine.sandbox().emulated_platforms(&path);
        let is_meant = platforms.is_empty() || emulated.iter().any(|platform| is_wanted(platform, platforms));
        if is_meant {
            fs::remove_file(&path).map_err(at(&path))?;
            removed.push(path);
        }
    }
    removed.sort();
    Ok(removed)
}

/// The source's files.
fn tree(engine: &Engine, store: &Store, source: &EmulatorSource) -> Result<MergedTree, EmulatorError> {
    match source {
        EmulatorSource::Folder(path) => Ok(MergedTree::plain(path, None, None)?),
        EmulatorSource::Archive(path) => {
            let archive = File::open(path).map_err(at(path))?;
            let layer = store.import_rootfs(archive, &CompressionOptions::default())?;
            store.ensure_layer(&layer.diff_id, &layer.descriptor.digest, &layer.descriptor.media_type)?;
            let stack = store.stack(&[LayerId::Diff(layer.diff_id)])?;
            Ok(MergedTree::open(&stack.lowers, store.ownership())?)
        }
        EmulatorSource::Image(reference) => {
            let catalog = Arc::new(Catalog::new(engine.clone()));
            let image = catalog.find(&reference.clone().with_default_tag(), &Platform::host(), ResolveMode::Default)?;
            Ok(Layers::new(engine.clone()).tree(&image.snapshot(), &unheard)?)
        }
    }
}

/// The regular files named as QEMU's user emulators, the first of each name in the order of the tree.
fn candidates(tree: &MergedTree) -> Result<BTreeMap<String, Leaf>, EmulatorError> {
    let mut candidates = BTreeMap::new();
    for entry in tree.walk(Path::new("/"))? {
        let entry = entry?;
        let Node::Leaf(leaf) = entry.node else { continue };
        let Some(name) = entry.path.file_name().and_then(OsStr::to_str) else { continue };
        let metadata = leaf.metadata()?;
        let is_file = metadata.file_type == rustix::fs::FileType::RegularFile;
        if is_file && name.starts_with("qemu-") && metadata.size <= SIZE_LIMIT_BYTES {
            candidates.entry(name.to_owned()).or_insert(leaf);
        }
    }
    Ok(candidates)
}

/// Copies one emulator beside its place and moves it there when it has been seen to work.
fn keep_one(
    sandbox: &Sandbox,
    folder: &Path,
    name: &str,
    leaf: &Leaf,
    platforms: &[Platform],
) -> Result<Option<KeptEmulator>, EmulatorError> {
    let beside = tempfile_in(folder, name)?;
    let result = (|| {
        let mut copy = File::create(&beside.0).map_err(at(&beside.0))?;
        io::copy(&mut leaf.open()?, &mut copy).map_err(at(&beside.0))?;
        copy.set_permissions(fs::Permissions::from_mode(0o755)).map_err(at(&beside.0))?;
        copy.sync_all().map_err(at(&beside.0))?;
        // A file open for writing cannot be executed.
        drop(copy);
        let mut emulated = sandbox.emulated_platforms(&beside.0);
        emulated.retain(|platform| platforms.is_empty() || is_wanted(platform, platforms));
        if emulated.is_empty() {
            return Ok(None);
        }
        let path = folder.join(name);
        fs::rename(&beside.0, &path).map_err(at(&path))?;
        Ok(Some(KeptEmulator { path, platforms: emulated }))
    })();
    drop(beside);
    result
}

/// A path that is removed when it is not used any more, unless it was moved away.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // Moved to its name, or never written: both are as they should be.
        let _ = fs::remove_file(&self.0);
        if let Some(folder) = self.0.parent() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A place for a copy under the emulator's own name, by which it is tried, in a folder of this process.
fn tempfile_in(folder: &Path, name: &str) -> Result<Beside, EmulatorError> {
    let own = folder.join(format!(".{}", std::process::id()));
    fs::create_dir_all(&own).map_err(at(&own))?;
    Ok(Beside(own.join(name)))
}

/// Whether a platform is one of those named; a name without a variant means all of them.
fn is_wanted(platform: &Platform, wanted: &[Platform]) -> bool {
    wanted.iter().any(|wanted| {
        let (platform, wanted) = (platform.normalize(), wanted.normalize());
        wanted.os == platform.os
            && wanted.architecture == platform.architecture
            && (wanted.variant.is_none() || wanted.variant == platform.variant)
    })
}
