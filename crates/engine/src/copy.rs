//! Copies of images from place to place: whole, one platform, or chosen platforms.

use std::collections::HashSet;

use onetag_oci::{Descriptor, Digest, Platform, PlatformMatcher, only, order};
use onetag_solver::Cancellation;
use thiserror::Error;

use crate::Engine;
use crate::content::{ContentError, Contents, Found, Location, Transfer, TransferEvent};
use crate::index::{CreateEvent, CreateRequest, IndexError, SourceName, create, plan};
use crate::platforms::listed;

/// Which part of an image is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The whole index, or the manifest.
    All,
    /// The manifest of one platform.
    One(Platform),
    /// A smaller index of these platforms: another document with another digest.
    Stripped(Vec<Platform>),
    /// The index byte for byte, although only these platforms of it are copied.
    Sparse(Vec<Platform>),
}

/// What is copied.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// The image.
    pub source: Location,
    /// Its new place and name.
    pub destination: Location,
    /// Which part.
    pub part: Part,
    /// Whether signatures and other manifests about it go along.
    pub referrers: bool,
}

/// What was copied.
#[derive(Clone, Debug)]
pub struct Copied {
    /// What the destination's name means now.
    pub digest: Digest,
    /// Manifests about it that went along.
    pub referrers: usize,
}

/// Why a copy failed.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The image has no such platform.
    #[error("{source_name}: no match for platform in manifest: wanted {wanted}, there {}", listed(available))]
    NoMatch {
        /// The image.
        source_name: String,
        /// The platform asked for.
        wanted: Platform,
        /// The platforms that its index names.
        available: Vec<Platform>,
    },
    /// Part of an index was asked for of an image that has none.
    #[error("{source_name} is the manifest of one platform, no index")]
    NoIndex {
        /// The image.
        source_name: String,
    },
    /// The destination takes no index whose children are not all there.
    #[error("{destination} does not take an index of which it lacks children; nothing was copied")]
    SparseRefused {
        /// The destination.
        destination: String,
        /// What it said.
        #[source]
        source: ContentError,
    },
    /// The content could not be read or written.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The smaller index could not be made.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Copies: blobs, then manifests, then the index, then what is about them; the name comes last.
