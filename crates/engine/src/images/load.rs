//! Reads images from archives: OCI layouts, and Docker's `manifest.json` archives of any age.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};

use onetag_oci::{
    DEFAULT_DOCUMENT_LIMIT, Descriptor, Digest, Document, ImageConfig, Index, Manifest, Platform, PlatformMatcher,
    Reference, media_type, only,
};
use onetag_store::layer::{Compression, Decompressor, detect};
use onetag_store::{IMAGE_NAME, REF_NAME, Resource, Store};
use serde::Deserialize;

use super::presence::{Entry, document, entries, walk, with_attestations};
use super::{ImageError, Result};
use crate::content::ContentError;
use crate::content::archive::resolve;

/// An archive may be this many times as large as its compressed form.
const RATIO: u64 = 1000;
/// Symbolic links of old archives lead this far.
const LINKS: usize = 8;

/// What was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The names that mean it now; none when the archive gave none.
    pub names: Vec<Reference>,
    /// What they mean.
    pub descriptor: Descriptor,
}

/// One image of Docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// The files of an archive, their contents in the store.
#[derive(Default)]
struct Files {
    contents: HashMap<String, (Digest, u64)>,
    /// Content under its digest that was not in the store before.
    fresh: HashSet<Digest>,
    links: HashMap<String, String>,
}

impl Files {
    fn find(&self, name: &str) -> Option<&(Digest, u64)> {
        let mut name = name.trim_start_matches("./").to_owned();
        for _ in 0..LINKS {
            if let Some(found) = self.contents.get(&name) {
                return Some(found);
            }
            name.clone_from(self.links.get(&name)?);
        }
        None
    }
}

/// Loads the images of an archive, compressed or not. With one platform, its manifest is named in place of the index;
/// with several the index is, and of those that it has no others come in with it. Images with none of them are left.
///
/// # Errors
/// When the archive is none, or what it names is not in it or damaged. Names are set last.
pub fn load(store: &Store, archive: impl Read, platforms: &[Platform]) -> Result<Vec<Loaded>> {
    let loaded = match platforms {
        [] => take_in(store, archive)?.0,
        [wanted] => {
            let loaded = take_in(store, archive)?.0;
            loaded.into_iter().filter_map(|image| narrow(store, image, wanted).transpose()).collect::<Result<_>>()?
        }
        several => some_platforms(store, archive, several)?,
    };
    let named = |image: &Loaded| -> Vec<_> {
        image.names.iter().map(|name| (name.to_string(), image.descriptor.clone())).collect()
    };
    store.set_references(loaded.iter().flat_map(named).collect())?;
    Ok(loaded)
}

/// Puts the content of an archive into the store without naming it, all of it durable at once. Gives the images, and what was not here before.
fn take_in(store: &Store, archive: impl Read) -> Result<(Vec<Loaded>, HashSet<Digest>)> {
    let batch = store.batch();
    let files = unpack(store, archive)?;
    let document = |name: &str| -> Result<Option<Vec<u8>>> {
        match files.find(name) {
            Some((digest, _)) => Ok(Some(store.read_blob(digest, DEFAULT_DOCUMENT_LIMIT as u64)?)),
            None => Ok(None),
        }
    };
    let loaded = match (document("index.json")?, document("manifest.json")?) {
        (Some(index), _) => from_layout(store, &index)?,
        (None, Some(manifest)) => from_docker(store, &files, &manifest)?,
        (None, None) => return Err(ImageError::NoArchive { missing: "neither index.json nor manifest.json" }),
    };
    batch.close()?;
    Ok((loaded, files.fresh))
}

/// Loads images with these platforms of them. The archive is taken in under a lease of its own, and when that has gone
/// the manifests that nobody asked for go as well; what they alone lead to is left to collection.
fn some_platforms(store: &Store, archive: impl Read, platforms: &[Platform]) -> Result<Vec<Loaded>> {
    let aside = Store::open_with_limits(store.root(), store.limits().clone())?;
    let (loaded, fresh) = take_in(&aside, archive)?;
    let (mut kept, mut doomed, mut indexes) = (Vec::new(), Vec::new(), Vec::new());
    for image in loaded {
        let (entries, walked) = walk(&aside, &image.descriptor)?;
        let is_wanted = |entry: &&Entry| {
            let matches = |platform: &Platform| platforms.iter().any(|wanted| only(wanted).matches(platform));
            !entry.is_attestation && entry.platform.as_ref().is_some_and(matches)
        };
        let wanted: HashSet<Digest> =
            entries.iter().filter(is_wanted).map(|entry| entry.descriptor.digest.clone()).collect();
        if wanted.is_empty() {
            continue;
        }
        let wanted = with_attestations(&entries, wanted);
        let digests = entries.iter().map(|entry| &entry.descriptor.digest);
        doomed.extend(digests.filter(|digest| fresh.contains(*digest) && !wanted.contains(*digest)).cloned());
        wanted.iter().try_for_each(|digest| store.hold(&Resource::Blob(digest.clone())))?;
        for digest in walked {
            indexes.push(aside.read_blob(&digest, DEFAULT_DOCUMENT_LIMIT as u64)?);
        }
        kept.push(image);
    }
    drop(aside);
    // what another process works with is left as it is
    store.release(&doomed)?;
    // nobody held the indexes for a moment
    indexes.iter().try_for_each(|index| store.put_document(index).map(drop))?;
    Ok(kept)
}

