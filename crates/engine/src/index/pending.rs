//! Manifest lists that are not pushed yet, as `docker manifest create` and `annotate` make them.
//!
//! ```text
//! <store root>/manifests/<list>/<image>     one JSON file for each image of a list
//! ```
//!
//! Names of files are references with `/` and `:` replaced, as Docker's `~/.docker/manifests` has them, so that images
//! stand in a list in the same order as Docker's.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use onetag_oci::{Descriptor, Digest, ManifestDocument, Platform, Reference, go_json, go_json_indent, media_type};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::combine::Combined;
use super::create::Created;
use super::{IndexError, Source};
use crate::Engine;
use crate::content::{ContentError, Contents, Found, Location};

/// A larger file of a list is none, in bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// An image with its manifest, in the form in which `docker manifest inspect --verbose` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageManifest {
    #[serde(rename = "Ref")]
    reference: Reference,
    descriptor: Descriptor,
    raw: String,
    #[serde(rename = "SchemaV2Manifest", default, skip_serializing_if = "Option::is_none")]
    schema2: Option<Value>,
    #[serde(rename = "OCIManifest", default, skip_serializing_if = "Option::is_none")]
    oci: Option<Value>,
}

/// Changes to an image's platform in a list.
#[derive(Clone, Debug, Default)]
pub struct PlatformChanges {
    /// The architecture.
    pub architecture: Option<String>,
    /// The operating system.
    pub os: Option<String>,
    /// Features required of the operating system, added to those that are there.
    pub os_features: Vec<String>,
    /// The version of the operating system.
    pub os_version: Option<String>,
    /// The variant of the architecture.
    pub variant: Option<String>,
}

/// Why a list could not be made or used.
#[derive(Debug, Error)]
pub enum PendingError {
    /// The file system did not play along.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// A file of a list is damaged.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// There is no such list or image.
    #[error("No such manifest: {name}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The image is not in the list.
    #[error("manifest for image {image} does not exist in {list}")]
    NotInList {
        /// The image.
        image: String,
        /// The list.
        list: String,
    },
    /// A list in a list.
    #[error("{name} is a manifest list")]
    IsList {
        /// The name.
        name: String,
    },
    /// A platform that no client will ask for.
    #[error("manifest entry for image has unsupported os/arch combination: {os}/{architecture}")]
    Unsupported {
        /// The operating system.
        os: String,
        /// The architecture.
        architecture: String,
    },
    /// The content could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The list could not be pushed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl ImageManifest {
    /// Of a document in a registry; the platform is the config's.
    fn new(reference: &Reference, found: &Found, platform: Option<Platform>) -> Self {
        let document = &found.document;
        let mut descriptor = document.descriptor();
        descriptor.platform = platform;
        let parsed: Option<Value> = serde_json::from_slice(document.bytes()).ok();
        let is_docker = media_type::is_docker(document.media_type());
        Self {
            reference: reference.clone(),
            descriptor,
            raw: base64::engine::general_purpose::STANDARD.encode(document.bytes()),
            schema2: parsed.clone().filter(|_| is_docker),
            oci: parsed.filter(|_| !is_docker),
        }
    }

    /// The exact bytes of the manifest.
    pub fn bytes(&self) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD.decode(&self.raw).unwrap_or_default()
    }

    /// The image's name.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The entry that it has in the list.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

/// Reads an image's manifest from its registry.
///
/// # Errors
/// [`PendingError::IsList`], and when it cannot be read.
pub fn fetch(engine: &Engine, reference: &Reference) -> Result<ImageManifest, PendingError> {
    let contents = Contents::new(engine);
    let location = Location::Registry(reference.clone());
    let found = contents.find(&location)?;
    let Some(manifest) = found.document.as_manifest() else {
        return Err(PendingError::IsList { name: reference.familiar() });
    };
    let platform = contents.config(&location, manifest)?.platform();
    Ok(ImageManifest::new(reference, &found, Some(platform)))
}

