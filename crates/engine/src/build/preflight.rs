//! Before anything is pulled or executed: every image is there for every platform, or all that are not are told
//! together, with the ways out.

use std::collections::BTreeSet;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use onetag_dockerfile::diagnostic::{Diagnostic, list};
use onetag_dockerfile::span::{LineRange, Span};
use onetag_dockerfile::{DockerfileError, DockerfileErrorKind, Lowered};
use onetag_oci::{ManifestDocument, Platform, PlatformMatcher, Reference, only};

use super::BuildError;
use super::definition::Definition;
use crate::Engine;
use crate::catalog::CatalogError;
use crate::parallel;

/// Images for which other tags are looked at.
const IMAGES_MAX: usize = 3;
/// Tags of an image that are looked at, one request each.
const TAGS_MAX: usize = 12;
/// Of these so many at a time.
const PARALLEL: usize = 6;
/// How long may be looked for another base: the build has failed already.
const PATIENCE: Duration = Duration::from_secs(5);

/// An image that does not exist for a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Miss {
    reference: String,
    wanted: String,
    available: Vec<String>,
    lines: Option<LineRange>,
    span: Option<Span>,
}

/// What was lowered, when that went well for all platforms.
pub(super) fn passed(
    engine: &Engine,
    definition: &Definition,
    platforms: &[Option<Platform>],
    results: Vec<Result<Lowered, DockerfileError>>,
) -> Result<Vec<Lowered>, BuildError> {
    let mut lowered = Vec::with_capacity(results.len());
    let mut errors: Vec<DockerfileError> = Vec::new();
    let mut failed = Vec::new();
    for (platform, result) in platforms.iter().zip(results) {
        match result {
            Ok(one) => lowered.push(one),
            Err(error) => {
                failed.extend(platform.clone());
                // Most are the same for all platforms.
                for error in error.into_all() {
                    let is_new = |known: &DockerfileError| known.diagnostic() != error.diagnostic();
                    if errors.iter().all(is_new) {
                        errors.push(error);
                    }
                }
            }
        }
    }
    let mut misses: Vec<Miss> = Vec::new();
    for miss in errors.iter().filter_map(miss) {
        if !misses.contains(&miss) {
            misses.push(miss);
        }
    }
    // The ways out are for those who only lack platforms.
    let is_all_misses = errors.iter().all(|error| miss(error).is_some());
    let mut errors = errors.into_iter();
    let Some(mut error) = errors.next() else { return Ok(lowered) };
    if !is_all_misses {
        error.others = errors.collect();
        return Err(definition.lowering_error(error));
    }
    let hints = hints(engine, definition, platforms, &failed, &misses);
    let excerpt = excerpts(definition, &misses);
    Err(BuildError::Dockerfile { source: Box::new(error), excerpt, hints })
}

fn miss(error: &DockerfileError) -> Option<Miss> {
    let source = match error.kind.as_ref() {
        DockerfileErrorKind::BaseImage { source, .. } | DockerfileErrorKind::Context { source, .. } => source,
        _ => return None,
    };
    match source.get_ref().downcast_ref::<CatalogError>()? {
        CatalogError::NoMatch { reference, wanted, available } => Some(Miss {
            reference: reference.clone(),
            wanted: wanted.clone(),
            available: available.clone(),
            lines: error.lines.last().copied(),
            span: error.span,
        }),
        _ => None,
    }
}

/// The lines in question, each once, with what its image lacks.
fn excerpts(definition: &Definition, misses: &[Miss]) -> Option<String> {
    let mut text = String::new();
    let mut shown: Vec<(Option<LineRange>, &str)> = Vec::new();
    for miss in misses {
        let key = (miss.lines, miss.reference.as_str());
        if shown.contains(&key) {
            continue;
        }
        shown.push(key);
        let excerpt = miss.lines.and_then(|lines| definition.excerpt(&[lines]));
        text += &excerpt.unwrap_or_default();
        let same = misses.iter().filter(|other| (other.lines, other.reference.as_str()) == key);
        let wanted: Vec<&str> = same.map(|miss| miss.wanted.as_str()).collect();
        let lacks = format!("{} has no {}; it has {}", miss.reference, wanted.join(", "), miss.available.join(", "));
        let told = Diagnostic::error(lacks, miss.lines).with_span(miss.span);
        text += &list(&definition.name, &definition.file.source, &[told]);
    }
    (!text.is_empty()).then_some(text)
}

