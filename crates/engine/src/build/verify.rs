//! `--verify-reproducible`: everything is built twice without the cache, and the results are compared.

mod compare;

use std::sync::Arc;

use onetag_dockerfile::NoCache;
use onetag_oci::{Digest, Platform};
use serde_json::Value;

use super::times::SourceTimes;
use super::{BuildError, BuildRequest, Cancellation, partial};
use crate::Engine;
use crate::cache::Imported;
use crate::export::{Assembler, BuiltImage, BuiltPlatform, ExportError, ExportOptions, Part, Target};
use crate::layers::{Layers, unheard};
use crate::op::KnownSources;
use crate::progress::{Activity, Sink};
use crate::snapshot::{Layer, Snapshot};

/// What came of two builds of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The digest of the first build's index or, for a single platform, manifest.
    pub digest: Digest,
    /// What differs, the first difference of each layer or document; none when both builds came out equal.
    pub differences: Vec<Difference>,
}

/// The first difference in a layer or in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The platform.
    pub platform: Platform,
    /// The number of the layer, from 0; `None` for the config and the manifest.
    pub layer: Option<usize>,
    /// What made the layer, or which document it is.
    pub origin: String,
    /// The file in the layer, or the field in the document.
    pub path: String,
    /// What differs, first build first.
    pub what: String,
}

/// One of the two builds.
struct Build {
    image: BuiltImage,
    snapshots: Vec<Arc<Snapshot>>,
}

impl Engine {
    /// Builds twice without the cache, with nothing exported, and tells the differences.
    ///
    /// # Errors
    /// Those of either build, or of reading its layers.
    pub fn verify_reproducible(
        &self,
        request: &BuildRequest,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<Verification, BuildError> {
        let mut request = request.clone();
        request.no_cache = NoCache::Always;
        request.cache_to.clear();
        let first = self.build_once(&request, "first build", cancellation, sink)?;
        let second = self.build_once(&request, "second build", cancellation, sink)?;
        let digest = first.image.top().digest().clone();
        let mut differences = Vec::new();
        if digest != *second.image.top().digest() {
            let compared = self.compare(&first, &second);
            differences = compared.map_err(|error| BuildError::Export(Box::new(error)))?;
        }
        Ok(Verification { digest, differences })
    }

    fn build_once(
        &self,
        request: &BuildRequest,
        name: &str,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<Build, BuildError> {
        let sources = KnownSources::default();
        let definition = self.define(request, &sources, cancellation, sink)?;
        let catalog = self.locked_catalog(request, &definition, sink)?;
        let layers = Arc::new(Layers::new(self.clone()));
        let times = SourceTimes::new(self, request, &sources, cancellation, sink);
        let mut lowered = self.lower_all(&times, &definition, &catalog)?;
        let mut failed = lowered.take_failed();
        let lowered = lowered.into_made();
        let session = Arc::new(self.session(request, &catalog, &layers, &sources)?);
        let imported = Imported::default();
        let solved = self.solve(request, &definition, &lowered, &session, cancellation, sink, &imported)?;
        let mut solved = solved.snapshots;
        failed.extend(solved.take_failed());
        if cancellation.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let strict = BuildRequest { allow_partial: false, ..request.clone() };
        partial::settle(&strict, &mut failed, solved.labels())?;
        let snapshots = solved.into_made();
        let parts: Vec<Part<'_>> =
            lowered.iter().zip(&snapshots).map(|(lowered, snapshot)| Part::new(lowered, snapshot)).collect();
        let annotations = crate::flags::parse_annotations(&request.annotations, &Platform::host());
        let annotations = annotations.map_err(|source| BuildError::Flag(Box::new(source)))?;
        let options = request.outputs.first().cloned().unwrap_or_else(|| ExportOptions::new(Target::CacheOnly));
        let activity = Activity::start(&format!("[internal] writing the layers of the {name}"), sink);
        let assembler = Assembler::new(self, &layers).with_index(request.platforms.len() > 1);
        let image =
            activity.part("exporting layers", || assembler.assemble(&parts, &options, &annotations, None, &activity));
        let image = activity.finish(image).map_err(|error| BuildError::Export(Box::new(error)))?;
        Ok(Build { image, snapshots })
    }

    fn compare(&self, first: &Build, second: &Build) -> Result<Vec<Difference>, ExportError> {
        let mut differences = Vec::new();
        for (position, (one, two)) in first.image.platforms.iter().zip(&second.image.platforms).enumerate() {
            if one.manifest.digest() == two.manifest.digest() {
                continue;
            }
            let known = differences.len();
            let snapshot = first.snapshots.get(position).cloned().unwrap_or_default();
            self.compare_layers(one, two, &snapshot, &mut differences)?;
            if differences.len() == known {
                differences.extend(documents(one, two));
            }
        }
        Ok(differences)
    }

    fn compare_layers(
        &self,
        one: &BuiltPlatform,
        two: &BuiltPlatform,
        snapshot: &Snapshot,
        differences: &mut Vec<Difference>,
    ) -> Result<(), ExportError> {
        if one.layers.len() != two.layers.len() {
            differences.push(Difference {
                platform: one.platform.clone(),
                layer: None,
                origin: "the image".to_owned(),
                path: "layers".to_owned(),
                what: format!("{} layers, {} layers", one.layers.len(), two.layers.len()),
            });
            return Ok(());
        }
        let store = self.store()?;
        for (number, (left, right)) in one.layers.iter().zip(&two.layers).enumerate() {
            if left.descriptor.digest == right.descriptor.digest {
                continue;
            }
            for layer in [left, right] {
                if let Some(image) = &layer.image {
                    Layers::new(self.clone()).fetch(image, &unheard)?;
                }
            }
            let (path, what) = compare::layers(store, &left.descriptor, &right.descriptor)?;
            let origin = match snapshot.layers.get(number) {
                Some(Layer::Step(step)) => step.description.clone(),
                _ => "a layer of the base image".to_owned(),
            };
            differences.push(Difference { platform: one.platform.clone(), layer: Some(number), origin, path, what });
        }
        Ok(())
    }
}

/// The first difference of the configs, else that of the manifests.
fn documents(one: &BuiltPlatform, two: &BuiltPlatform) -> Option<Difference> {
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let pairs = [
        ("the config", parse(&one.config), parse(&two.config)),
        ("the manifest", parse(one.manifest.bytes()), parse(two.manifest.bytes())),
    ];
    pairs.into_iter().find_map(|(origin, left, right)| {
        let (path, what) = compare::values(&left, &right)?;
        Some(Difference { platform: one.platform.clone(), layer: None, origin: origin.to_owned(), path, what })
    })
}
