//! Images into registries and into the local store: blobs, then manifests, then the index, names last.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use onetag_oci::{Digest, Reference, media_type};
use onetag_registry::{BlobSource, Client};
use onetag_solver::Cancellation;

use super::assemble::{BuiltImage, BuiltLayer, BuiltPlatform};
use super::upload::Uploads;
use super::{ExportError, ExportOptions};
use crate::Engine;
use crate::layers::{Layers, unheard};
use crate::parallel;
use crate::progress::Activity;

/// So many blobs are on their way at a time.
const PARALLEL: usize = 8;

/// A layer's blob; fetched first when it is a base's and not in the store.
struct LayerSource<'a> {
    engine: &'a Engine,
    layers: &'a Layers,
    layer: &'a BuiltLayer,
}

impl BlobSource for LayerSource<'_> {
    fn open(&self, offset_bytes: u64) -> std::io::Result<Box<dyn Read + Send>> {
        if let Some(image) = &self.layer.image {
            self.layers.fetch(image, &unheard).map_err(std::io::Error::other)?;
        }
        let store = self.engine.store().map_err(std::io::Error::other)?;
        let mut file: File = store.open_blob(&self.layer.descriptor.digest).map_err(std::io::Error::other)?;
        file.seek(SeekFrom::Start(offset_bytes))?;
        Ok(Box::new(file))
    }

    fn size(&self) -> u64 {
        self.layer.descriptor.size
    }
}

/// Something to upload to a repository.
enum Upload<'a> {
    Layer(&'a BuiltLayer),
    Config(&'a BuiltPlatform),
}

/// The repositories of names, each once.
pub(crate) fn repositories(names: &[Reference]) -> Vec<Reference> {
    let mut repositories: Vec<Reference> = Vec::new();
    for repository in names.iter().map(Reference::name_only) {
        if !repositories.contains(&repository) {
            repositories.push(repository);
        }
    }
    repositories
}

/// Pushes an image under all of its names. Nothing has a name before everything is there. `uploads` are under way
/// since the layers were written.
pub(crate) fn push(
    engine: &Engine,
    layers: &Layers,
    image: &BuiltImage,
    options: &ExportOptions,
    uploads: Option<Uploads>,
    cancellation: &Cancellation,
    activity: &Activity<'_>,
) -> Result<(), ExportError> {
    if options.names.is_empty() {
        return Err(ExportError::NoName);
    }
    let client = engine.client().map_err(|source| failed(&options.names[0], source))?;
    let mut uploads = uploads;
    for (position, repository) in repositories(&options.names).iter().enumerate() {
        activity.part("pushing layers", || {
            let arrived = uploads.take().map(Uploads::finish).filter(|(target, _)| target == repository);
            let arrived = arrived.map(|(_, digests)| digests).unwrap_or_default();
            let first = (position > 0).then(|| options.names[0].name_only());
            let blobs = Blobs { engine, layers, client, repository, arrived, first, cancellation };
            blobs.push(image)
        })?;
        if image.index.is_some() {
            push_manifests(client, image, repository, cancellation)?;
        }
    }
    let top = image.top();
    for name in &options.names {
        if cancellation.is_cancelled() {
            return Err(ExportError::Cancelled);
        }
        let target = match options.push_by_digest {
            true => name.name_only().with_digest(top.digest().clone()),
            false => name.clone().with_default_tag(),
        };
        activity.part(&format!("pushing manifest for {}@{}", target.without_digest(), top.digest()), || {
            client.push_manifest(&target, top.bytes(), top.media_type()).map_err(|source| failed(&target, source))
        })?;
    }
    Ok(())
}

fn failed(reference: &Reference, source: onetag_registry::Error) -> ExportError {
    ExportError::Push { reference: reference.to_string(), source: Box::new(source) }
}

/// What blobs are pushed with.
struct Blobs<'a> {
    engine: &'a Engine,
    layers: &'a Layers,
    client: &'a Client,
    repository: &'a Reference,
    /// What is in the repository already.
    arrived: HashSet<Digest>,
    /// Another repository that has been given everything.
    first: Option<Reference>,
    cancellation: &'a Cancellation,
}