///
/// # Errors
/// What the destination cannot hold is found out before anything moves; otherwise the first error. What moved until
/// then stays, unnamed, and is not moved again.
pub fn copy(
    engine: &Engine,
    request: &CopyRequest,
    cancel: &Cancellation,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Copied, CopyError> {
    let contents = Contents::new(engine);
    let mut found = contents.find(&request.source)?;
    let is_wanted: Box<dyn Fn(&Descriptor) -> bool> = match &request.part {
        Part::All => Box::new(|_| true),
        Part::One(platform) => {
            found = one(&contents, &request.source, found, platform)?;
            Box::new(|_| true)
        }
        Part::Stripped(platforms) => return stripped(engine, request, &found, platforms, cancel, events),
        Part::Sparse(platforms) => {
            let chosen = choose(&request.source, &found, platforms)?;
            Box::new(move |child| chosen.contains(&child.digest))
        }
    };
    let transfer = Transfer::new(contents, &request.source, &request.destination, cancel, events);
    transfer.check(&found)?;
    if matches!(request.part, Part::Sparse(_)) {
        transfer
            .offer(&found)
            .map_err(|source| CopyError::SparseRefused { destination: request.destination.repository(), source })?;
    }
    let moved = transfer.tree(&found, &*is_wanted)?;
    let referrers = if request.referrers { about(&transfer, &contents, request, &moved)? } else { 0 };
    transfer.name(&found)?;
    transfer.finish()?;
    Ok(Copied { digest: found.document.digest().clone(), referrers })
}

/// Moves what is about the documents that moved: referrers, and cosign's tags.
fn about(
    transfer: &Transfer<'_>,
    contents: &Contents<'_>,
    request: &CopyRequest,
    moved: &[Digest],
) -> Result<usize, ContentError> {
    let mut count = transfer.referrers(moved)?.len();
    let (Location::Registry(from), Location::Registry(to)) = (&request.source, &request.destination) else {
        return Ok(count);
    };
    for digest in moved {
        for tag in contents.cosign_tags(&request.source, digest)? {
            let (Ok(from), Ok(to)) = (from.name_only().with_tag(&tag), to.name_only().with_tag(&tag)) else { continue };
            let (from, to) = (Location::Registry(from), Location::Registry(to));
            let found = contents.find(&from)?;
            let tagged = transfer.between(&from, &to);
            tagged.tree(&found, &|_| true)?;
            tagged.name(&found)?;
            count += 1;
        }
    }
    Ok(count)
}

fn available(found: &Found) -> Vec<Platform> {
    let children = found.document.as_index().map(|index| index.manifests.as_slice()).unwrap_or_default();
    let images = children.iter().filter(|child| !child.is_attestation());
    images.filter_map(|child| child.platform.clone()).collect()
}

/// The manifest of a platform. A manifest that is no index is taken if it is of that platform.
fn one(contents: &Contents<'_>, source: &Location, found: Found, wanted: &Platform) -> Result<Found, CopyError> {
    let no_match =
        |available| CopyError::NoMatch { source_name: source.to_string(), wanted: wanted.clone(), available };
    let matcher = only(wanted);
    let Some(index) = found.document.as_index() else {
        let Some(manifest) = found.document.as_manifest() else { return Ok(found) };
        let platform = contents.config(source, manifest)?.platform().normalize();
        return if matcher.matches(&platform) { Ok(found) } else { Err(no_match(vec![platform])) };
    };
    let images: Vec<_> = index.manifests.iter().filter(|child| !child.is_attestation()).collect();
    let best = order(&matcher, &images, |child| child.platform.as_ref());
    let best = best.first().map(|position| images[*position]);
    match best.filter(|child| child.platform.as_ref().is_some_and(|platform| matcher.matches(platform))) {
        Some(child) => Ok(contents.document(source, child)?),
        None => Err(no_match(available(&found))),
    }
}

/// The children of these platforms, with their attestations.
fn choose(source: &Location, found: &Found, platforms: &[Platform]) -> Result<HashSet<Digest>, CopyError> {
    let source_name = source.to_string();
    let Some(index) = found.document.as_index() else { return Err(CopyError::NoIndex { source_name }) };
    let mut chosen = HashSet::new();
    for wanted in platforms {
        let matcher = onetag_oci::exact(wanted);
        let is_wanted = |child: &&Descriptor| child.platform.as_ref().is_some_and(|platform| matcher.matches(platform));
        let before = chosen.len();
        chosen.extend(index.manifests.iter().filter(is_wanted).map(|child| child.digest.clone()));
        if chosen.len() == before {
            let (wanted, available) = (wanted.clone(), available(found));
            return Err(CopyError::NoMatch { source_name, wanted, available });
        }
    }
    let subject = |child: &Descriptor| -> Option<Digest> {
        child.annotations.get("vnd.docker.reference.digest").filter(|_| child.is_attestation())?.parse().ok()
    };
    let attestations: Vec<Digest> = index
        .manifests
        .iter()
        .filter(|child| subject(child).is_some_and(|subject| chosen.contains(&subject)))
        .map(|child| child.digest.clone())
        .collect();
    chosen.extend(attestations);
    Ok(chosen)
}

fn stripped(
    engine: &Engine,
    request: &CopyRequest,
    found: &Found,
    platforms: &[Platform],
    cancel: &Cancellation,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Copied, CopyError> {
    let chosen = choose(&request.source, found, platforms)?;
    let source = request.source.with_digest(&found.descriptor.digest);
    let create_request = CreateRequest {
        sources: vec![SourceName::at(source.clone())],
        tags: vec![request.destination.clone()],
        prefer_index: true,
        platforms: platforms.to_vec(),
        ..CreateRequest::default()
    };
    let created = plan(engine, &create_request)?;
    let forward = |event| {
        if let CreateEvent::Transfer(event) = event {
            events(event);
        }
    };
    create(engine, &created, &create_request.tags, cancel, &forward)?;
    let mut referrers = 0;
    if request.referrers {
        let contents = Contents::new(engine);
        let transfer = Transfer::new(contents, &request.source, &request.destination, cancel, events);
        let children: Vec<Digest> = chosen.into_iter().collect();
        referrers = about(&transfer, &contents, request, &children)?;
    }
    Ok(Copied { digest: created.combined.descriptor.digest, referrers })
}
