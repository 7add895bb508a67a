//! Statements about images, and the manifests that bring them into an index or beside an image.

use onetag_oci::{
    Descriptor, DiffId, Digest, Document, Manifest, Platform, Reference, go_json, go_json_indent, media_type,
};
use serde_json::{Value, json};

use super::options::ProvenanceVersion;
use super::sources::purl;
use crate::Engine;
use crate::export::{BuiltLayer, BuiltPlatform, ExportError};

/// The artifact type of BuildKit's attestation manifests.
const ATTESTATION_TYPE: &str = "application/vnd.docker.attestation.manifest.v1+json";
/// The type of a statement.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The annotation that names a statement's predicate.
const PREDICATE_ANNOTATION: &str = "in-toto.io/predicate-type";

/// What a statement is about.
pub(crate) struct Target<'a> {
    /// The image's manifest.
    pub(crate) manifest: Descriptor,
    /// Its platform.
    pub(crate) platform: &'a Platform,
    /// The names that it gets.
    pub(crate) names: &'a [Reference],
}

/// The in-toto statement that `predicate` holds for an image.
fn statement(target: &Target<'_>, version: ProvenanceVersion, predicate: &Value) -> Vec<u8> {
    let digest = &target.manifest.digest;
    let digest = json!({ digest.algorithm().name(): digest.encoded() });
    let subject = |name: &Reference| {
        let digest_of_name = name.digest();
        json!({ "name": purl(name, digest_of_name, Some(target.platform)), "digest": digest })
    };
    go_json(&json!({
        "_type": STATEMENT_TYPE,
        "predicateType": version.predicate_type(),
        "subject": target.names.iter().map(subject).collect::<Vec<Value>>(),
        "predicate": predicate,
    }))
}

/// The in-toto statement that `predicate` holds for files, each with its path and digest; indented, as BuildKit
/// writes it beside them.
pub(crate) fn file_statement(version: ProvenanceVersion, predicate: &Value, files: &[(String, Digest)]) -> Vec<u8> {
    let subject = |(name, digest): &(String, Digest)| json!({ "name": name, "digest": { digest.algorithm().name(): digest.encoded() } });
    let statement = json!({
        "_type": STATEMENT_TYPE,
        "predicateType": version.predicate_type(),
        "subject": files.iter().map(subject).collect::<Vec<Value>>(),
        "predicate": predicate,
    });
    go_json_indent(&statement, "  ")
}

fn layer(statement: &[u8], version: ProvenanceVersion) -> Descriptor {
    let mut layer = Descriptor::new(media_type::IN_TOTO, Digest::sha256(statement), statement.len() as u64);
    layer.annotations.insert(PREDICATE_ANNOTATION.to_owned(), version.predicate_type().to_owned());
    layer
}

fn empty_config() -> (Descriptor, Vec<u8>) {
    let bytes = b"{}".to_vec();
    let mut config = Descriptor::new(media_type::EMPTY, Digest::sha256(&bytes), bytes.len() as u64);
    config.data = Some("e30=".to_owned());
    (config, bytes)
}

/// The attestation manifest of an image, in the form of one more image of the index, of an unknown platform. Its
/// statement is in the store. With `as_artifact` it refers to the image, without it looks like an image itself.
pub(crate) fn attestation(
    engine: &Engine,
    target: &Target<'_>,
    version: ProvenanceVersion,
    predicate: &Value,
    as_artifact: bool,
) -> Result<BuiltPlatform, ExportError> {
    let statement = statement(target, version, predicate);
    let layer = layer(&statement, version);
    engine.store()?.put_document(&statement)?;
    let (config, bytes) = match as_artifact {
        true => empty_config(),
        false => {
            let rootfs = json!({ "type": "layers", "diff_ids": [layer.digest] });
            let bytes = go_json(&json!({ "architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs }));
            (Descriptor::new(media_type::OCI_CONFIG, Digest::sha256(&bytes), bytes.len() as u64), bytes)
        }
    };
    let mut manifest = Manifest::new(config, vec![layer.clone()]);
    if as_artifact {
        manifest.artifact_type = Some(ATTESTATION_TYPE.to_owned());
        let Descriptor { media_type, digest, size, .. } = &target.manifest;
        manifest.subject = Some(Descriptor::new(media_type, digest.clone(), *size));
    }
    let diff_id = DiffId(layer.digest.clone());
    Ok(BuiltPlatform {
        platform: Platform::new("unknown", "unknown"),
        manifest: Document::from_value_indented(manifest),
        config: bytes,
        layers: vec![BuiltLayer { descriptor: layer, diff_id, image: None }],
        subject: Some(target.manifest.digest.clone()),
    })
}

/// Pushes a statement beside an image, as an artifact that refers to it.
pub(crate) fn push_referrer(
    engine: &Engine,
    target: &Target<'_>,
    version: ProvenanceVersion,
    predicate: &Value,
    repository: &Reference,
) -> Result<Digest, ExportError> {
    let failed = |source| ExportError::Push { reference: repository.to_string(), source: Box::new(source) };
    let statement = statement(target, version, predicate);
    let layer = layer(&statement, version);
    let (config, bytes) = empty_config();
    let client = engine.client().map_err(failed)?;
    client.push_blob(repository, &config, &bytes, &[]).map_err(failed)?;
    client.push_blob(repository, &layer, &statement, &[]).map_err(failed)?;
    let mut manifest = Manifest::new(config, vec![layer]);
    manifest.artifact_type = Some(media_type::IN_TOTO.to_owned());
    manifest.annotations.insert(PREDICATE_ANNOTATION.to_owned(), version.predicate_type().to_owned());
    let Descriptor { media_type, digest, size, .. } = &target.manifest;
    manifest.subject = Some(Descriptor::new(media_type, digest.clone(), *size));
    let manifest = Document::from_value_indented(manifest);
    let reference = repository.with_digest(manifest.digest().clone());
    client.push_manifest(&reference, manifest.bytes(), media_type::OCI_MANIFEST).map_err(failed)
}
