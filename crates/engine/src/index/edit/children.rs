//! The entries of an index while it is changed.

use onetag_oci::{
    Descriptor, Digest, Document, Manifest, ManifestDocument, Platform, PlatformMatcher, exact, media_type,
};
use serde_json::Value;

use super::document::{Draft, point};
use super::{Change, EditError, EditRequest, PlatformSource, Removal};
use crate::content::{Contents, Found, Location};
use crate::flags::AnnotationTarget;

/// The annotation that tells what an attestation is about.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// An entry, and where its content is.
#[derive(Clone, Debug)]
pub(super) struct Child {
    /// The entry as JSON, with members that nobody here knows.
    pub(super) value: Value,
    /// The entry.
    pub(super) descriptor: Descriptor,
    /// Where its content is; of a changed one, where its layers are.
    pub(super) origin: Location,
    /// The documents of a changed one.
    pub(super) made: Option<Made>,
}

/// The documents of a changed image.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// Its manifest.
    pub(super) manifest: ManifestDocument,
    /// Its config, where that is another.
    pub(super) config: Option<(Descriptor, Vec<u8>)>,
    /// The blobs that stay: layers, and the config where it is the same.
    pub(super) blobs: Vec<Descriptor>,
}

impl Child {
    fn platform(&self) -> String {
        self.descriptor.platform.as_ref().map_or_else(|| "no platform".to_owned(), ToString::to_string)
    }

    fn is_image(&self) -> bool {
        !self.descriptor.is_attestation()
    }

    fn is_for(&self, platform: &Platform) -> bool {
        let matcher = exact(platform);
        self.is_image() && self.descriptor.platform.as_ref().is_some_and(|known| matcher.matches(known))
    }
}

/// The entries of an index and what has become of them.
pub(super) struct Children<'a> {
    contents: Contents<'a>,
    request: &'a EditRequest,
    pub(super) list: Vec<Child>,
    pub(super) changes: Vec<Change>,
}

impl<'a> Children<'a> {
    /// The entries of the index in `draft`, which is `found`.
    pub(super) fn of(
        contents: Contents<'a>,
        request: &'a EditRequest,
        found: &Found,
        draft: &Draft,
    ) -> Result<Self, EditError> {
        let shape = || EditError::Shape { digest: found.document.digest().clone(), member: "manifests".to_owned() };
        let Some(index) = found.document.as_index() else {
            return Err(EditError::NoIndex { name: request.target.to_string() });
        };
        let values = draft.value.get("manifests").and_then(Value::as_array).ok_or_else(shape)?;
        if values.len() != index.manifests.len() {
            return Err(shape());
        }
        let origin = request.target.with_digest(found.document.digest());
        let child = |(value, descriptor): (&Value, &Descriptor)| Child {
            value: value.clone(),
            descriptor: descriptor.clone(),
            origin: origin.clone(),
            made: None,
        };
        let list = values.iter().zip(&index.manifests).map(child).collect();
        Ok(Self { contents, request, list, changes: Vec::new() })
    }

    fn platforms(&self) -> Vec<Platform> {
        self.list
            .iter()
            .filter(|child| child.is_image())
            .filter_map(|child| child.descriptor.platform.clone())
            .collect()
    }

    fn no_platform(&self, wanted: impl ToString) -> EditError {
        let name = self.request.target.to_string();
        EditError::NoPlatform { name, wanted: wanted.to_string(), available: self.platforms() }
    }

    /// Takes entries out.
    pub(super) fn remove(&mut self, removal: &Removal) -> Result<(), EditError> {
        let is_meant = |child: &Child| match removal {
            Removal::Platform(platform) => child.is_for(platform),
            Removal::Digest(digest) => child.descriptor.digest == *digest,
        };
        let (gone, kept): (Vec<Child>, Vec<Child>) = self.list.drain(..).partition(is_meant);
        self.list = kept;
        if gone.is_empty() {
            return Err(match removal {
                Removal::Platform(platform) => self.no_platform(platform),
                Removal::Digest(digest) => self.no_platform(digest),
            });
        }
        for child in gone {
            let (platform, digest) = (child.platform(), child.descriptor.digest);
            self.changes.push(Change::Removed { platform: platform.clone(), digest: digest.clone() });
            self.drop_attestations(&digest, &platform);
        }
        Ok(())
    }