/// The ways out: other platforms, another base, another stage.
fn hints(
    engine: &Engine,
    definition: &Definition,
    platforms: &[Option<Platform>],
    failed: &[Platform],
    misses: &[Miss],
) -> Vec<String> {
    let mut hints = Vec::new();
    let asked: Vec<Platform> = platforms.iter().flatten().cloned().collect();
    hints.extend(other_platforms(&asked, failed, misses));
    hints.extend(other_bases(engine, &asked, misses));
    hints.extend(build_platform(definition, misses));
    hints
}

fn other_platforms(asked: &[Platform], failed: &[Platform], misses: &[Miss]) -> Option<String> {
    let left: Vec<String> =
        asked.iter().filter(|platform| !failed.contains(platform)).map(Platform::format_all).collect();
    if !left.is_empty() {
        return Some(format!("build for the platforms that are there: --platform {}", left.join(",")));
    }
    let mut common: Vec<String> = misses.first()?.available.clone();
    common.retain(|platform| misses.iter().all(|miss| miss.available.contains(platform)));
    let mut seen = BTreeSet::new();
    common.retain(|platform| seen.insert(platform.clone()));
    (!common.is_empty()).then(|| format!("build for platforms that are there: --platform {}", common.join(",")))
}

/// Another tag of the same repository that has all platforms, for each image that lacks some.
fn other_bases(engine: &Engine, asked: &[Platform], misses: &[Miss]) -> Vec<String> {
    let mut images: Vec<(Reference, Vec<Platform>)> = Vec::new();
    for miss in misses {
        let (Ok(reference), Ok(wanted)) = (Reference::parse(&miss.reference), miss.wanted.parse::<Platform>()) else {
            continue;
        };
        match images.iter_mut().find(|(known, _)| *known == reference) {
            Some((_, all)) => all.push(wanted),
            None => {
                // Those that it has must not be lost.
                let is_there = |platform: &&Platform| {
                    let matcher = only(platform);
                    let available = miss.available.iter().filter_map(|text| text.parse::<Platform>().ok());
                    available.into_iter().any(|available| matcher.matches(&available))
                };
                let mut all: Vec<Platform> = asked.iter().filter(is_there).cloned().collect();
                all.push(wanted);
                images.push((reference, all));
            }
        }
    }
    images.truncate(IMAGES_MAX);
    // Answers that come too late are not waited for; the thread ends with its last request.
    let (sender, receiver) = sync_channel(1);
    let engine = engine.clone();
    std::thread::spawn(move || {
        let found = parallel::map(&images, IMAGES_MAX, |(reference, wanted)| {
            let found = other_tag(&engine, reference, wanted)?;
            let names: Vec<String> = wanted.iter().map(Platform::format_all).collect();
            Some(format!("another base that has {}: FROM {}", names.join(", "), found.familiar()))
        });
        // Nobody listens any more when it took too long.
        let _ = sender.send(found.into_iter().flatten().collect());
    });
    receiver.recv_timeout(PATIENCE).unwrap_or_default()
}

/// The tag of the same repository that is most like the given one and has all of these platforms.
fn other_tag(engine: &Engine, reference: &Reference, wanted: &[Platform]) -> Option<Reference> {
    let client = engine.client().ok()?;
    let own = reference.tag().unwrap_or_default();
    let tags = client.first_tags(&reference.name_only()).ok()?;
    let candidates: Vec<Reference> = candidates(own, tags)
        .into_iter()
        .filter_map(|tag| Reference::parse(&format!("{}:{tag}", reference.repository())).ok())
        .collect();
    let has_all = |candidate: &Reference| match client.manifest(candidate) {
        Ok(ManifestDocument::Index(index)) => wanted.iter().all(|wanted| {
            let matcher = only(wanted);
            let images = index.manifests.iter().filter(|entry| !entry.is_attestation());
            images.filter_map(|entry| entry.platform.as_ref()).any(|platform| matcher.matches(platform))
        }),
        _ => false,
    };
    let answers = parallel::map(&candidates, PARALLEL, has_all);
    candidates.into_iter().zip(answers).find_map(|(candidate, has_all)| has_all.then_some(candidate))
}