/// Reads the manifests of a list from its registry, with the platforms that the list says.
///
/// # Errors
/// When one cannot be read.
pub fn fetch_list(engine: &Engine, reference: &Reference, found: &Found) -> Result<Vec<ImageManifest>, PendingError> {
    let contents = Contents::new(engine);
    let location = Location::Registry(reference.clone());
    let children = found.document.as_index().map(|index| index.manifests.as_slice()).unwrap_or_default();
    let mut list = Vec::with_capacity(children.len());
    for child in children {
        let found = contents.document(&location, child)?;
        let reference = reference.with_digest(child.digest.clone());
        list.push(ImageManifest::new(&reference, &found, child.platform.clone()));
    }
    Ok(list)
}

/// The lists of one store.
#[derive(Clone, Debug)]
pub struct PendingLists {
    root: PathBuf,
}

impl PendingLists {
    /// Below the store's root.
    pub fn new(root: &Path) -> Self {
        Self { root: root.join("manifests") }
    }

    fn folder(&self, list: &Reference) -> PathBuf {
        self.root.join(file_name(list))
    }

    /// Whether there is such a list.
    pub fn exists(&self, list: &Reference) -> bool {
        self.folder(list).is_dir()
    }

    /// The images of a list, in its order.
    ///
    /// # Errors
    /// [`PendingError::NotFound`], and when it cannot be read.
    pub fn list(&self, list: &Reference) -> Result<Vec<ImageManifest>, PendingError> {
        let folder = self.folder(list);
        let at = |source| PendingError::Io { action: "read", path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(PendingError::NotFound { name: list.familiar() });
            }
            Err(error) => return Err(at(error)),
        };
        let paths: Result<Vec<PathBuf>, io::Error> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut paths = paths.map_err(at)?;
        paths.retain(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')));
        paths.sort();
        paths.iter().map(|path| read(path)).collect()
    }

    /// One image of a list.
    ///
    /// # Errors
    /// [`PendingError::NotFound`], and when it cannot be read.
    pub fn get(&self, list: &Reference, image: &Reference) -> Result<ImageManifest, PendingError> {
        let path = self.folder(list).join(file_name(image));
        if path.exists() { read(&path) } else { Err(PendingError::NotFound { name: image.familiar() }) }
    }

    /// Puts an image into a list, which is made where it is not there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, list: &Reference, image: &ImageManifest) -> Result<(), PendingError> {
        let folder = self.folder(list);
        let name = file_name(&image.reference);
        let (path, temporary) = (folder.join(&name), folder.join(format!(".{name}.{}", std::process::id())));
        let written = fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&temporary, go_json(image)))
            .and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| PendingError::Io { action: "write", path, source })
    }

    /// Changes the platform of an image in a list.
    ///
    /// # Errors
    /// [`PendingError::NotInList`], [`PendingError::Unsupported`].
    pub fn annotate(&self, list: &Reference, image: &Reference, changes: &PlatformChanges) -> Result<(), PendingError> {
        let mut found = match self.get(list, image) {
            Err(PendingError::NotFound { .. }) => {
                return Err(PendingError::NotInList { image: image.familiar(), list: list.familiar() });
            }
            found => found?,
        };
        let platform = found.descriptor.platform.get_or_insert_with(Platform::default);
        let set = |member: &mut String, change: &Option<String>| {
            if let Some(change) = change {
                member.clone_from(change);
            }
        };
        set(&mut platform.architecture, &changes.architecture);
        set(&mut platform.os, &changes.os);
        for feature in &changes.os_features {
            if !platform.os_features.contains(feature) {
                platform.os_features.push(feature.clone());
            }
        }
        platform.os_version = changes.os_version.clone().or(platform.os_version.take());
        platform.variant = changes.variant.clone().or(platform.variant.take());
        if !is_known(platform) {
            let (os, architecture) = (platform.os.clone(), platform.architecture.clone());
            return Err(PendingError::Unsupported { os, architecture });
        }
        self.put(list, &found)
    }

    /// Forgets a list.
    ///
    /// # Errors
    /// [`PendingError::NotFound`], and when it cannot be removed.
    pub fn remove(&self, list: &Reference) -> Result<(), PendingError> {
        let folder = self.folder(list);
        match fs::remove_dir_all(&folder) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(PendingError::NotFound { name: list.familiar() }),
            Err(source) => Err(PendingError::Io { action: "remove", path: folder, source }),
        }
    }
}

