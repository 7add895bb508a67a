//! Makes an index of images that are somewhere and publishes it: children first, the tag last.

use std::collections::{BTreeMap, BTreeSet};

use onetag_oci::{Digest, ManifestDocument, Platform};
use onetag_solver::Cancellation;
use serde::Deserialize;

use super::combine::{Combined, Source, combine};
use super::{IndexError, SourceError};
use crate::Engine;
use crate::content::{ContentError, Contents, Found, Location, Transfer, TransferEvent};
use crate::flags::Annotation;

/// A source as users write it: a digest, a name, or a descriptor in JSON.
#[derive(Clone, Debug)]
pub struct SourceName {
    text: String,
    location: Option<Location>,
    descriptor: PartialDescriptor,
}

/// What a descriptor may leave open.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartialDescriptor {
    #[serde(default)]
    schema_version: u64,
    #[serde(default)]
    media_type: String,
    digest: Option<Digest>,
    #[serde(default)]
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl SourceName {
    /// The image of a place.
    pub fn at(location: Location) -> Self {
        Self { text: location.to_string(), location: Some(location), descriptor: PartialDescriptor::default() }
    }

    /// Parses a source.
    ///
    /// # Errors
    /// When it is neither digest, name nor descriptor.
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        let fail = |source: SourceError| IndexError::Source { text: text.to_owned(), source };
        let mut parsed = Self { text: text.to_owned(), location: None, descriptor: PartialDescriptor::default() };
        match text.parse::<Digest>() {
            Ok(digest) => parsed.descriptor.digest = Some(digest),
            Err(error) if text.starts_with("sha256") => return Err(fail(error.into())),
            Err(_) => match Location::parse(text) {
                Ok(location) => parsed.location = Some(location),
                Err(error) if !text.trim_start().starts_with('{') => return Err(fail(error.into())),
                Err(_) => {
                    let descriptor: PartialDescriptor =
                        serde_json::from_str(text).map_err(|error| fail(error.into()))?;
                    if descriptor.schema_version != 0 {
                        return Err(fail(SourceError::NotADescriptor { version: descriptor.schema_version }));
                    }
                    parsed.descriptor = descriptor;
                }
            },
        }
        Ok(parsed)
    }
}

/// What to make.
#[derive(Clone, Debug, Default)]
pub struct CreateRequest {
    /// The sources in order.
    pub sources: Vec<SourceName>,
    /// The names to give.
    pub tags: Vec<Location>,
    /// Annotations of the index and of its descriptors.
    pub annotations: Vec<Annotation>,
    /// Whether a single manifest is wrapped in an index.
    pub prefer_index: bool,
    /// The only platforms to take, if any.
    pub platforms: Vec<Platform>,
}

/// A planned index with everything needed to publish it.
#[derive(Clone, Debug)]
pub struct Created {
    /// The document and its children.
    pub combined: Combined,
    /// Where the children are.
    pub sources: Vec<Source>,
}

/// What publishing does, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateEvent {
    /// Work on a repository begins.
    Pushing {
        /// The repository.
        repository: String,
    },
    /// A child is copied.
    Copying {
        /// The child.
        digest: Digest,
        /// Where it is.
        from: String,
        /// The repository it goes to.
        to: String,
    },
    /// The document is given a name.
    Naming {
        /// The document.
        digest: Digest,
        /// The name.
        to: String,
    },
    /// A blob moves.
    Transfer(TransferEvent),
    /// Work on a repository ended well.
    Pushed {
        /// The repository.
        repository: String,
    },
}

/// Reads the sources and makes the index, without writing anything.
///
/// # Errors
/// When a source cannot be read, or the sources do not make an index.
pub fn plan(engine: &Engine, request: &CreateRequest) -> Result<Created, IndexError> {
    let contents = Contents::new(engine);
    let repository = default_repository(request);
    let mut sources = Vec::with_capacity(request.sources.len());
    for name in &request.sources {
        sources.push(read_source(&contents, name, repository.as_ref())?);
    }
    let combined = combine(&sources, &request.annotations, request.prefer_index, &request.platforms)?;
    Ok(Created { combined, sources })
}

/// Where sources of a bare digest are looked for: the only repository named.
fn default_repository(request: &CreateRequest) -> Option<Location> {
    let named = || request.sources.iter().filter_map(|source| source.location.as_ref()).chain(&request.tags);
    let repositories: BTreeSet<String> = named().map(Location::repository).collect();
    if repositories.len() == 1 { named().next().cloned() } else { None }
}

