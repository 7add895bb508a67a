//! Images as files: OCI layouts and Docker's archives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use onetag_oci::{Descriptor, Digest, Index, Reference, go_json};
use onetag_store::{IMAGE_NAME, REF_NAME};
use serde_json::json;

use super::assemble::BuiltImage;
use super::options::Destination;
use super::{ExportError, ExportOptions};
use crate::Engine;
use crate::layers::{Layers, unheard};

/// What an entry of the archive holds.
enum Content {
    Folder,
    Bytes(Vec<u8>),
    Blob(Digest, u64),
}

/// Writes an image as an OCI layout (`tar` or a folder) or, with `docker`, as Docker's archive.
pub(crate) fn write_archive(
    engine: &Engine,
    layers: &Layers,
    image: &BuiltImage,
    options: &ExportOptions,
    destination: &Destination,
    docker: bool,
    tar: bool,
) -> Result<(), ExportError> {
    if docker && image.index.is_some() {
        return Err(ExportError::ManifestList);
    }
    for layer in image.layers() {
        if let Some(image) = &layer.image {
            layers.fetch(image, &unheard)?;
        }
    }
    let entries = entries(image, options, docker);
    match destination {
        Destination::Path(path) if !tar => write_folder(engine, path, &entries),
        Destination::Path(path) => {
            let failed = |source| ExportError::Write { path: path.clone(), source };
            let file = File::create(path).map_err(failed)?;
            let mut output = BufWriter::with_capacity(1 << 20, file);
            write_tar(engine, &mut output, &entries).and_then(|()| output.flush().map_err(failed))
        }
        Destination::Stream(stream) => {
            let mut stream = stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            write_tar(engine, &mut *stream, &entries)?;
            stream.flush().map_err(|source| ExportError::Write { path: "-".into(), source })
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.encoded())
}

/// Everything in the layout by name, so that equal images give equal archives.
fn entries(image: &BuiltImage, options: &ExportOptions, docker: bool) -> BTreeMap<String, Content> {
    let mut entries = BTreeMap::new();
    entries.insert("blobs/".to_owned(), Content::Folder);
    entries.insert("blobs/sha256/".to_owned(), Content::Folder);
    entries.insert("oci-layout".to_owned(), Content::Bytes(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    for layer in image.layers() {
        let descriptor = &layer.descriptor;
        entries.insert(blob_name(&descriptor.digest), Content::Blob(descriptor.digest.clone(), descriptor.size));
    }
    for platform in &image.platforms {
        entries.insert(blob_name(&platform.manifest.config.digest), Content::Bytes(platform.config.clone()));
        entries.insert(blob_name(platform.manifest.digest()), Content::Bytes(platform.manifest.bytes().to_vec()));
    }
    let top = image.top();
    entries.insert(blob_name(top.digest()), Content::Bytes(top.bytes().to_vec()));
    let index = Index::new(top_descriptors(image, options));
    entries.insert("index.json".to_owned(), Content::Bytes(go_json(&index)));
    if docker && let Some(platform) = image.platforms.first() {
        let tags: Vec<String> = options.names.iter().map(|name| name.clone().with_default_tag().familiar()).collect();
        let layers: Vec<String> = platform.layers.iter().map(|layer| blob_name(&layer.descriptor.digest)).collect();
        let manifest = json!([{
            "Config": blob_name(&platform.manifest.config.digest),
            "RepoTags": tags,
            "Layers": layers,
        }]);
        entries.insert("manifest.json".to_owned(), Content::Bytes(go_json(&manifest)));
    }
    entries
}

/// What the layout's own index says of the image, names apart.
pub(crate) fn layout_entry(image: &BuiltImage) -> Descriptor {
    let mut top = image.top().descriptor();
    top.annotations = image.annotations.clone();
    if let Some(created) = created(image) {
        top.annotations.entry("org.opencontainers.image.created".to_owned()).or_insert(created);
    }
    if let (None, [only]) = (&image.index, image.platforms.as_slice()) {
        top.platform = Some(only.platform.clone());
    }
    top
}

/// The entries of the layout's own index: one for each name.
fn top_descriptors(image: &BuiltImage, options: &ExportOptions) -> Vec<Descriptor> {
    let top = layout_entry(image);
    let named = |name: &Reference| {
        let name = name.clone().with_default_tag();
        let mut descriptor = top.clone();
        descriptor.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
        if let Some(tag) = name.tag() {
            descriptor.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        }
        descriptor
    };
    match options.names.is_empty() {
        true => vec![top],
        false => options.names.iter().map(named).collect(),
    }
}

/// When the image was made, as its config says: the archive is then as reproducible as the image.
fn created(image: &BuiltImage) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(&image.platforms.first()?.config).ok()?;
    config.get("created")?.as_str().map(str::to_owned)
}

fn write_tar(engine: &Engine, output: &mut dyn Write, entries: &BTreeMap<String, Content>) -> Result<(), ExportError> {
    let failed = |name: &str| {
        let path = name.into();
        move |source| ExportError::Write { path, source }
    };
    let mut archive = tar::Builder::new(output);
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let (kind, mode, size) = match content {
            Content::Folder => (tar::EntryType::Directory, 0o755, 0),
            // The index of an unpacked layout is changed by whoever adds to it; blobs never are.
            Content::Bytes(bytes) if matches!(name.as_str(), "index.json" | "manifest.json") => {
                (tar::EntryType::Regular, 0o644, bytes.len() as u64)
            }
            Content::Bytes(bytes) => (tar::EntryType::Regular, 0o444, bytes.len() as u64),
            Content::Blob(_, size) => (tar::EntryType::Regular, 0o444, *size),
        };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        let mut reader = open(engine, content)?;
        archive.append_data(&mut header, name, &mut *reader).map_err(failed(name))?;
    }
    archive.finish().map_err(failed("archive"))
}

fn open<'c>(engine: &Engine, content: &'c Content) -> Result<Box<dyn Read + 'c>, ExportError> {
    Ok(match content {
        Content::Folder => Box::new(std::io::empty()),
        Content::Bytes(bytes) => Box::new(bytes.as_slice()),
        Content::Blob(digest, _) => Box::new(engine.store()?.open_blob(digest)?),
    })
}

fn write_folder(engine: &Engine, root: &Path, entries: &BTreeMap<String, Content>) -> Result<(), ExportError> {
    for (name, content) in entries {
        let path = root.join(name);
        let failed = |source| ExportError::Write { path: path.clone(), source };
        if matches!(content, Content::Folder) {
            std::fs::create_dir_all(&path).map_err(failed)?;
        } else {
            let mut file = File::create(&path).map_err(failed)?;
            std::io::copy(&mut open(engine, content)?, &mut file).map_err(failed)?;
        }
    }
    Ok(())
}