fn read(path: &Path) -> Result<ImageManifest, PendingError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = fs::File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut bytes));
    file.map_err(|source| PendingError::Io { action: "read", path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| PendingError::Damaged { path: path.to_owned(), source })
}

fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

/// Operating systems and architectures that Go knows.
fn is_known(platform: &Platform) -> bool {
    let linux = ["386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"];
    let windows = ["386", "amd64", "arm", "arm64"];
    let others = [
        ("darwin", &["386", "amd64", "arm", "arm64"][..]),
        ("dragonfly", &["amd64"]),
        ("freebsd", &["386", "amd64", "arm", "arm64"]),
        ("netbsd", &["386", "amd64", "arm"]),
        ("openbsd", &["386", "amd64", "arm"]),
        ("plan9", &["386", "amd64"]),
        ("solaris", &["amd64"]),
        ("wasi", &["wasm", "wasm32"]),
        ("wasip1", &["wasm"]),
    ];
    let architecture = platform.architecture.as_str();
    match platform.os.as_str() {
        "linux" => linux.contains(&architecture),
        "windows" => windows.contains(&architecture),
        os => others.iter().any(|(known, list)| *known == os && list.contains(&architecture)),
    }
}

/// The bytes of a list, as Docker writes it: OCI's index where its first image is OCI's.
pub fn list_document(images: &[ImageManifest]) -> Vec<u8> {
    let is_oci = images.first().is_some_and(|first| first.descriptor.media_type == media_type::OCI_MANIFEST);
    let kind = if is_oci { media_type::OCI_INDEX } else { media_type::DOCKER_MANIFEST_LIST };
    let entry = |image: &ImageManifest| {
        let mut entry = Map::new();
        entry.insert("mediaType".to_owned(), Value::from(image.descriptor.media_type.as_str()));
        entry.insert("size".to_owned(), Value::from(image.descriptor.size));
        entry.insert("digest".to_owned(), Value::from(image.descriptor.digest.as_str()));
        let platform = image.descriptor.platform.clone().unwrap_or_default();
        entry.insert("platform".to_owned(), serde_json::to_value(platform).unwrap_or_default());
        Value::Object(entry)
    };
    let mut list = Map::new();
    list.insert("schemaVersion".to_owned(), Value::from(2));
    list.insert("mediaType".to_owned(), Value::from(kind));
    list.insert("manifests".to_owned(), Value::Array(images.iter().map(entry).collect()));
    go_json_indent(&Value::Object(list), "   ")
}

/// Makes a list ready to be published with [`super::create`].
///
/// # Errors
/// When the images make no index.
pub fn plan_list(images: &[ImageManifest]) -> Result<Created, PendingError> {
    let bytes = list_document(images);
    let document = |bytes: Vec<u8>, kind: Option<&str>| {
        let digest = Digest::sha256(&bytes);
        ManifestDocument::parse(bytes, kind)
            .map_err(|source| ContentError::Document { what: digest.to_string(), source })
    };
    let descriptor = document(bytes.clone(), None)?.descriptor();
    let mut sources = Vec::with_capacity(images.len());
    let mut children = Vec::with_capacity(images.len());
    for (number, image) in images.iter().enumerate() {
        let document = document(image.bytes(), Some(&image.descriptor.media_type))?;
        let location = Location::Registry(image.reference.with_digest(image.descriptor.digest.clone()));
        children.push((image.descriptor.clone(), number));
        sources.push(Source { location, found: Found { descriptor: image.descriptor.clone(), document } });
    }
    Ok(Created { combined: Combined { bytes, descriptor, children }, sources })
}