    /// Attestations of an image that is not there any more.
    fn drop_attestations(&mut self, subject: &Digest, platform: &str) {
        let is_about = |child: &Child| {
            let about = child.descriptor.annotations.get(REFERENCE_DIGEST);
            child.descriptor.is_attestation() && about.is_some_and(|about| about == subject.as_str())
        };
        let (gone, kept): (Vec<Child>, Vec<Child>) = self.list.drain(..).partition(is_about);
        self.list = kept;
        self.changes.extend(gone.into_iter().map(|child| Change::AttestationDropped {
            platform: platform.to_owned(),
            digest: child.descriptor.digest,
        }));
    }

    /// Puts the images of a source in the place of those of their platforms.
    pub(super) fn replace(&mut self, source: &PlatformSource) -> Result<(), EditError> {
        let (images, attestations) = self.read(source)?;
        for image in images {
            let Some(platform) = image.descriptor.platform.clone() else { return Err(self.no_platform("platform")) };
            let Some(position) = self.list.iter().position(|child| child.is_for(&platform)) else {
                return Err(self.no_platform(&platform));
            };
            let (before, after) = (self.list[position].descriptor.digest.clone(), image.descriptor.digest.clone());
            if before == after {
                continue;
            }
            let from = image.origin.to_string();
            self.list[position] = image;
            let platform = platform.to_string();
            self.changes.push(Change::Replaced { platform: platform.clone(), before: before.clone(), after, from });
            self.drop_attestations(&before, &platform);
        }
        self.carry(attestations);
        Ok(())
    }

    /// Adds the images of a source.
    pub(super) fn add(&mut self, source: &PlatformSource) -> Result<(), EditError> {
        let (images, attestations) = self.read(source)?;
        for image in images {
            let Some(platform) = image.descriptor.platform.clone() else { return Err(self.no_platform("platform")) };
            let digest = image.descriptor.digest.clone();
            match self.list.iter().find(|child| child.is_for(&platform)) {
                // what is there already need not be added, so that the same command may run again
                Some(known) if known.descriptor.digest == digest => continue,
                Some(known) => {
                    let (name, digest) = (self.request.target.to_string(), known.descriptor.digest.clone());
                    return Err(EditError::Exists { name, platform, digest });
                }
                None => {}
            }
            let (platform, from) = (platform.to_string(), image.origin.to_string());
            // images stand before attestations, as builders write them
            let place = self.list.iter().position(|child| !child.is_image()).unwrap_or(self.list.len());
            self.list.insert(place, image);
            self.changes.push(Change::Added { platform, digest, from });
        }
        self.carry(attestations);
        Ok(())
    }

    /// Attestations of images that came along, unless they are there.
    fn carry(&mut self, attestations: Vec<Child>) {
        for attestation in attestations {
            let about = attestation.descriptor.annotations.get(REFERENCE_DIGEST).cloned();
            let has_subject = self.list.iter().any(|child| Some(child.descriptor.digest.as_str()) == about.as_deref());
            let is_there = self.list.iter().any(|child| child.descriptor.digest == attestation.descriptor.digest);
            if has_subject && !is_there {
                self.list.push(attestation);
            }
        }
    }

