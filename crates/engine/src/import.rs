//! Makes an image of a root file system.

use std::io::Read;

use onetag_oci::{Descriptor, Document, History, ImageConfig, Manifest, Platform, Reference, media_type};
use onetag_store::layer::CompressionOptions;
use thiserror::Error;

use crate::Engine;

/// What to import.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// The platform that the files are for.
    pub platform: Platform,
    /// The name to give, if any.
    pub name: Option<Reference>,
    /// The configuration to start from: what `--change` asked for.
    pub config: onetag_oci::ContainerConfig,
    /// The comment of the image's history.
    pub message: Option<String>,
    /// When the image was made, RFC 3339.
    pub created: String,
}

/// Why an import failed.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The archive could not be taken in.
    #[error(transparent)]
    Store(#[from] onetag_store::Error),
}

/// Takes in a tar archive, compressed or not, as an image of one layer.
///
/// # Errors
/// When the archive is none, or the store cannot take it.
pub fn import(engine: &Engine, archive: impl Read + Send, request: &ImportRequest) -> Result<Descriptor, ImportError> {
    let store = engine.store()?;
    let exported = store.import_rootfs(archive, &CompressionOptions::default())?;
    let mut config = ImageConfig::new(&request.platform);
    config.created = Some(request.created.clone());
    config.config = request.config.clone();
    config.rootfs.diff_ids = vec![exported.diff_id];
    config.history = vec![History {
        created: Some(request.created.clone()),
        comment: Some(request.message.clone().unwrap_or_else(|| "Imported from -".to_owned())),
        ..History::default()
    }];
    let config = Document::from_value(config);
    store.put_document(config.bytes())?;
    let config = Descriptor::new(media_type::OCI_CONFIG, config.digest().clone(), config.size());
    let manifest = Document::from_value(Manifest::new(config, vec![exported.descriptor]));
    store.put_document(manifest.bytes())?;
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, manifest.digest().clone(), manifest.size())
        .with_platform(request.platform.clone());
    if let Some(name) = &request.name {
        store.set_reference(&name.clone().with_default_tag().to_string(), descriptor.clone())?;
    }
    Ok(descriptor)
}
