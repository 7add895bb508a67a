//! Puts together what several runners built, each for its platforms, from the records they left.

use std::fmt;

use onetag_oci::{Digest, Platform};
use thiserror::Error;

use super::create::{CreateRequest, Created, SourceName, plan};
use super::record::{BuildRecord, SourceRevision};
use super::{IndexError, Source};
use crate::Engine;
use crate::content::{ContentError, Contents, Location};
use crate::flags::Annotation;

/// A record with the file that it was read from.
#[derive(Clone, Debug)]
pub struct NamedRecord {
    /// The file.
    pub file: String,
    /// The record.
    pub record: BuildRecord,
}

/// What to put together.
#[derive(Clone, Debug, Default)]
pub struct MergeRequest {
    /// The records.
    pub records: Vec<NamedRecord>,
    /// The names that the index gets.
    pub tags: Vec<Location>,
    /// The platforms that must be there, no more and no less, in the order of the index; empty asks for nothing.
    pub expect: Vec<Platform>,
    /// Whether records of different sources go together.
    pub allow_mixed: bool,
    /// Annotations of the index and of its descriptors.
    pub annotations: Vec<Annotation>,
}

/// Something that keeps records from making one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// A platform that is expected is in no record.
    Missing {
        /// The platform.
        platform: Platform,
    },
    /// A platform that is not expected.
    Unexpected {
        /// The platform.
        platform: Platform,
        /// Its record.
        file: String,
    },
    /// A platform in two records.
    Duplicate {
        /// The platform.
        platform: Platform,
        /// The records.
        files: [String; 2],
        /// Whether they hold the same image.
        is_same: bool,
    },
    /// Records of different sources.
    MixedSource {
        /// The first record and its revision, if it has one.
        first: (String, Option<SourceRevision>),
        /// The first that differs.
        other: (String, Option<SourceRevision>),
    },
    /// Records of different Dockerfiles.
    MixedDockerfile {
        /// The first record and its Dockerfile's digest.
        first: (String, Option<Digest>),
        /// The first that differs.
        other: (String, Option<Digest>),
    },
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { platform } => write!(f, "{platform} is expected and in no record"),
            Self::Unexpected { platform, file } => write!(f, "{platform} of {file} is not expected"),
            Self::Duplicate { platform, files: [first, other], is_same: true } => {
                write!(f, "{platform} is in {first} and, the same image, in {other}")
            }
            Self::Duplicate { platform, files: [first, other], is_same: false } => {
                write!(f, "{platform} is in {first} and, another image, in {other}")
            }
            Self::MixedSource { first, other } => {
                let words = |revision: &Option<SourceRevision>| {
                    revision.as_ref().map_or_else(|| "an unknown revision".to_owned(), ToString::to_string)
                };
                write!(f, "{} is of {}, {} of {}", first.0, words(&first.1), other.0, words(&other.1))
            }
            Self::MixedDockerfile { first, other } => {
                let words = |digest: &Option<Digest>| {
                    digest
                        .as_ref()
                        .map_or_else(|| "an unknown Dockerfile".to_owned(), |digest| format!("Dockerfile {digest}"))
                };
                write!(f, "{} is of {}, {} of {}", first.0, words(&first.1), other.0, words(&other.1))
            }
        }
    }
}

/// Why records were not put together.
#[derive(Debug, Error)]
pub enum MergeError {
    /// They do not make one image.
    #[error("the records do not make one image: {}", complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused {
        /// Why not; at least one.
        complaints: Vec<Complaint>,
    },
    /// What a record says was pushed cannot be had.
    #[error("{image} of {file} ({platforms}) is not in reach")]
    Unreachable {
        /// The record.
        file: String,
        /// What it says was pushed.
        image: String,
        /// Its platforms.
        platforms: String,
        /// What happened.
        #[source]
        source: ContentError,
    },
    /// What was pushed is for other platforms than its record says.
    #[error("{file} says that {image} is for {said}; it is for {found}")]
    OtherPlatforms {
        /// The record.
        file: String,
        /// What was pushed.
        image: String,
        /// The platforms of the record.
        said: String,
        /// The platforms of the image.
        found: String,
    },
    /// The index could not be made.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Checks that records make one image; gives their order in it. Pure: nothing is looked at but the records.