    /// The images of a source, and what is about them.
    fn read(&self, source: &PlatformSource) -> Result<(Vec<Child>, Vec<Child>), EditError> {
        let found = self.contents.find(&source.location)?;
        let origin = source.location.with_digest(&found.descriptor.digest);
        let no_platform = |available| EditError::NoPlatform {
            name: source.location.to_string(),
            wanted: source.platform.as_ref().map_or_else(|| "image".to_owned(), ToString::to_string),
            available,
        };
        let child = |descriptor: &Descriptor| Child {
            value: serde_json::to_value(descriptor).unwrap_or_default(),
            descriptor: descriptor.clone(),
            origin: origin.clone(),
            made: None,
        };
        match &found.document {
            ManifestDocument::Index(index) => {
                let children: Vec<Child> = index.manifests.iter().map(child).collect();
                let (images, about): (Vec<Child>, Vec<Child>) = children.into_iter().partition(Child::is_image);
                let available = images.iter().filter_map(|child| child.descriptor.platform.clone()).collect();
                let is_wanted = |child: &Child| source.platform.as_ref().is_none_or(|wanted| child.is_for(wanted));
                let images: Vec<Child> = images.into_iter().filter(is_wanted).collect();
                if images.is_empty() { Err(no_platform(available)) } else { Ok((images, about)) }
            }
            ManifestDocument::Manifest(manifest) => {
                let platform = self.contents.config(&source.location, manifest)?.platform().normalize();
                if source.platform.as_ref().is_some_and(|wanted| !exact(wanted).matches(&platform)) {
                    return Err(no_platform(vec![platform]));
                }
                let mut descriptor = found.document.descriptor();
                descriptor.platform = Some(platform);
                Ok((vec![child(&descriptor)], Vec::new()))
            }
        }
    }

    /// The numbers of the images that a change is for.
    fn meant(&self, platform: Option<&Platform>) -> Vec<usize> {
        let limits = &self.request.platforms;
        let is_meant = |child: &Child| {
            child.is_image()
                && (limits.is_empty() || limits.iter().any(|limit| child.is_for(limit)))
                && platform.is_none_or(|platform| child.is_for(platform))
        };
        (0..self.list.len()).filter(|number| is_meant(&self.list[*number])).collect()
    }

    /// Checks that every platform that is named is there.
    pub(super) fn check_platforms(&self) -> Result<(), EditError> {
        let of_annotations = self.request.annotations.iter().filter_map(|annotation| annotation.platform.as_ref());
        let of_removals = self.request.remove_annotations.iter().filter_map(|removal| removal.platform.as_ref());
        for platform in self.request.platforms.iter().chain(of_annotations).chain(of_removals) {
            if !self.list.iter().any(|child| child.is_for(platform)) {
                return Err(self.no_platform(platform));
            }
        }
        Ok(())
    }

    /// Annotations to set (with a value) or take away, on `target`, for one image.
    fn annotations(&self, target: AnnotationTarget, number: usize) -> Vec<(String, Option<String>)> {
        let is_target = |given: Option<AnnotationTarget>| given.unwrap_or(AnnotationTarget::Manifest) == target;
        let is_meant = |platform: &Option<Platform>| self.meant(platform.as_ref()).contains(&number);
        let removals = self.request.remove_annotations.iter();
        let removals = removals.filter(|removal| is_target(removal.target) && is_meant(&removal.platform));
        let set = self.request.annotations.iter();
        let set = set.filter(|annotation| is_target(annotation.target) && is_meant(&annotation.platform));
        removals
            .map(|removal| (removal.key.clone(), None))
            .chain(set.map(|annotation| (annotation.key.clone(), Some(annotation.value.clone()))))
            .collect()
    }

    /// Changes configs and manifests, each image for itself.
    pub(super) fn change_images(&mut self) -> Result<(), EditError> {
        for digest in
            self.meant(None).into_iter().map(|number| self.list[number].descriptor.digest.clone()).collect::<Vec<_>>()
        {
            let Some(number) = self.list.iter().position(|child| child.descriptor.digest == digest) else { continue };
            let annotations = self.annotations(AnnotationTarget::Manifest, number);
            if self.request.config.is_empty() && annotations.is_empty() {
                continue;
            }
            let child = self.list[number].clone();
            let Some((changed, differences)) = self.change(&child, &annotations)? else { continue };
            let (platform, before) = (child.platform(), child.descriptor.digest.clone());
            let after = changed.descriptor.digest.clone();
            self.list[number] = changed;
            self.changes.push(Change::Changed {
                platform: platform.clone(),
                before: before.clone(),
                after,
                differences,
            });
            self.drop_attestations(&before, &platform);
        }
        Ok(())
    }