fn read_source(
    contents: &Contents<'_>,
    name: &SourceName,
    repository: Option<&Location>,
) -> Result<Source, IndexError> {
    let no_repository = || IndexError::NoRepository { text: name.text.clone() };
    let given = &name.descriptor;
    let location = match (&name.location, &given.digest) {
        (Some(location), _) => location.clone(),
        (None, Some(digest)) => repository.ok_or_else(no_repository)?.with_digest(digest),
        (None, None) => repository.ok_or_else(no_repository)?.clone(),
    };
    let mut found = contents.find(&location)?;
    if given.size != 0 && given.size != found.descriptor.size {
        let (given, actual) = (given.size, found.descriptor.size);
        return Err(IndexError::Size { digest: found.descriptor.digest, given, actual });
    }
    if !given.annotations.is_empty() {
        found.descriptor.annotations = given.annotations.clone();
    }
    if given.platform.is_some() {
        found.descriptor.platform = given.platform.clone();
    }
    if !given.media_type.is_empty() {
        found.descriptor.media_type = given.media_type.clone();
    }
    fill_platform(contents, &location, &mut found)?;
    Ok(Source { location, found })
}

/// A manifest's platform is read from its config where the descriptor does not tell.
fn fill_platform(contents: &Contents<'_>, location: &Location, found: &mut Found) -> Result<(), IndexError> {
    let ManifestDocument::Manifest(manifest) = &found.document else { return Ok(()) };
    let given = found.descriptor.platform.take().unwrap_or_else(|| Platform::new("", ""));
    if !given.os.is_empty() && !given.architecture.is_empty() {
        found.descriptor.platform = Some(given);
        return Ok(());
    }
    let config = contents.config(location, manifest)?.platform().normalize();
    let mut platform = given;
    if platform.architecture.is_empty() {
        platform.architecture = config.architecture;
        platform.variant = platform.variant.or(config.variant);
    }
    if platform.os.is_empty() {
        platform.os = config.os;
    }
    found.descriptor.platform = Some(platform);
    Ok(())
}

/// Publishes a planned index under all its names: for each repository the children, then the names in order.
///
/// # Errors
/// The first error. Names are moved only when all children of their repository are there.
pub fn create(
    engine: &Engine,
    created: &Created,
    tags: &[Location],
    cancel: &Cancellation,
    events: &(dyn Fn(CreateEvent) + Sync),
) -> Result<(), IndexError> {
    let mut repositories: Vec<(String, Vec<&Location>)> = Vec::new();
    for tag in tags {
        let repository = tag.repository();
        match repositories.iter_mut().find(|(known, _)| *known == repository) {
            Some((_, tags)) => tags.push(tag),
            None => repositories.push((repository, vec![tag])),
        }
    }
    for (repository, tags) in repositories {
        events(CreateEvent::Pushing { repository: repository.clone() });
        publish(engine, created, &repository, &tags, cancel, events)?;
        events(CreateEvent::Pushed { repository });
    }
    Ok(())
}

fn publish(
    engine: &Engine,
    created: &Created,
    repository: &str,
    tags: &[&Location],
    cancel: &Cancellation,
    events: &(dyn Fn(CreateEvent) + Sync),
) -> Result<(), IndexError> {
    let contents = Contents::new(engine);
    let forward = |event| events(CreateEvent::Transfer(event));
    let document = ManifestDocument::parse(created.combined.bytes.clone(), None)
        .map_err(|source| ContentError::Document { what: created.combined.descriptor.digest.to_string(), source })?;
    let result = Found { descriptor: created.combined.descriptor.clone(), document };
    let target = Transfer::new(contents, tags[0], tags[0], cancel, &forward);
    target.check(&result)?;
    // a document without children is a manifest copied as it is
    let whole = [(result.descriptor.clone(), 0)];
    let children = if result.document.as_index().is_some() { &created.combined.children[..] } else { &whole };
    for (child, number) in children {
        let source = &created.sources[*number];
        let from = source.location.to_string();
        let digest = child.digest.clone();
        events(CreateEvent::Copying { digest: digest.clone(), from: from.clone(), to: repository.to_owned() });
        // reading the child proves that it is there; within a repository nothing needs to move
        let is_there = source.location.repository() == repository && !matches!(tags[0], Location::Archive(_));
        let copied = contents.document(&source.location, child).and_then(|child| {
            if is_there { Ok(()) } else { target.between(&source.location, tags[0]).tree(&child, &|_| true).map(drop) }
        });
        copied.map_err(|source| IndexError::Copy { digest, from, to: tags[0].to_string(), source })?;
    }
    for tag in tags {
        let digest = result.document.digest().clone();
        events(CreateEvent::Naming { digest: digest.clone(), to: tag.to_string() });
        let transfer = target.between(tag, tag);
        let named = transfer.put(&result).and_then(|()| transfer.name(&result));
        named.map_err(|source| IndexError::Publish { digest, to: tag.to_string(), source })?;
    }
    Ok(target.finish()?)
}