impl Blobs<'_> {
    /// Pushes all layers and configs of an image.
    fn push(&self, image: &BuiltImage) -> Result<(), ExportError> {
        let is_due = |layer: &&BuiltLayer| {
            let descriptor = &layer.descriptor;
            !media_type::is_nondistributable(&descriptor.media_type) && !self.arrived.contains(&descriptor.digest)
        };
        let mut uploads: Vec<Upload<'_>> = image.layers().into_iter().filter(is_due).map(Upload::Layer).collect();
        let mut seen: Vec<Digest> = Vec::new();
        for platform in &image.platforms {
            let digest = &platform.manifest.config.digest;
            if !seen.contains(digest) {
                seen.push(digest.clone());
                uploads.push(Upload::Config(platform));
            }
        }
        parallel::each(&uploads, PARALLEL, |upload| {
            if self.cancellation.is_cancelled() {
                return Err(ExportError::Cancelled);
            }
            self.upload(upload).map_err(|source| failed(self.repository, source))
        })
    }

    fn upload(&self, upload: &Upload<'_>) -> Result<(), onetag_registry::Error> {
        let repository = self.repository;
        let pushed = match upload {
            Upload::Config(platform) => {
                self.client.push_blob(repository, &platform.manifest.config, &platform.config, &[])
            }
            Upload::Layer(layer) => {
                let origin = layer.image.as_ref().and_then(|image| image.origin.as_ref());
                let is_mountable =
                    |origin: &&Reference| origin.domain() == repository.domain() && origin.path() != repository.path();
                let origins = origin.into_iter().chain(&self.first);
                let mount_from: Vec<Reference> = origins.filter(is_mountable).cloned().collect();
                let source = LayerSource { engine: self.engine, layers: self.layers, layer };
                self.client.push_blob(repository, &layer.descriptor, &source, &mount_from)
            }
        };
        pushed.map(drop)
    }
}

fn push_manifests(
    client: &Client,
    image: &BuiltImage,
    repository: &Reference,
    cancellation: &Cancellation,
) -> Result<(), ExportError> {
    parallel::each(&image.platforms, PARALLEL, |platform| {
        if cancellation.is_cancelled() {
            return Err(ExportError::Cancelled);
        }
        let manifest = &platform.manifest;
        let target = repository.with_digest(manifest.digest().clone());
        let kind = manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
        client.push_manifest(&target, manifest.bytes(), kind).map_err(|source| failed(&target, source))?;
        Ok(())
    })
}

/// Puts an image into the local store under all of its names, with everything that it is made of.
pub(crate) fn load(
    engine: &Engine,
    layers: &Layers,
    image: &BuiltImage,
    options: &ExportOptions,
    cancellation: &Cancellation,
    activity: &Activity<'_>,
) -> Result<(), ExportError> {
    let store = engine.store()?;
    parallel::each(&image.layers(), PARALLEL, |layer| {
        if cancellation.is_cancelled() {
            return Err(ExportError::Cancelled);
        }
        if let Some(image) = &layer.image {
            layers.fetch(image, &unheard)?;
        }
        Ok(())
    })?;
    for platform in &image.platforms {
        store.put_document(&platform.config)?;
        store.put_document(platform.manifest.bytes())?;
    }
    let top = image.top();
    store.put_document(top.bytes())?;
    for name in &options.names {
        let name = name.clone().with_default_tag().to_string();
        let mut descriptor = top.descriptor();
        descriptor.annotations.clone_from(&image.annotations);
        activity.part(&format!("naming to {name}"), || store.set_reference(&name, descriptor))?;
    }
    Ok(())
}