    /// The image with another config or other annotations; none where nothing is different.
    fn change(
        &self,
        child: &Child,
        annotations: &[(String, Option<String>)],
    ) -> Result<Option<(Child, Vec<super::Difference>)>, EditError> {
        let found = self.contents.document(&child.origin, &child.descriptor)?;
        let digest = found.document.digest().clone();
        let no_image = || EditError::NoImage { digest: digest.clone(), platform: child.platform() };
        let manifest = found.document.as_manifest().ok_or_else(no_image)?;
        let mut draft = Draft::parse(found.document.bytes(), &digest)?;
        let mut config = None;
        let mut differences = Vec::new();
        if !self.request.config.is_empty() {
            if !media_type::is_config(&manifest.config.media_type) {
                return Err(no_image());
            }
            let document = self.contents.config(&child.origin, manifest)?;
            let mut changed = Draft::parse(document.bytes(), document.digest())?;
            self.request.config.apply(&mut changed)?;
            if !changed.differences.is_empty() {
                let bytes = changed.bytes();
                let mut descriptor = manifest.config.clone();
                (descriptor.digest, descriptor.size) = (Digest::sha256(&bytes), bytes.len() as u64);
                descriptor.data = None;
                if let Some(value) = draft.value.get_mut("config") {
                    point(value, &descriptor.digest, descriptor.size);
                }
                config = Some((descriptor, bytes));
                differences.append(&mut changed.differences);
            }
        }
        for (key, value) in annotations {
            if media_type::is_docker(found.document.media_type()) {
                let media_type = found.document.media_type().to_owned();
                return Err(EditError::NoAnnotations { digest, media_type });
            }
            draft.set_entry(&["annotations"], "annotation", key, value.as_deref())?;
        }
        differences.append(&mut draft.differences);
        if differences.is_empty() {
            return Ok(None);
        }
        let blobs = kept_blobs(manifest, config.is_some());
        Ok(Some((made(child, &draft, config, blobs)?, differences)))
    }

    /// Changes annotations of entries.
    pub(super) fn change_entries(&mut self, is_docker: bool, index: &Digest) -> Result<(), EditError> {
        for number in self.meant(None) {
            let annotations = self.annotations(AnnotationTarget::ManifestDescriptor, number);
            if annotations.is_empty() {
                continue;
            }
            if is_docker {
                let media_type = media_type::DOCKER_MANIFEST_LIST.to_owned();
                return Err(EditError::NoAnnotations { digest: index.clone(), media_type });
            }
            let child = &mut self.list[number];
            let bytes = onetag_oci::go_json(&child.value);
            let mut draft = Draft::parse(&bytes, index)?;
            for (key, value) in annotations {
                draft.set_entry(&["annotations"], "annotation", &key, value.as_deref())?;
                match value {
                    Some(value) => child.descriptor.annotations.insert(key, value),
                    None => child.descriptor.annotations.remove(&key),
                };
            }
            if !draft.differences.is_empty() {
                child.value = draft.value;
                self.changes.push(Change::Entry { platform: child.platform(), differences: draft.differences });
            }
        }
        Ok(())
    }
}

fn kept_blobs(manifest: &Document<Manifest>, is_config_new: bool) -> Vec<Descriptor> {
    let config = Some(manifest.config.clone()).filter(|_| !is_config_new);
    manifest.layers.iter().cloned().chain(config).collect()
}

/// The entry of a changed manifest, with its documents.
fn made(
    child: &Child,
    draft: &Draft,
    config: Option<(Descriptor, Vec<u8>)>,
    blobs: Vec<Descriptor>,
) -> Result<Child, EditError> {
    let bytes = draft.bytes();
    let digest = Digest::sha256(&bytes);
    let manifest = ManifestDocument::parse(bytes, Some(&child.descriptor.media_type)).map_err(|source| {
        EditError::Content(crate::content::ContentError::Document { what: child.descriptor.digest.to_string(), source })
    })?;
    let mut changed = child.clone();
    let size = manifest.bytes().len() as u64;
    point(&mut changed.value, &digest, size);
    (changed.descriptor.digest, changed.descriptor.size, changed.descriptor.data) = (digest, size, None);
    changed.made = Some(Made { manifest, config, blobs });
    Ok(changed)
}
