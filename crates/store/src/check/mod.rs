//! Finding damage, and mending it where the lost content can be had again.
//!
//! Blobs are hashed, what names lead to is looked for, unpacked layers are compared with the archives that they
//! were made of. Nothing is changed by a check; [`Store::repair`] takes damaged things away, so that they are never
//! used, and puts in their place what its caller fetches.

mod archive;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::path::PathBuf;

use onetag_oci::{Descriptor, DiffId, Digest, Digester, ImageConfig, ManifestDocument};
use rustix::fs::FlockOperation;

use crate::blobs::BlobWriter;
use crate::error::{At, Error, Result};
use crate::leases::Resource;
use crate::record;
use crate::steps::LayerId;
use crate::store::Store;

/// The largest document that is looked into, in bytes.
const MAX_DOCUMENT: u64 = 4 << 20;

/// What is wrong with one thing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// A blob's content is not what its name says.
    #[error("blob {digest} is damaged: its content has digest {actual}")]
    Blob {
        /// The blob's name.
        digest: Digest,
        /// What its content is.
        actual: Digest,
    },
    /// A blob that a present manifest needs is not there.
    #[error("blob {} ({} bytes) is missing", descriptor.digest, descriptor.size)]
    Missing {
        /// The blob as the manifest describes it.
        descriptor: Box<Descriptor>,
    },
    /// The list of names cannot be read.
    #[error("index.json is damaged: {reason}")]
    Index {
        /// Why.
        reason: String,
    },
    /// An unpacked layer is not what its archive says.
    #[error("unpacked layer {layer} is damaged: {path:?} {reason}")]
    Tree {
        /// The layer.
        layer: DiffId,
        /// The first path that differs.
        path: PathBuf,
        /// How it differs.
        reason: String,
    },
    /// A tree whose record is missing or damaged, or that a crash of the machine may have damaged. It is not used.
    #[error("{path:?} is incomplete")]
    Unusable {
        /// The tree's folder, relative to the store.
        path: PathBuf,
    },
    /// The database of cache records is damaged.
    #[error("cache.db is damaged: {reason}")]
    Database {
        /// What the database says.
        reason: String,
    },
}

/// A damage and the images that it touches.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What is wrong.
    pub damage: Damage,
    /// The names that lead to it.
    pub images: Vec<String>,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Manifests that indexes name and that are not there, by image: platforms that are simply not held.
    pub absent: Vec<(String, Descriptor)>,
    /// Blobs whose content was hashed.
    pub blobs: u64,
    /// Unpacked layers that were compared.
    pub trees: u64,
}

/// Writes the content of a blob, which images of these names need, from where it came. Gives whether it could be had;
/// what was written is verified by its caller.
pub type Fetch<'a> = dyn FnMut(&Descriptor, &[String], &mut BlobWriter) -> bool + 'a;

/// What is known of the images before blobs are read.
#[derive(Default)]
struct Images {
    /// Names that lead to a blob.
    names: BTreeMap<Digest, BTreeSet<String>>,
    /// Blobs that must be there, as described.
    wanted: BTreeMap<Digest, Descriptor>,
    /// The archive of each diff ID.
    archives: BTreeMap<DiffId, Digest>,
    /// Names that lead to a diff ID.
    layers: BTreeMap<DiffId, BTreeSet<String>>,
    absent: Vec<(String, Descriptor)>,
}

