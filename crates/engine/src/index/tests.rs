//! The recorded dry runs of `docker buildx imagetools create`, reproduced from the recorded documents.

use std::path::PathBuf;

use onetag_oci::{ManifestDocument, Platform};

use super::combine::{CombineError, Combined, Source, combine};
use crate::content::{Found, Location};
use crate::flags::parse_annotations;

fn recorded(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recorded/imagetools")).join(name);
    std::fs::read_to_string(path).unwrap()
}

fn source(name: &str, bytes: String) -> Source {
    let document = ManifestDocument::parse(bytes.into_bytes(), None).unwrap();
    let mut descriptor = document.descriptor();
    if document.as_manifest().is_some() {
        descriptor.platform = Some(Platform::linux("amd64"));
    }
    Source { location: Location::parse(name).unwrap(), found: Found { descriptor, document } }
}

/// The recorded commands with what they printed.
fn commands() -> Vec<(Vec<String>, String)> {
    let text = recorded("create.txt");
    let mut out: Vec<(Vec<String>, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("$ imagetools create --dry-run ") {
            Some(words) => out.push((words.split_whitespace().map(str::to_owned).collect(), String::new())),
            None => out.last_mut().unwrap().1.push_str(line),
        }
    }
    out
}

fn run(words: &[String], child: &str) -> Result<Combined, CombineError> {
    let (mut sources, mut annotations, mut platforms) = (Vec::new(), Vec::new(), Vec::<Platform>::new());
    let (mut prefer_index, mut append, mut tag) = (true, false, String::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-t" => tag.clone_from(words.next().unwrap()),
            "-p" => platforms.push(words.next().unwrap().parse().unwrap()),
            "--annotation" => annotations.push(words.next().unwrap().clone()),
            "--append" => append = true,
            "--prefer-index=false" => prefer_index = false,
            name => sources.push(name.to_owned()),
        }
    }
    if append {
        sources.insert(0, tag);
    }
    let document = |name: &String| match name.as_str() {
        "localhost:5000/app:plain" => source(name, recorded("raw-app_plain.json")),
        "localhost:5000/app:single" => source(name, recorded("raw-app_single.json")),
        "localhost:5000/app:attested" => source(name, recorded("raw-app_attested.json")),
        "localhost:5000/busybox:latest" => source(name, recorded("raw-busybox_latest.json")),
        _ => source(name, child.to_owned()),
    };
    let sources: Vec<Source> = sources.iter().map(document).collect();
    let annotations = parse_annotations(&annotations, &Platform::host()).unwrap();
    combine(&sources, &annotations, prefer_index, &platforms)
}

#[test]
fn dry_runs_equal_the_recordings_byte_for_byte() {
    let commands = commands();
    let (_, carbon_copy) =
        commands.iter().find(|(words, _)| words.iter().any(|word| word == "--prefer-index=false")).unwrap();
    let child = carbon_copy.lines().next().unwrap();
    for (words, expected) in &commands {
        let combined = run(words, child).unwrap();
        let shown = format!("{}\n\nexit status 0", String::from_utf8(combined.bytes).unwrap());
        assert_eq!(shown, expected.trim_end(), "{words:?}");
    }
}

#[test]
fn an_index_alone_stays_what_it_is() {
    let words = ["-t", "localhost:5000/new:1", "localhost:5000/app:attested"].map(str::to_owned);
    let combined = run(&words, "").unwrap();
    assert_eq!(combined.bytes, recorded("raw-app_attested.json").into_bytes());
    assert_eq!(combined.children.len(), 4);
}

#[test]
fn a_platform_takes_its_attestation_along() {
    let words = ["-p", "linux/arm64", "-t", "localhost:5000/new:1", "localhost:5000/app:attested"].map(str::to_owned);
    let combined = run(&words, "").unwrap();
    let platforms: Vec<_> =
        combined.children.iter().map(|(child, _)| child.platform.clone().unwrap().to_string()).collect();
    assert_eq!(platforms, ["linux/arm64", "unknown/unknown"]);
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let annotated = |annotation: &str| {
        run(&["--annotation", annotation, "localhost:5000/app:plain"].map(str::to_owned), "").unwrap_err().to_string()
    };
    assert_eq!(annotated("manifest:a=b"), "\"manifest\" annotations are not supported yet");
    assert_eq!(annotated("a=b"), "\"\" annotations are not supported yet");
    assert_eq!(
        annotated("index-descriptor:a=b"),
        "\"index-descriptor\" annotations are invalid while creating an image"
    );
    let none = run(&["-p", "linux/riscv64", "localhost:5000/app:plain"].map(str::to_owned), "").unwrap_err();
    assert_eq!(none, CombineError::NoPlatformMatches);
}