///
/// # Errors
/// Everything that keeps them from it.
pub fn check_records(request: &MergeRequest) -> Result<Vec<usize>, Vec<Complaint>> {
    let mut complaints = Vec::new();
    let mut seen: Vec<(&Platform, &str, &Digest)> = Vec::new();
    for NamedRecord { file, record } in &request.records {
        for recorded in &record.platforms {
            match seen.iter().find(|(platform, ..)| **platform == recorded.platform) {
                Some((platform, first, digest)) => complaints.push(Complaint::Duplicate {
                    platform: (*platform).clone(),
                    files: [(*first).to_owned(), file.clone()],
                    is_same: **digest == recorded.manifest,
                }),
                None => seen.push((&recorded.platform, file, &recorded.manifest)),
            }
            if !request.expect.is_empty() && !request.expect.contains(&recorded.platform) {
                let platform = recorded.platform.clone();
                complaints.push(Complaint::Unexpected { platform, file: file.clone() });
            }
        }
    }
    for platform in &request.expect {
        if !seen.iter().any(|(known, ..)| *known == platform) {
            complaints.push(Complaint::Missing { platform: platform.clone() });
        }
    }
    if !request.allow_mixed {
        complaints.extend(mixed(&request.records));
    }
    if !complaints.is_empty() {
        return Err(complaints);
    }
    let position = |record: &BuildRecord| {
        let positions = record.platforms.iter().map(|recorded| &recorded.platform);
        positions.filter_map(|platform| request.expect.iter().position(|known| known == platform)).min()
    };
    let mut order: Vec<usize> = (0..request.records.len()).collect();
    order.sort_by_key(|number| position(&request.records[*number].record));
    Ok(order)
}

fn mixed(records: &[NamedRecord]) -> impl Iterator<Item = Complaint> {
    let dockerfile = |record: &BuildRecord| record.dockerfile.as_ref().map(|file| file.digest.clone());
    let other_source = records.iter().find(|other| other.record.source != records[0].record.source);
    let source = other_source.map(|other| Complaint::MixedSource {
        first: (records[0].file.clone(), records[0].record.source.clone()),
        other: (other.file.clone(), other.record.source.clone()),
    });
    let other_file = records.iter().find(|other| dockerfile(&other.record) != dockerfile(&records[0].record));
    let file = other_file.map(|other| Complaint::MixedDockerfile {
        first: (records[0].file.clone(), dockerfile(&records[0].record)),
        other: (other.file.clone(), dockerfile(&other.record)),
    });
    source.into_iter().chain(file)
}

/// Checks the records, and that everything they name is in reach and what they say; makes the index, without writing.
///
/// # Errors
/// The first step that fails.
pub fn plan_merge(engine: &Engine, request: &MergeRequest) -> Result<Created, MergeError> {
    let order = check_records(request).map_err(|complaints| MergeError::Refused { complaints })?;
    let contents = Contents::new(engine);
    let records: Vec<&NamedRecord> = order.iter().map(|number| &request.records[*number]).collect();
    let place = |named: &NamedRecord| {
        Location::Registry(named.record.repository.with_digest(named.record.descriptor.digest.clone()))
    };
    for named in &records {
        contents.resolve(&place(named)).map_err(|source| MergeError::Unreachable {
            file: named.file.clone(),
            image: place(named).to_string(),
            platforms: joined(named.record.platforms.iter().map(|recorded| &recorded.platform)),
            source,
        })?;
    }
    let create = CreateRequest {
        sources: records.iter().map(|named| SourceName::at(place(named))).collect(),
        tags: request.tags.clone(),
        annotations: request.annotations.clone(),
        prefer_index: true,
        platforms: Vec::new(),
    };
    let created = plan(engine, &create)?;
    for (named, source) in records.iter().zip(&created.sources) {
        verify(named, source, &place(named))?;
    }
    Ok(created)
}