/// Puts every file of the archive into the store.
fn unpack(store: &Store, archive: impl Read) -> Result<Files> {
    let plain =
        Decompressor::of_archive(archive, RATIO).map_err(|source| ImageError::Read(io::Error::other(source)))?;
    let mut archive = tar::Archive::new(plain);
    let mut files = Files::default();
    for entry in archive.entries().map_err(ImageError::Read)? {
        let mut entry = entry.map_err(ImageError::Read)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let expected = expected(&name);
                files.fresh.extend(expected.clone().filter(|digest| !store.has_blob(digest)));
                files.contents.insert(name, put(store, expected.as_ref(), &mut entry)?);
            }
            tar::EntryType::Link | tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                let is_hard = entry.header().entry_type() == tar::EntryType::Link;
                files.links.insert(name.clone(), resolve(&name, &target.unwrap_or_default(), is_hard));
            }
            _ => {}
        }
    }
    Ok(files)
}

/// The digest that a name in the archive says.
fn expected(name: &str) -> Option<Digest> {
    name.strip_prefix("blobs/").and_then(|name| name.replacen('/', ":", 1).parse().ok())
}

/// Stores a file's content, which is held to the digest that its name says.
fn put(store: &Store, expected: Option<&Digest>, content: &mut dyn Read) -> Result<(Digest, u64)> {
    let mut writer = match expected {
        Some(digest) => store.blob_writer_with(digest.algorithm())?,
        None => store.blob_writer()?,
    };
    io::copy(content, &mut writer).and_then(|_| writer.flush()).map_err(ImageError::Read)?;
    Ok(writer.finish(expected, None)?)
}

fn from_layout(store: &Store, bytes: &[u8]) -> Result<Vec<Loaded>> {
    let index: Index =
        serde_json::from_slice(bytes).map_err(|source| ImageError::Document { name: "index.json", source })?;
    let mut loaded: Vec<Loaded> = Vec::new();
    for mut entry in index.manifests {
        let name = entry.annotations.remove(IMAGE_NAME);
        let reference = entry.annotations.remove(REF_NAME);
        // a bare tag names nothing by itself
        let name =
            name.or(reference).filter(|name| name.contains(['/', ':'])).and_then(|name| Reference::parse(&name).ok());
        let names: Vec<Reference> = name.map(Reference::with_default_tag).into_iter().collect();
        if !store.has_blob(&entry.digest) {
            return Err(ImageError::NoArchive { missing: "the manifest that index.json names" });
        }
        entry.media_type = document(store, &entry)?.media_type().to_owned();
        match loaded.iter_mut().find(|image| image.descriptor.digest == entry.digest) {
            Some(image) => image.names.extend(names),
            None => loaded.push(Loaded { names, descriptor: entry }),
        }
    }
    Ok(loaded)
}

fn from_docker(store: &Store, files: &Files, bytes: &[u8]) -> Result<Vec<Loaded>> {
    let images: Vec<DockerImage> =
        serde_json::from_slice(bytes).map_err(|source| ImageError::Document { name: "manifest.json", source })?;
    let mut loaded = Vec::new();
    for image in images {
        let missing = ImageError::NoArchive { missing: "a file that manifest.json names" };
        let Some((digest, size)) = files.find(&image.config) else { return Err(missing) };
        let config = store.read_blob(digest, DEFAULT_DOCUMENT_LIMIT as u64)?;
        let parsed: Document<ImageConfig> =
            Document::parse(config).map_err(|source| ContentError::Document { what: image.config.clone(), source })?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            let Some((digest, size)) = files.find(layer) else {
                return Err(ImageError::NoArchive { missing: "a layer that manifest.json names" });
            };
            layers.push(Descriptor::new(layer_type(store, digest)?, digest.clone(), *size));
        }
        let config = Descriptor::new(media_type::OCI_CONFIG, digest.clone(), *size);
        let manifest = Document::from_value(Manifest::new(config, layers));
        store.put_document(manifest.bytes())?;
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, manifest.digest().clone(), manifest.size())
            .with_platform(parsed.platform().normalize());
        let tags = image.repo_tags.unwrap_or_default();
        let names = tags.iter().filter_map(|tag| Reference::parse(tag).ok()).map(Reference::with_default_tag).collect();
        loaded.push(Loaded { names, descriptor });
    }
    Ok(loaded)
}

/// The media type that a layer's first bytes tell.
fn layer_type(store: &Store, digest: &Digest) -> Result<&'static str> {
    let mut head = [0; 512];
    let mut file = store.open_blob(digest)?;
    let mut length = 0;
    while length < head.len() {
        match file.read(&mut head[length..]).map_err(ImageError::Read)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(match detect(&head[..length]) {
        Ok(Compression::Gzip) => media_type::OCI_LAYER_GZIP,
        Ok(Compression::Zstd) => media_type::OCI_LAYER_ZSTD,
        _ => media_type::OCI_LAYER,
    })
}

/// The manifest of one platform in place of the index; nothing when the image has it not.
fn narrow(store: &Store, image: Loaded, wanted: &Platform) -> Result<Option<Loaded>> {
    let matcher = only(wanted);
    let found = entries(store, &image.descriptor)?.into_iter().find(|entry| {
        !entry.is_attestation && entry.platform.as_ref().is_some_and(|platform| matcher.matches(platform))
    });
    Ok(found.map(|entry| Loaded { names: image.names, descriptor: entry.descriptor }))
}
