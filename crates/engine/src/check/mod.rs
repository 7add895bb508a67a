//! Does an index tell the truth? Index, config and programs have to name the same machine, and all content has to be
//! there, with the size and the digest that its descriptors say.
//!
//! Documents are read whole. Layers stream by: each is read at most once, however many platforms share it, and nothing
//! is stored. Without [`CheckOptions::all`] layers are read from the top down, as far as the entry point needs; the
//! others are asked for by their size.

mod documents;
mod entry;
mod file;
mod image;
mod layer;
mod local;
mod machine;
mod problem;
mod report;
mod tree;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use onetag_oci::{Algorithm, Descriptor, Digest, Platform, media_type};
use onetag_solver::Cancellation;
use onetag_store::layer::LayerError;
use thiserror::Error;

use crate::Engine;
use crate::content::{ContentError, Contents, Found, Location};
use crate::parallel;
use documents::{Entry, Walk, explain};
use image::{Image, KnownLayers};

pub use entry::EntryProblem;
pub use layer::LayerContents;
pub(crate) use local::check_locally;
pub use problem::{Finding, Problem, Severity};
pub use report::{CheckReport, EntryKind, EntryReport};

/// Blobs asked for at a time.
const PARALLEL: usize = 8;
/// Layers read at a time.
const LAYERS: usize = 3;

/// How thorough a check is.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Read every layer and every other blob, and look at every program.
    pub all: bool,
    /// The only platforms whose images are looked into; empty for all.
    pub platforms: Vec<Platform>,
}

/// Why an index could not be checked.
#[derive(Debug, Error)]
pub enum CheckError {
    /// Something could not be asked for.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Checks what a name means.
///
/// # Errors
/// Nothing of that name is there, it is no document, or somebody does not answer. What is wrong with what is there is in
/// the report.
pub fn check(
    engine: &Engine,
    location: &Location,
    options: &CheckOptions,
    cancel: &Cancellation,
) -> Result<CheckReport, CheckError> {
    let contents = Contents::new(engine);
    let found = contents.find(location)?;
    let mut walk = Walk::new(contents, location);
    walk.run(&found)?;
    let Walk { entries, findings, .. } = walk;
    let mut check = Check {
        contents,
        location,
        options,
        cancel,
        findings,
        layers: KnownLayers::new(),
        kinds: vec![EntryKind::Unknown; entries.len()],
        layers_read: 0,
        bytes_read: 0,
    };
    let mut images = check.images(&entries)?;
    check.read_layers(&mut images)?;
    check.weigh(&entries)?;
    for image in &mut images {
        image.judge(&check.layers, &mut check.findings);
    }
    Ok(check.report(&found, &entries, &images))
}

struct Check<'a> {
    contents: Contents<'a>,
    location: &'a Location,
    options: &'a CheckOptions,
    cancel: &'a Cancellation,
    findings: Vec<Finding>,
    layers: KnownLayers,
    kinds: Vec<EntryKind>,
    layers_read: usize,
    bytes_read: u64,
}

