//! What builds print and write, held against what buildx printed and wrote for the same builds, field by field.
//!
//! Digests, times, sizes of transfers and the registry's address are made equal first. What differs on purpose, and why,
//! is in docs/building.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use onetag_testkit::folder::repository;
use onetag_testkit::require;
use serde_json::Value;

use crate::support::{World, local_name};

const BOTH: &str = "linux/amd64,linux/arm64";

struct Site {
    world: World,
    context: String,
}

fn recorded(name: &str) -> String {
    let path = repository().join("tests/recorded").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Site {
    /// The registry and the context of the recording. Names of steps tell the build platform, which was amd64.
    fn new() -> Result<Site, String> {
        if std::env::consts::ARCH != "x86_64" {
            return Err("recorded on amd64".to_owned());
        }
        let world = World::any();
        world.runs_foreign()?;
        world.push_five()?;
        let here = |text: String| text.replace("localhost:5000", &world.registry.name());
        let files = [("hello.txt", recorded("ctx/hello.txt"))];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        let context = world.context("ctx", &here(recorded("ctx/Dockerfile")), &files);
        for name in ["fail.Dockerfile", "nomatch.Dockerfile"] {
            world.onetag.file(name, here(recorded(name)));
        }
        let only = world.reference("onlyamdidx:latest");
        world.onetag.ok(&format!("imagetools create -t {only} store:{}", local_name("linux/amd64")));
        Ok(Site { world, context })
    }

    /// What a build prints, made equal. With the host's network, as a host that has no other would warn of it.
    fn build(&self, arguments: &str) -> String {
        let finished = self.world.onetag.line(&format!("build --network host {arguments} {}", self.context));
        equal(&finished.stderr.replace(&self.world.registry.name(), "localhost:5000"))
    }
}

/// Without what varies: digests, seconds and the bytes that a transfer took.
fn equal(text: &str) -> String {
    let words = |line: &str| {
        let words = line.split(' ').map(|word| match word.split_once("sha256:") {
            Some((before, _)) => format!("{before}sha256:DIGEST"),
            None => word.to_owned(),
        });
        let is_amount = |word: &String| {
            let number = word.trim_end_matches(['k', 'M', 'G', 'B', 's']);
            number != word && number.parse::<f64>().is_ok()
        };
        let is_time = |word: &String| {
            word.split_once('.').is_some_and(|(_, part)| part.len() == 3) && word.parse::<f64>().is_ok()
        };
        words.filter(|word| !is_amount(word) && !is_time(word)).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(|line| words(line) + "\n").collect()
}

/// The steps of a plain log by name, with the lines below each.
fn steps(log: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut steps: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in log.lines().filter(|line| !line.starts_with("#0 ")) {
        let Some((number, said)) = line.strip_prefix('#').and_then(|line| line.split_once(' ')) else { continue };
        match names.get(number) {
            None => {
                names.insert(number, said);
                steps.entry(said.to_owned()).or_default();
            }
            Some(name) if said != "..." && said != *name => {
                // A part that takes a while is told twice.
                let said = said.strip_suffix(" done").unwrap_or(said);
                steps.get_mut(*name).expect("it was named").insert(said.to_owned());
            }
            Some(_) => {}
        }
    }
    steps
}

/// Whether a base is told to be there or to be done varies in the recordings themselves.
fn without_state_of_bases(mut steps: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    for (name, lines) in &mut steps {
        if name.contains("] FROM ") {
            lines.retain(|line| !matches!(line.as_str(), "DONE" | "CACHED"));
        }
        // Layers are unpacked where they are first needed, which a step says.
        lines.retain(|line| !line.starts_with("extracting "));
    }
    steps
}

#[track_caller]
fn assert_same_steps(ours: &str, recording: &str) {
    let [ours, theirs] = [ours, &equal(recording)].map(|log| without_state_of_bases(steps(log)));
    assert!(theirs.len() >= 15, "{theirs:#?}");
    assert_eq!(ours, theirs);
}

#[test]
fn plain_progress() {
    let site = require!(ok Site::new());
    let app = site.world.reference("app:plain");
    let metadata = site.world.onetag.work().join("m").display().to_string();
    let line = format!("--progress plain --platform {BOTH}");
    let cold = site.build(&format!("{line} --metadata-file {metadata} --push -t {app}"));
    assert_same_steps(&cold, &recorded("progress/plain-two-platforms-cold.txt"));
    let cached = site.build(&format!("{line} --push -t {app}"));
    assert_same_steps(&cached, &recorded("progress/plain-two-platforms-cached.txt"));
    let without = site.build(&line);
    assert_same_steps(&without, &recorded("progress/no-output.txt"));
    assert!(without.starts_with("#0 building with \"default\" instance using local driver\n\n#1 [internal] load"));
    assert!(without.contains("WARNING: No output specified with local driver. Build result will only remain in the"));
    let quiet = site.world.onetag.ok(&format!("build -q --platform {BOTH} --push -t {app} {}", site.context));
    assert_eq!(equal(quiet.text()), equal(&recorded("progress/quiet.txt")));
    assert_eq!(quiet.stderr, "");
}

#[test]
fn plain_progress_of_what_fails() {
    let site = require!(ok Site::new());
    let file = |name: &str| format!("--progress plain --platform {BOTH} -f {name}.Dockerfile");
    let (ours, theirs) = (site.build(&file("fail")), equal(&recorded("progress/failing-step.txt")));
    // Which platform fails first is a matter of luck; the other is given up wherever it is.
    let first = |log: &str| log.replace("linux/arm64", "linux/amd64");
    let ours_steps = without_state_of_bases(steps(&ours));
    let lost = |lines: &BTreeSet<String>| lines.contains("CANCELED") || lines.is_empty();
    let mut compared = 0;
    for (name, lines) in without_state_of_bases(steps(&theirs)) {
        if let Some(found) = ours_steps.get(&name).filter(|found| !lost(found) && !lost(&lines)) {
            assert_eq!(*found, lines, "{name}\n{ours}");
            compared += 1;
        }
    }
    assert!(compared >= 7, "{ours}");
    let end = |log: &str| {
        let log = log.split_once("------\n").expect("what failed").1;
        let lines = log.lines().filter(|line| !line.starts_with("WARNING:") && *line != "exit status 1");
        first(&lines.map(|line| format!("{line}\n")).collect::<String>())
    };
    let failed = " > [linux/amd64 3/3] RUN exit 3:\n------\n";
    let twice = format!("{failed}------\n{failed}");
    assert_eq!(end(&ours).replace(&twice, failed), end(&theirs));

    // Beyond what is recorded, ours tells which platforms there are and what to type.
    let (ours, theirs) = (site.build(&file("nomatch")), equal(&recorded("progress/no-match.txt")));
    let absent = "[linux/arm64 internal] load metadata for localhost:5000/onlyamdidx:latest";
    for (name, log) in [("ours", &ours), ("theirs", &theirs)] {
        let lines = &steps(log)[absent];
        assert!(
            lines.iter().any(|line| line.starts_with("ERROR: no match for platform in manifest: not found")),
            "{name}\n{log}"
        );
        assert!(log.contains(&format!("------\n > {absent}:\n------\n")), "{name}\n{log}");
    }
    let excerpt = theirs.split_once("nomatch.Dockerfile:1\n").expect("an excerpt").1;
    let (excerpt, error) = excerpt.split_once("ERROR:").expect("an error");
    let error = error.lines().next().expect("a line");
    assert!(ours.contains(excerpt) && ours.contains(error), "{excerpt}{error}\n{ours}");
}

/// The fields of each step and of each part by name, with the types of their values.
fn fields(log: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (kind, item) in items(log) {
        let label = item["name"].as_str().filter(|_| kind == "vertexes").or(item["id"].as_str()).unwrap_or_default();
        let label = equal(&format!("{kind} {label}"));
        let known = fields.entry(label.clone()).or_default();
        for (field, value) in item.as_object().expect("an object") {
            let is_state_of_base = field == "cached" && label.contains("] FROM ");
            if !is_state_of_base {
                known.insert(format!("{field}: {}", type_of(value)));
            }
        }
    }
    fields
}

fn items(log: &str) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    for line in log.lines() {
        let update: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        for (kind, list) in update.as_object().expect("an object") {
            let kind = ["vertexes", "statuses", "logs", "warnings"].into_iter().find(|known| known == kind);
            let kind = kind.unwrap_or_else(|| panic!("unknown news: {line}"));
            all.extend(list.as_array().expect("a list").iter().map(|item| (kind, item.clone())));
        }
    }
    all
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(text) if text.starts_with("sha256:") => "a digest",
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => "a time",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[test]
fn raw_json_progress() {
    let site = require!(ok Site::new());
    let app = site.world.reference("app:plain");
    let line = format!("build --network host --progress rawjson --platform {BOTH} --push -t {app} {}", site.context);
    let built = site.world.onetag.ok(&line);
    let log = built.stderr.replace(&site.world.registry.name(), "localhost:5000");
    let mut ours = fields(&log);
    // The layers of bases are unpacked where they are first needed.
    ours.retain(|name, _| !name.starts_with("statuses extracting "));
    assert_eq!(ours, fields(&recorded("progress/rawjson-two-platforms.jsonl")));

    // What is said of a step comes after the step, its start after its inputs' ends, its end after its start.
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    for (kind, item) in items(&log) {
        if kind != "vertexes" {
            let vertex = known.get(item["vertex"].as_str().expect("a digest")).expect("a step that was announced");
            assert!(vertex.get("started").is_some(), "{item}");
            continue;
        }
        if item.get("started").is_some() {
            for input in item["inputs"].as_array().into_iter().flatten() {
                let input = known.get(input.as_str().expect("a digest")).expect("an input that was announced");
                assert!(input.get("completed").is_some(), "{item} before {input}");
            }
        }
        known.insert(item["digest"].as_str().expect("a digest").to_owned(), item);
    }
    assert!(known.values().all(|vertex| vertex.get("completed").is_some()), "{known:#?}");
}

/// A metadata file without what varies.
fn metadata(text: &str) -> Value {
    let ours = format!("onetag-{}", env!("CARGO_PKG_VERSION"));
    let text = text.replace(&ours, "VERSION").replace("1.26.0-dev", "VERSION");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    let reference = document["buildx.build.ref"].take();
    let parts: Vec<&str> = reference.as_str().expect("a text").split('/').collect();
    assert!(matches!(parts[..], [builder, node, id] if node == format!("{builder}0") && id.len() == 25), "{reference}");
    hide_digests(&mut document);
    document
}

fn hide_digests(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("sha256:") => *text = "sha256:DIGEST".to_owned(),
        Value::String(text) if text.len() == 64 => *text = "DIGEST".to_owned(),
        Value::Array(items) => items.iter_mut().for_each(hide_digests),
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "size" => *member = 0.into(),
                    _ => hide_digests(member),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn metadata_and_image_id_files() {
    let site = require!(ok Site::new());
    let (written, id) = (site.world.onetag.work().join("m"), site.world.onetag.work().join("i"));
    for (name, tag, arguments) in [
        ("push-index", "app:plain", format!("--platform {BOTH} --no-cache")),
        ("push-single", "app:single", "--platform linux/amd64".to_owned()),
        ("push-attested", "app:attested", format!("--platform {BOTH} --provenance mode=min")),
    ] {
        let files = format!("--metadata-file {} --iidfile {}", written.display(), id.display());
        let tag = site.world.reference(tag);
        site.world.onetag.ok(&format!("build {arguments} {files} --push -t {tag} {}", site.context));
        let registry = site.world.registry.name();
        let ours = fs::read_to_string(&written).expect("the file");
        let raw: Value = serde_json::from_str(&ours).expect("JSON");
        let ours = ours.replace(&registry, "localhost:5000").replace(&registry.replace(':', "%3A"), "localhost%3A5000");
        assert_eq!(metadata(&ours), metadata(&recorded(&format!("metadata/{name}.json"))), "{name}");
        assert!(!ours.ends_with('\n'), "no line end, as recorded");
        let config = raw.get("containerimage.config.digest");
        let expected = config.unwrap_or(&raw["containerimage.digest"]);
        assert_eq!(*expected, fs::read_to_string(&id).expect("the file"), "{name}");
    }
}
