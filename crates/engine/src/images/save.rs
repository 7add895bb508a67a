//! Writes images as an archive that is an OCI layout and Docker's `manifest.json` archive at once.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use onetag_oci::{Descriptor, Digest, Digester, Index, Platform, Reference, go_json};
use onetag_store::{IMAGE_NAME, REF_NAME, Resource, Store};
use serde_json::json;

use super::choose::{Chosen, choose};
use super::find::{LocalImage, find};
use super::missing::is_here;
use super::presence::{Entry, document, walk, with_attestations};
use super::{ImageError, Result};
use crate::content::{ContentError, Verified};

/// What becomes of one image in the archive.
struct Saved {
    descriptor: Descriptor,
    names: Vec<Reference>,
    /// The platform that Docker's `manifest.json` names, as config and layers.
    docker: Option<(Digest, Vec<Digest>)>,
}

/// Writes images to `out`: whole, one platform of them as an image of its own, or several of an index that stays byte
/// for byte what it is. What is not here of an index is left out; readers of layouts take that as a partial image.
///
/// # Errors
/// When an image or its platform is not here, or `out` cannot be written.
pub fn save(store: &Store, names: &[String], platforms: &[Platform], out: &mut dyn Write) -> Result<()> {
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut images = Vec::new();
    for name in names {
        images.push(collect(store, name, platforms, &mut blobs)?);
    }
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    files.insert("index.json".to_owned(), go_json(&index(&images)));
    let docker = docker_manifest(&images);
    if !docker.is_empty() {
        files.insert("manifest.json".to_owned(), go_json(&docker));
    }
    write(store, &blobs, &files, out)
}

fn collect(store: &Store, name: &str, platforms: &[Platform], blobs: &mut BTreeMap<Digest, u64>) -> Result<Saved> {
    let image = find(store, name)?;
    // what is saved is not collected meanwhile; a store that cannot be written to is not collected either
    let _ = store.hold(&Resource::Blob(image.descriptor.digest.clone()));
    let mut add = |digest: &Digest| {
        if let Some(size) = store.blob_size(digest) {
            blobs.insert(digest.clone(), size);
        }
    };
    let names = named(&image, name);
    let chosen = platforms.iter().map(|platform| choose(store, &image, Some(platform))).collect::<Result<Vec<_>>>()?;
    let docker = of_docker(store, &image, &chosen);
    let mut descriptor = image.descriptor.clone();
    if let [only] = chosen.as_slice() {
        descriptor = only.entry.descriptor.clone();
    }
    descriptor.media_type = document(store, &descriptor)?.media_type().to_owned();
    add(&descriptor.digest);
    let (entries, indexes) = walk(store, &descriptor)?;
    indexes.iter().for_each(&mut add);
    let wanted = chosen.iter().map(|chosen| chosen.entry.descriptor.digest.clone()).collect();
    let wanted = with_attestations(&entries, wanted);
    // an entry of which something is missing is left out whole
    let is_saved = |entry: &&Entry| is_here(entry) && (chosen.len() < 2 || wanted.contains(&entry.descriptor.digest));
    for entry in entries.iter().filter(is_saved) {
        add(&entry.descriptor.digest);
        for blob in entry.manifest.iter().flat_map(|manifest| manifest.layers.iter().chain([&manifest.config])) {
            add(&blob.digest);
        }
    }
    Ok(Saved { descriptor, names, docker })
}

/// Config and layers of the one platform that Docker reads: the host's or else the first of those that are saved. An
/// image whose platform cannot be told is for readers of layouts.
fn of_docker(store: &Store, image: &LocalImage, chosen: &[Chosen]) -> Option<(Digest, Vec<Digest>)> {
    let default = choose(store, image, None).ok();
    let is_saved = |default: &Chosen| {
        chosen.is_empty()
            || chosen.iter().any(|chosen| chosen.entry.descriptor.digest == default.entry.descriptor.digest)
    };
    let read = default.filter(is_saved).or_else(|| chosen.first().cloned())?;
    let layers = read.manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
    Some((read.manifest.config.digest.clone(), layers))
}

/// The name that was asked for, else all names the image has.
fn named(image: &LocalImage, asked: &str) -> Vec<Reference> {
    let asked = Reference::parse(asked).ok().map(Reference::with_default_tag);
    match asked.filter(|asked| image.names.contains(&asked.to_string())) {
        Some(asked) => vec![asked],
        None => image.references().collect(),
    }
}

fn index(images: &[Saved]) -> Index {
    let mut manifests = Vec::new();
    for image in images {
        let names = image.names.iter().filter(|name| name.tag().is_some());
        let mut is_named = false;
        for name in names {
            let mut entry = image.descriptor.clone();
            entry.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
            entry.annotations.insert(REF_NAME.to_owned(), name.tag().unwrap_or_default().to_owned());
            manifests.push(entry);
            is_named = true;
        }
        if !is_named {
            manifests.push(image.descriptor.clone());
        }
    }
    Index::new(manifests)
}

fn docker_manifest(images: &[Saved]) -> Vec<serde_json::Value> {
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm().name(), digest.encoded());
    let entry = |image: &Saved| {
        let (config, layers) = image.docker.as_ref()?;
        let tags: Vec<String> =
            image.names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
        let tags = if tags.is_empty() { serde_json::Value::Null } else { json!(tags) };
        let layers: Vec<String> = layers.iter().map(path).collect();
        Some(json!({"Config": path(config), "RepoTags": tags, "Layers": layers}))
    };
    images.iter().filter_map(entry).collect()
}

/// Entries in byte order, with fixed owners and times: equal images give equal archives.
fn write(
    store: &Store,
    blobs: &BTreeMap<Digest, u64>,
    files: &BTreeMap<String, Vec<u8>>,
    out: &mut dyn Write,
) -> Result<()> {
    let mut archive = tar::Builder::new(out);
    let mut folders: Vec<String> = blobs.keys().map(|digest| format!("blobs/{}/", digest.algorithm().name())).collect();
    folders.insert(0, "blobs/".to_owned());
    folders.dedup();
    for folder in folders {
        let mut header = header(0, 0o755);
        header.set_entry_type(tar::EntryType::Directory);
        archive.append_data(&mut header, folder, io::empty()).map_err(ImageError::Write)?;
    }
    for (digest, size) in blobs {
        let content = store.open_blob(digest)?.take(*size);
        let mut content = Verified { content, digester: Digester::new(digest.algorithm()), count: 0 };
        let name = format!("blobs/{}/{}", digest.algorithm().name(), digest.encoded());
        archive.append_data(&mut header(*size, 0o444), name, &mut content).map_err(ImageError::Write)?;
        // what the disk changed meanwhile leaves under no name that says otherwise
        let actual = content.digester.finish();
        if actual != *digest {
            return Err(ContentError::DigestMismatch { digest: digest.clone(), actual }.into());
        }
    }
    for (name, content) in files {
        let mut header = header(content.len() as u64, 0o444);
        archive.append_data(&mut header, name, content.as_slice()).map_err(ImageError::Write)?;
    }
    archive.into_inner().and_then(|out| out.flush()).map_err(ImageError::Write)
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header
}