/// The image has to be for the platforms that its record says.
fn verify(named: &NamedRecord, source: &Source, place: &Location) -> Result<(), MergeError> {
    let mut said: Vec<Platform> = named.record.platforms.iter().map(|recorded| recorded.platform.clone()).collect();
    let mut found: Vec<Platform> = match source.found.document.as_index() {
        Some(index) => {
            let images = index.manifests.iter().filter(|child| !child.is_attestation());
            images.filter_map(|child| child.platform.as_ref()).map(Platform::normalize).collect()
        }
        None => source.found.descriptor.platform.iter().map(Platform::normalize).collect(),
    };
    said.sort();
    found.sort();
    if said == found {
        return Ok(());
    }
    let (file, image) = (named.file.clone(), place.to_string());
    Err(MergeError::OtherPlatforms { file, image, said: joined(&said), found: joined(&found) })
}

fn joined<'a>(platforms: impl IntoIterator<Item = &'a Platform>) -> String {
    let words: Vec<String> = platforms.into_iter().map(ToString::to_string).collect();
    if words.is_empty() { "no platform".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use onetag_oci::{Descriptor, Digest, Platform, Reference, media_type};

    use super::{Complaint, MergeRequest, NamedRecord, check_records};
    use crate::index::record::{BuildRecord, RecordedFile, RecordedPlatform, SourceRevision};

    fn platform(text: &str) -> Platform {
        text.parse::<Platform>().unwrap().normalize()
    }

    fn record(file: &str, platforms: &[&str], revision: Option<&str>) -> NamedRecord {
        let digest = Digest::sha256(file.as_bytes());
        let platforms = platforms
            .iter()
            .map(|text| RecordedPlatform { platform: platform(text), manifest: digest.clone() })
            .collect();
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest.clone(), 1);
        let repository = Reference::parse("localhost:5000/app").unwrap();
        let mut record = BuildRecord::new(&repository, descriptor, platforms, String::new());
        record.source = revision.map(|revision| SourceRevision { revision: revision.to_owned(), dirty: false });
        NamedRecord { file: file.to_owned(), record }
    }

    fn request(records: Vec<NamedRecord>, expect: &[&str]) -> MergeRequest {
        let expect = expect.iter().map(|text| platform(text)).collect();
        MergeRequest { records, expect, ..MergeRequest::default() }
    }

    #[test]
    fn complete_sets_of_one_revision_stand_in_the_expected_order() {
        let records = vec![record("b", &["linux/arm64"], Some("1")), record("a", &["linux/amd64"], Some("1"))];
        assert_eq!(check_records(&request(records.clone(), &["linux/amd64", "linux/arm64/v8"])), Ok(vec![1, 0]));
        assert_eq!(check_records(&request(records, &[])), Ok(vec![0, 1]));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let records =
            vec![record("a", &["linux/amd64"], Some("1")), record("b", &["linux/amd64", "linux/386"], Some("2"))];
        let complaints = check_records(&request(records, &["linux/amd64", "linux/arm64"])).unwrap_err();
        assert_eq!(complaints.len(), 4, "{complaints:?}");
        assert!(matches!(&complaints[0], Complaint::Duplicate { is_same: false, .. }));
        assert!(matches!(&complaints[1], Complaint::Unexpected { .. }));
        assert!(matches!(&complaints[2], Complaint::Missing { .. }));
        assert!(matches!(&complaints[3], Complaint::MixedSource { .. }));
    }

    #[test]
    fn mixed_sources_are_a_matter_of_wish() {
        let mut records = vec![record("a", &["linux/amd64"], Some("1")), record("b", &["linux/arm64"], None)];
        records[0].record.dockerfile = Some(RecordedFile { digest: Digest::sha256(b"FROM scratch") });
        let mut request = request(records, &[]);
        let complaints = check_records(&request).unwrap_err();
        assert!(matches!(complaints[..], [Complaint::MixedSource { .. }, Complaint::MixedDockerfile { .. }]));
        request.allow_mixed = true;
        assert_eq!(check_records(&request), Ok(vec![0, 1]));
    }
}