/// The tags most like one: those that share its words, newer versions first.
fn candidates(own: &str, mut tags: Vec<String>) -> Vec<String> {
    let words = |tag: &str| -> Vec<String> {
        tag.split(['-', '.', '_']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let own_words = words(own);
    let version = |tag: &str| -> Vec<u64> { words(tag).iter().map(|word| word.parse().unwrap_or(0)).collect() };
    // Tags in which registries and tools keep what belongs to other images.
    tags.retain(|tag| tag != own && !tag.starts_with("sha256-") && !tag.ends_with(".sig") && !tag.ends_with(".att"));
    tags.sort_by_cached_key(|tag| {
        let words = words(tag);
        let shared = own_words.iter().filter(|word| words.contains(word)).count();
        let strange = words.iter().filter(|word| !own_words.contains(word) && word.parse::<u64>().is_err()).count();
        std::cmp::Reverse((shared, std::cmp::Reverse(strange), tag == "latest", version(tag)))
    });
    tags.truncate(TAGS_MAX);
    tags
}

/// The lines of stages that could run on this machine and build for the others from there.
fn build_platform(definition: &Definition, misses: &[Miss]) -> Option<String> {
    let host = only(&Platform::host());
    let runs_here = |miss: &&Miss| {
        miss.available.iter().filter_map(|text| text.parse::<Platform>().ok()).any(|platform| host.matches(&platform))
    };
    let mut lines: Vec<(u32, String)> = Vec::new();
    for miss in misses.iter().filter(runs_here) {
        let Some(number) = miss.lines.map(|lines| lines.start) else { continue };
        let source = definition.file.source.split('\n').nth(number.saturating_sub(1) as usize).unwrap_or_default();
        if let Some(line) = on_build_platform(source)
            && !lines.iter().any(|(known, _)| *known == number)
        {
            lines.push((number, line));
        }
    }
    let changes: Vec<String> =
        lines.iter().map(|(number, line)| format!("{}:{number}: {line}", definition.name)).collect();
    (!changes.is_empty())
        .then(|| format!("a stage that only builds for the others runs on this machine: {}", changes.join("; ")))
}

/// A `FROM` line with `--platform=$BUILDPLATFORM`.
fn on_build_platform(line: &str) -> Option<String> {
    let line = line.trim();
    let (keyword, rest) = line.split_at_checked(4)?;
    if !keyword.eq_ignore_ascii_case("from") || !rest.starts_with([' ', '\t']) || rest.ends_with('\\') {
        return None;
    }
    let words = rest.split_whitespace().filter(|word| !word.starts_with("--platform="));
    Some(format!("{keyword} --platform=$BUILDPLATFORM {}", words.collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_what_they_say_otherwise() {
        for (line, expected) in [
            ("FROM golang", Some("FROM --platform=$BUILDPLATFORM golang")),
            (
                "from  --platform=linux/s390x golang:1 AS build",
                Some("from --platform=$BUILDPLATFORM golang:1 AS build"),
            ),
            ("COPY --from=x a b", None),
            ("FROM a \\", None),
            ("", None),
        ] {
            assert_eq!(on_build_platform(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn tags_most_alike_come_first() {
        let tags = ["3.19", "latest", "3.20-alpine", "3.20-slim", "3.21-alpine", "sha256-ab.sig", "3.19-alpine"];
        let tags = tags.map(str::to_owned).to_vec();
        assert_eq!(candidates("3.19-alpine", tags)[..3], ["3.21-alpine", "3.20-alpine", "3.19"].map(str::to_owned));
    }

    #[test]
    fn platforms_that_are_left_are_named() {
        let platform = |text: &str| text.parse::<Platform>().unwrap().normalize();
        let (amd64, arm64) = (platform("linux/amd64"), platform("linux/arm64"));
        let miss = Miss {
            reference: "x".to_owned(),
            wanted: "linux/arm64".to_owned(),
            available: vec!["linux/amd64".to_owned(), "linux/s390x".to_owned()],
            lines: None,
            span: None,
        };
        let asked = [amd64, arm64.clone()];
        let hint = other_platforms(&asked, std::slice::from_ref(&arm64), std::slice::from_ref(&miss)).unwrap();
        assert_eq!(hint, "build for the platforms that are there: --platform linux/amd64");
        let hint = other_platforms(std::slice::from_ref(&arm64), std::slice::from_ref(&arm64), &[miss]).unwrap();
        assert_eq!(hint, "build for platforms that are there: --platform linux/amd64,linux/s390x");
    }
}
