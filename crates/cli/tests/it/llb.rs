//! `debug llb`: the graphs that the binary prints are those recorded from BuildKit.

use std::path::Path;

use onetag_llb::{Definition, Op, OpKind, attribute};
use onetag_testkit::folder::repository;
use onetag_testkit::user::User;
use onetag_testkit::{Onetag, require};

use crate::support::BINARY;

/// The recorded build's random name of local sources.
fn recorded_unique(definition: &Definition) -> String {
    let unique = |bytes: &Vec<u8>| match Op::decode(bytes).ok()?.kind {
        OpKind::Source(source) => source.attributes.get(attribute::LOCAL_UNIQUE).cloned(),
        _ => None,
    };
    definition.ops.iter().find_map(unique).unwrap_or_default()
}

/// Without the identifiers of progress groups, which are random in the recordings, and without the text of the
/// Dockerfile, which they lack.
fn comparable(bytes: &[u8]) -> Definition {
    let mut definition = Definition::decode(bytes).expect("a definition");
    for group in definition.metadata.values_mut().filter_map(|metadata| metadata.progress_group.as_mut()) {
        group.id.clear();
    }
    definition.source = None;
    definition
}

fn lines(text: &str) -> Vec<serde_json::Value> {
    let without_group = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if let Some(group) = value.pointer_mut("/OpMetadata/progress_group/id") {
            *group = serde_json::Value::Null;
        }
        value
    };
    text.lines().map(without_group).collect()
}

fn compare(onetag: &Onetag, case: &Path, architecture: &str) {
    let recorded = std::fs::read(case.join(format!("linux-{architecture}.llb.pb"))).expect("a recording");
    let unique = recorded_unique(&Definition::decode(&recorded).expect("a definition"));
    let dockerfile = std::fs::read(case.join("Dockerfile")).expect("a recording");
    onetag.file("case/Dockerfile", dockerfile);
    let unique = if unique.is_empty() { String::new() } else { format!("--unique {unique}") };
    let line = format!("--progress quiet -f case/Dockerfile --platform linux/{architecture} {unique} case");
    let printed = onetag.ok(&format!("debug llb {line}"));
    let (ours, theirs) = (comparable(&printed.stdout), comparable(&recorded));
    assert_eq!(ours.ops, theirs.ops, "{}", case.display());
    assert_eq!(ours.metadata, theirs.metadata, "{}", case.display());
    let json = onetag.ok(&format!("debug llb --json {line}"));
    let recorded = std::fs::read_to_string(case.join(format!("linux-{architecture}.llb.json"))).expect("a recording");
    assert_eq!(lines(json.text()), lines(&recorded), "{}", case.display());
    let has_group = recorded.contains("progress_group");
    assert!(has_group || json.text() == recorded, "byte for byte\n{}\n{recorded}", json.text());
}

#[test]
fn graphs_are_those_recorded() {
    require!(std::env::consts::ARCH == "x86_64", "they were recorded on linux/amd64");
    let onetag = Onetag::new(BINARY, User::current());
    let layout = onetag.work().join("layout");
    std::fs::create_dir(&layout).expect("own folder");
    let archive = repository().join("tests/corpus/busybox.oci.tar");
    let mut archive = tar::Archive::new(std::fs::File::open(archive).expect("the corpus' images"));
    archive.unpack(&layout).expect("own folder");
    onetag.user().own_tree(&layout);
    onetag.ok("copy oci:layout:busybox:latest store:localhost:5000/busybox:latest");
    let mut cases: Vec<_> = std::fs::read_dir(repository().join("tests/recorded/llb"))
        .expect("recordings")
        .map(|entry| entry.expect("a folder").path())
        .collect();
    cases.sort();
    assert_eq!(cases.len(), 12);
    for case in &cases {
        for architecture in ["amd64", "arm64"] {
            compare(&onetag, case, architecture);
        }
    }
}

#[test]
fn graphs_are_the_same_in_every_run_and_follow_the_flags() {
    let onetag = Onetag::new(BINARY, User::current());
    onetag.file("c/Dockerfile", "FROM scratch AS a\nARG X=1\nCOPY file$X /\nFROM a\nADD https://host.example/x /x\n");
    onetag.file("c/.dockerignore", "no\n");
    let print = |flags: &str| onetag.ok(&format!("debug llb --json --progress quiet {flags} c")).text().to_owned();
    let plain = print("");
    assert_eq!(plain, print(""), "nothing in it is random");
    assert!(plain.contains(r#""identifier":"local://context""#) && !plain.contains("local.session"), "{plain}");
    assert!(plain.contains("file1") && plain.contains("host.example"), "{plain}");
    let target = print("--target a --build-arg X=2");
    assert!(target.contains("file2") && !target.contains("host.example"), "{target}");
    onetag.line("debug llb --push c").failure().says("--push");
    onetag.line("debug llb --platform linux/amd64,linux/arm64 c").failure().says("one platform");
    onetag.line("debug llb absent").failure().says("absent");
}