impl Store {
    /// Checks everything. Takes as long as reading everything does.
    pub fn check(&self) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        // Collection waits: what it takes meanwhile would look lost.
        let _shared = self.lock("gc", FlockOperation::LockShared)?;
        let images = match self.read_index() {
            Ok(index) => {
                if let Some(reason) = self.index_damage(&index.manifests)? {
                    report.add(Damage::Index { reason }, Vec::new());
                }
                self.images(index.manifests)
            }
            Err(Error::DamagedIndex { source, .. }) => {
                report.add(Damage::Index { reason: source.to_string() }, Vec::new());
                Images::default()
            }
            Err(error) => return Err(error),
        };
        self.check_blobs(&images, &mut report)?;
        self.check_trees(&images, &mut report)?;
        if let Some(reason) = self.database().damage()? {
            report.add(Damage::Database { reason }, Vec::new());
        }
        report.absent = images.absent;
        Ok(report)
    }

    /// Whether a readable index is not what was written: another tool may have written it, and then it is whole; a
    /// disk changes a few bits, or makes it name what never was.
    fn index_damage(&self, entries: &[Descriptor]) -> Result<Option<String>> {
        let path = self.index_path();
        let content = match std::fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).at("read", &path),
        };
        let Ok(copy) = std::fs::read(self.index_copy_path()) else { return Ok(None) };
        let Ok(last) = serde_json::from_slice::<onetag_oci::Index>(&copy) else { return Ok(None) };
        if content.is_empty() {
            return Ok((!last.manifests.is_empty()).then(|| "it is missing".to_owned()));
        }
        let differing = content.iter().zip(&copy).filter(|(a, b)| a != b).count();
        if content.len() == copy.len() && (1..=8).contains(&differing) {
            return Ok(Some(format!("{differing} of its bytes changed")));
        }
        let is_lost = |entry: &Descriptor| !self.has_blob(&entry.digest);
        let lost_more = entries.iter().filter(|entry| is_lost(entry)).count()
            > last.manifests.iter().filter(|entry| is_lost(entry)).count();
        Ok(lost_more.then(|| "it names what is not there".to_owned()))
    }

    fn images(&self, entries: Vec<Descriptor>) -> Images {
        let mut images = Images::default();
        for entry in entries {
            let name = crate::references::name_of(&entry).unwrap_or("<none>").to_owned();
            let mut todo = vec![(entry, true)];
            while let Some((descriptor, required)) = todo.pop() {
                let digest = descriptor.digest.clone();
                let is_new = images.names.entry(digest.clone()).or_default().insert(name.clone());
                if !self.has_blob(&digest) && !required {
                    images.absent.push((name.clone(), descriptor));
                    continue;
                }
                images.wanted.entry(digest.clone()).or_insert(descriptor);
                if is_new {
                    self.follow(&mut images, &name, &digest, &mut todo);
                }
            }
        }
        images
    }

    /// Adds what a document names. What cannot be read leads nowhere; it is found to be damaged when it is hashed.
    fn follow(&self, images: &mut Images, name: &str, digest: &Digest, todo: &mut Vec<(Descriptor, bool)>) {
        let Ok(content) = self.read_blob(digest, MAX_DOCUMENT) else { return };
        match ManifestDocument::parse(content, None) {
            Ok(ManifestDocument::Index(index)) => {
                todo.extend(index.manifests.iter().map(|entry| (entry.clone(), false)));
            }
            Ok(ManifestDocument::Manifest(manifest)) => {
                for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    images.names.entry(part.digest.clone()).or_default().insert(name.to_owned());
                    images.wanted.entry(part.digest.clone()).or_insert_with(|| part.clone());
                }
                let config = self.read_blob(&manifest.config.digest, MAX_DOCUMENT).ok();
                let config = config.and_then(|bytes| serde_json::from_slice::<ImageConfig>(&bytes).ok());
                for (diff_id, layer) in config.iter().flat_map(|config| &config.rootfs.diff_ids).zip(&manifest.layers) {
                    images.archives.insert(diff_id.clone(), layer.digest.clone());
                    images.layers.entry(diff_id.clone()).or_default().insert(name.to_owned());
                }
            }
            Err(_) => {}
        }
    }

    fn check_blobs(&self, images: &Images, report: &mut CheckReport) -> Result<()> {
        let names = |digest: &Digest| images.names.get(digest).into_iter().flatten().cloned().collect::<Vec<_>>();
        for (digest, _) in self.blobs()? {
            let Ok(mut file) = self.open_blob(&digest) else { continue };
            let mut digester = Digester::new(digest.algorithm());
            let mut buffer = vec![0; 1 << 20];
            loop {
                // A block that the disk cannot give back is damage, too.
                match file.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => digester.update(&buffer[..length]),
                }
            }
            report.blobs += 1;
            let actual = digester.finish();
            if actual != digest {
                report.add(Damage::Blob { digest: digest.clone(), actual }, names(&digest));
            }
        }
        for (digest, descriptor) in &images.wanted {
            if !self.has_blob(digest) {
                report.add(Damage::Missing { descriptor: Box::new(descriptor.clone()) }, names(digest));
            }
        }
        Ok(())
    }

    fn check_trees(&self, images: &Images, report: &mut CheckReport) -> Result<()> {
        for item in self.items()? {
            let Some(resource) = &item.resource else { continue };
            let relative = item.path.strip_prefix(self.root()).unwrap_or(&item.path).to_owned();
            if matches!(resource, Resource::Blob(_)) {
                continue;
            }
            if matches!(resource, Resource::Step(step) if self.step_blob(step).is_some()) {
                continue;
            }
            if record::read_valid(self, &item.path).is_none() || !item.path.join("tree").is_dir() {
                report.add(Damage::Unusable { path: relative }, Vec::new());
                continue;
            }
            let Resource::Layer(diff_id) = resource else { continue };
            let is_ours = self.layer_id_path(&LayerId::Diff(diff_id.clone())) == item.path;
            let blob = images.archives.get(diff_id).filter(|blob| is_ours && self.has_blob(blob));
            let Some(blob) = blob else { continue };
            report.trees += 1;
            if let Some((path, reason)) = tree::compare(self, diff_id, blob, &item.path.join("tree"))? {
                let names = images.layers.get(diff_id).into_iter().flatten().cloned().collect();
                report.add(Damage::Tree { layer: diff_id.clone(), path, reason }, names);
            }
        }
        Ok(())
    }

    /// Takes what is damaged away and puts back what `fetch` can give. Gives the findings that remain: content that
    /// could not be had.
    pub fn repair(&self, findings: Vec<Finding>, fetch: &mut Fetch<'_>) -> Result<Vec<Finding>> {
        let mut left = Vec::new();
        for finding in findings {
            let mended = match &finding.damage {
                Damage::Blob { digest, .. } => {
                    self.discard(&self.blob_path(digest))?;
                    let wanted = self.described(digest)?.unwrap_or_else(|| Descriptor::new("", digest.clone(), 0));
                    finding.images.is_empty() || self.fetch_again(&wanted, &finding.images, fetch)?
                }
                Damage::Missing { descriptor } => self.fetch_again(descriptor, &finding.images, fetch)?,
                Damage::Index { .. } => self.restore_index()?,
                Damage::Tree { layer, .. } => {
                    self.discard(&self.layer_id_path(&LayerId::Diff(layer.clone())))?;
                    true
                }
                Damage::Unusable { path } => {
                    self.discard(&self.root().join(path))?;
                    true
                }
                Damage::Database { .. } => {
                    self.database().begin_anew();
                    true
                }
            };
            if !mended {
                left.push(finding);
            }
        }
        // What only a damaged index asked for is not asked for any more.
        let wanted = self.images(self.read_index()?.manifests).wanted;
        left.retain(|finding| match &finding.damage {
            Damage::Missing { descriptor } => wanted.contains_key(&descriptor.digest),
            _ => true,
        });
        Ok(left)
    }

    /// What the images say about a blob.
    fn described(&self, digest: &Digest) -> Result<Option<Descriptor>> {
        Ok(self.images(self.read_index()?.manifests).wanted.remove(digest))
    }

    fn fetch_again(&self, wanted: &Descriptor, images: &[String], fetch: &mut Fetch<'_>) -> Result<bool> {
        let mut writer = self.blob_writer_with(wanted.digest.algorithm())?;
        if !fetch(wanted, images, &mut writer) {
            return Ok(false);
        }
        match writer.finish(Some(&wanted.digest), None) {
            Ok(_) => Ok(true),
            Err(Error::DigestMismatch { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts the names back as this program wrote them last.
    fn restore_index(&self) -> Result<bool> {
        let _alone = self.lock("index", FlockOperation::LockExclusive)?;
        let path = self.index_path();
        let Ok(content) = std::fs::read(self.index_copy_path()) else { return Ok(false) };
        if serde_json::from_slice::<onetag_oci::Index>(&content).is_err() {
            return Ok(false);
        }
        crate::files::replace_file(&path, &self.temporary("index")?, &content).at("write", &path)?;
        Ok(true)
    }
}

impl CheckReport {
    fn add(&mut self, damage: Damage, images: Vec<String>) {
        self.findings.push(Finding { damage, images });
    }

    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}
