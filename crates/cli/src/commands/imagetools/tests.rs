//! The recorded answers of `docker buildx imagetools inspect`, reproduced from the recorded documents.

use std::path::PathBuf;

use onetag_engine::content::{Found, Location};
use onetag_oci::ManifestDocument;
use serde_json::Value as Json;

use super::inspect::{inputs, text};
use crate::template::{JsonStyle, Template, Value};

fn recorded(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recorded/imagetools")).join(name);
    std::fs::read_to_string(path).unwrap()
}

fn found(raw: &str) -> Found {
    let document = ManifestDocument::parse(recorded(raw).into_bytes(), None).unwrap();
    Found { descriptor: document.descriptor(), document }
}

/// Lines with those of each group of annotations sorted: buildx prints a map in any order.
fn lines(text: &str) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    for line in text.lines() {
        if line.starts_with("    ") && line.contains(':') {
            match groups.last_mut() {
                Some(group) if group[0].starts_with("    ") => group.push(line.to_owned()),
                _ => groups.push(vec![line.to_owned()]),
            }
        } else {
            groups.push(vec![line.to_owned()]);
        }
    }
    groups.iter_mut().for_each(|group| group.sort());
    groups
}

#[test]
fn text_equals_the_recordings_column_for_column() {
    let busybox = "localhost:5000/busybox@sha256:ab1753b0ce556fe217cf6c6782982d2f5ca75068d6aaa1eff0ccb473c82305fb";
    for (raw, name, expected) in [
        ("raw-app_annotated.json", "localhost:5000/app:annotated", "inspect-app_annotated.txt"),
        ("raw-app_attested.json", "localhost:5000/app:attested", "inspect-app_attested.txt"),
        ("raw-app_plain.json", "localhost:5000/app:plain", "inspect-app_plain.txt"),
        ("raw-app_single.json", "localhost:5000/app:single", "inspect-app_single.txt"),
        ("raw-busybox_latest.json", "localhost:5000/busybox", "inspect-busybox_latest.txt"),
        ("raw-busybox_latest.json", busybox, "inspect-by-digest.txt"),
    ] {
        let shown = text(&Location::parse(name).unwrap(), &found(raw));
        assert_eq!(lines(&shown), lines(&recorded(expected)), "{expected}");
    }
}

/// The `--format` lines of a recording, each with what was printed.
fn formats(text: &str) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        match line.trim_end().strip_prefix("--format '").and_then(|rest| rest.strip_suffix('\'')) {
            Some(format) => out.push((format.to_owned(), String::new())),
            None => out.last_mut().unwrap().1.push_str(line),
        }
    }
    out
}

#[test]
fn templates_print_what_was_recorded() {
    for name in ["app_annotated", "app_attested", "app_plain", "app_single", "busybox_latest"] {
        let text = recorded(&format!("format-{name}.txt"));
        let formats = formats(&text);
        let printed = |format: &str| -> Json {
            let (_, printed) = formats.iter().find(|(known, _)| known == format).unwrap();
            serde_json::from_str(printed).unwrap()
        };
        let images = printed("{{json .Image}}");
        let configs = match images.get("architecture") {
            Some(_) => vec![("linux/amd64".to_owned(), images)],
            None => images.as_object().unwrap().iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        };
        let reference = format!("localhost:5000/{}", name.replace('_', ":"));
        let (provenance, sbom) = (printed("{{json .Provenance}}"), printed("{{json .SBOM}}"));
        let value = inputs(
            &reference,
            &found(&format!("raw-{name}.json")),
            configs,
            Value::from_json(&provenance),
            Value::from_json(&sbom),
        );
        for (format, expected) in &formats {
            let result = Template::parse(format).unwrap().execute(&value, JsonStyle::Indented);
            let shown = result.unwrap_or_else(|error| format!("ERROR: {error}\n"));
            assert_eq!(shown.trim_end_matches('\n'), expected.trim_end_matches('\n'), "{name} {format}");
        }
    }
}

#[test]
fn a_field_nobody_knows_is_told_with_its_type() {
    let value = inputs("app", &found("raw-app_plain.json"), Vec::new(), Value::Missing, Value::Missing);
    let run = |text: &str| Template::parse(text).unwrap().execute(&value, JsonStyle::Indented).unwrap_err().to_string();
    assert_eq!(
        run("{{.Nope}}"),
        "template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type imagetools.tplInput"
    );
    assert!(Template::parse(" {{ .Manifest }} ").unwrap().is_only_field("Manifest"));
}