impl Check<'_> {
    fn check_cancel(&self) -> Result<(), CheckError> {
        if self.cancel.is_cancelled() { Err(CheckError::Interrupted) } else { Ok(()) }
    }

    fn is_wanted(&self, platform: &Platform) -> bool {
        let wanted = &self.options.platforms;
        wanted.is_empty() || wanted.iter().any(|wanted| wanted.normalize() == *platform)
    }

    /// The images among the entries, with their configs.
    fn images(&mut self, entries: &[Entry]) -> Result<Vec<Image>, CheckError> {
        let mut wanted = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            let Some(manifest) = &entry.manifest else { continue };
            if entry.descriptor.is_attestation() {
                self.kinds[number] = EntryKind::Attestation;
            } else if !media_type::is_config(&manifest.config.media_type) {
                self.kinds[number] = EntryKind::Artifact;
                let kind = manifest.artifact_type.clone().unwrap_or_else(|| manifest.config.media_type.clone());
                let digest = entry.descriptor.digest.clone();
                self.findings.push(Finding::new(Problem::Artifact { digest, kind }));
            } else {
                self.kinds[number] = EntryKind::Image;
                wanted.push((number, manifest));
            }
        }
        let (contents, location) = (self.contents, self.location);
        let configs = parallel::map(&wanted, PARALLEL, |(_, manifest)| contents.config(location, manifest));
        let mut images = Vec::new();
        for ((number, manifest), config) in wanted.into_iter().zip(configs) {
            let entry = &entries[number];
            let claimed = entry.descriptor.platform.as_ref();
            let config = match config {
                Ok(config) => config,
                Err(error) => {
                    let problem = explain(error, "config", &manifest.config, location)?;
                    self.findings.push(Finding::of(&entry.label(), problem));
                    continue;
                }
            };
            let platform = claimed.cloned().unwrap_or_else(|| config.platform()).normalize();
            if !self.is_wanted(&platform) {
                continue;
            }
            let name = claimed.map_or_else(|| platform.format_all(), problem::label);
            let manifest = manifest.clone();
            let (trace, is_settled, programs) = (None, false, 0);
            let image = Image { entry: number, name, platform, manifest, config, trace, is_settled, programs };
            image.compare_config(claimed, &mut self.findings);
            images.push(image);
        }
        Ok(images)
    }

    /// Reads layers in rounds, each image asking for the next one down, until every entry point is known.
    fn read_layers(&mut self, images: &mut [Image]) -> Result<(), CheckError> {
        loop {
            self.check_cancel()?;
            let mut wanted: BTreeMap<&Digest, (&Descriptor, Algorithm, &str)> = BTreeMap::new();
            for image in images.iter_mut() {
                let next = if image.is_looked_into() { image.follow(&self.layers) } else { None };
                let image = &*image;
                let numbers: Vec<usize> = match self.options.all {
                    true => (0..image.manifest.layers.len()).collect(),
                    false => next.into_iter().collect(),
                };
                for number in numbers {
                    let layer = &image.manifest.layers[number];
                    let diff_id = image.config.rootfs.diff_ids.get(number);
                    let algorithm = diff_id.map_or(Algorithm::Sha256, |diff_id| diff_id.0.algorithm());
                    if !self.layers.contains_key(&layer.digest) {
                        wanted.insert(&layer.digest, (layer, algorithm, &image.name));
                    }
                }
            }
            if wanted.is_empty() {
                return Ok(());
            }
            let wanted: Vec<_> = wanted.into_values().collect();
            let answers = parallel::map(&wanted, LAYERS, |(layer, algorithm, _)| self.read_layer(layer, *algorithm));
            for ((layer, _, name), answer) in wanted.into_iter().zip(answers) {
                let contents = match answer {
                    LayerAnswer::Skipped => None,
                    LayerAnswer::Read(contents) => {
                        self.layers_read += 1;
                        self.bytes_read += layer.size;
                        Some(Arc::new(contents))
                    }
                    LayerAnswer::Damaged(source) => {
                        let problem = Problem::Layer { digest: layer.digest.clone(), source: Arc::new(source) };
                        self.findings.push(Finding::of(name, problem));
                        None
                    }
                    LayerAnswer::Failed(error) => {
                        let problem = explain(error, "layer", layer, self.location)?;
                        self.findings.push(Finding::of(name, problem));
                        None
                    }
                };
                self.layers.insert(layer.digest.clone(), contents);
            }
        }
    }

    fn read_layer(&self, layer: &Descriptor, algorithm: Algorithm) -> LayerAnswer {
        if media_type::is_nondistributable(&layer.media_type) || !media_type::is_layer(&layer.media_type) {
            return LayerAnswer::Skipped;
        }
        let read = |stream: &mut dyn Read| {
            LayerContents::read(Interruptible { inner: stream, cancel: self.cancel }, algorithm)
        };
        match self.contents.stream(self.location, layer, &read) {
            Ok(Ok(contents)) => LayerAnswer::Read(contents),
            Ok(Err(damage)) => LayerAnswer::Damaged(damage),
            Err(error) => LayerAnswer::Failed(error),
        }
    }

    /// Asks for the blobs that were not read: whether they are there, and how large; all of them are read when asked to.
    fn weigh(&mut self, entries: &[Entry]) -> Result<(), CheckError> {
        let mut seen: HashSet<&Digest> = self.layers.keys().collect();
        let mut wanted: Vec<(&Descriptor, &'static str, String)> = Vec::new();
        for (entry, kind) in entries.iter().zip(&self.kinds) {
            let Some(manifest) = &entry.manifest else { continue };
            // The config of an image was read.
            let config = (*kind != EntryKind::Image).then_some((&manifest.config, "config"));
            for (blob, what) in manifest.layers.iter().map(|layer| (layer, "layer")).chain(config) {
                if !media_type::is_nondistributable(&blob.media_type) && seen.insert(&blob.digest) {
                    wanted.push((blob, what, entry.label()));
                }
            }
        }
        let (contents, location, all) = (self.contents, self.location, self.options.all);
        let answers = parallel::map(&wanted, PARALLEL, |(blob, ..)| {
            if all {
                return contents.stream(location, blob, &|_| ()).map(|()| None);
            }
            contents.blob_size(location, &blob.digest)
        });
        let mut findings = Vec::new();
        for ((blob, what, name), answer) in wanted.into_iter().zip(answers) {
            let problem = match answer {
                Ok(Some(actual)) if actual != blob.size => {
                    Problem::Size { what, digest: blob.digest.clone(), said: blob.size, actual }
                }
                Ok(_) => continue,
                Err(error) => explain(error, what, blob, location)?,
            };
            findings.push(Finding::of(&name, problem));
        }
        self.findings.extend(findings);
        self.check_cancel()
    }

    fn report(mut self, found: &Found, entries: &[Entry], images: &[Image]) -> CheckReport {
        // Errors first; within a severity in the order in which they were found.
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.problem.severity()));
        let mut worst: HashMap<&str, Severity> = HashMap::new();
        for finding in &self.findings {
            let Some(platform) = &finding.platform else { continue };
            let severity = finding.problem.severity();
            let known = worst.entry(platform).or_insert(severity);
            *known = (*known).max(severity);
        }
        let row = |(number, entry): (usize, &Entry)| {
            let image = images.iter().find(|image| image.entry == number);
            let platform = image.map_or_else(|| entry.label(), |image| image.name.clone());
            let program = image.and_then(|image| image.trace.as_ref()?.steps.first());
            EntryReport {
                verdict: worst.get(platform.as_str()).copied(),
                platform,
                kind: self.kinds[number],
                digest: entry.descriptor.digest.clone(),
                config: image.map(|image| problem::label(&image.config.platform())),
                entry_point: image.and_then(|image| image.trace.as_ref()?.command.clone()),
                machine: program.map(|step| step.program.header.machine_name()),
                programs: image.map_or(0, |image| image.programs),
                blobs: entry.manifest.as_ref().map_or(0, |manifest| manifest.layers.len() + 1),
            }
        };
        CheckReport {
            reference: self.location.to_string(),
            media_type: found.document.media_type().to_owned(),
            digest: found.document.digest().clone(),
            entries: entries.iter().enumerate().map(row).collect(),
            findings: self.findings,
            layers_read: self.layers_read,
            bytes_read: self.bytes_read,
        }
    }
}

enum LayerAnswer {
    Read(LayerContents),
    /// It lies elsewhere, or is no layer.
    Skipped,
    Damaged(LayerError),
    Failed(ContentError),
}

/// Ends a long layer when the user asks to stop.
struct Interruptible<'a> {
    inner: &'a mut dyn Read,
    cancel: &'a Cancellation,
}

impl Read for Interruptible<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(std::io::Error::other("interrupted"));
        }
        self.inner.read(buffer)
    }
}
