//! Indexes that nobody should write: each command says in one precise error what is wrong, soon, and nothing else.

use onetag_oci::{Descriptor, Digest, Document, Index, Platform, media_type};
use onetag_testkit::fault::{Fault, FaultyRegistry, Rule};
use onetag_testkit::user::User;
use onetag_testkit::{Finished, Onetag};
use serde_json::{Value, json};

use crate::crafted::{Bench, Layout, bench, layer, program_of};
use crate::support::{BINARY, World};

impl Bench {
    /// Everything that an image's name leads to, read for a template.
    fn read_all(&self, name: &str) -> Finished {
        self.onetag.run(["imagetools", "inspect", "--format", "{{json .Image}}", name])
    }
}

/// One error of one line, which says these things.
#[track_caller]
fn one_error(finished: Finished, says: &[&str]) {
    let finished = finished.code(1);
    let errors: Vec<&str> = finished.stderr.lines().filter(|line| !line.starts_with("hint: ")).collect();
    let [first, causes @ ..] = errors.as_slice() else { panic!("no error\n{finished}") };
    assert!(first.to_lowercase().starts_with("error: "), "{finished}");
    assert!(causes.iter().all(|line| line.starts_with("  caused by: ")), "more than one error\n{finished}");
    for text in says {
        assert!(finished.stderr.contains(text), "{text} is missing\n{finished}");
    }
}

#[test]
fn a_document_that_is_two_things_at_once() {
    let bench = bench();
    let image = bench.layout.honest("linux/amd64");
    let mut both: Value = serde_json::from_slice(bench.layout.document(&image).bytes()).expect("JSON");
    both["manifests"] = json!([]);
    let both = bench.layout.blob(media_type::OCI_MANIFEST, both.to_string().as_bytes());
    let name = bench.layout.name(&both);
    for command in ["imagetools inspect", "imagetools inspect --raw", "imagetools create --dry-run", "check"] {
        one_error(bench.onetag.line(&format!("{command} {name}")), &[both.digest.as_str(), "ambiguous"]);
    }
    let index = bench.layout.index(vec![image, both.clone().with_platform(Platform::linux("arm64"))]);
    let name = bench.layout.name(&index);
    let checked = bench.onetag.line(&format!("check {name}")).code(1);
    assert_eq!(checked.text().matches("error: ").count(), 1, "{checked}");
    assert!(checked.text().contains("ambiguous"), "{checked}");
}

#[test]
fn indexes_nested_too_deep() {
    let bench = bench();
    let mut nested = bench.layout.index(vec![bench.layout.honest("linux/amd64")]);
    for _ in 0..2 {
        nested = bench.layout.index(vec![nested]);
    }
    let name = bench.layout.name(&nested);
    // A few levels are followed, as containerd does.
    let inspected = bench.read_all(&name).success();
    assert!(inspected.text().contains("amd64"), "{inspected}");
    let checked = bench.onetag.line(&format!("check {name}")).success();
    assert_eq!(checked.text().matches("warning: ").count(), 2, "{checked}");
    for _ in 0..10 {
        nested = bench.layout.index(vec![nested]);
    }
    let name = bench.layout.name(&nested);
    let deep = "is nested more than 8 indexes deep";
    one_error(bench.read_all(&name), &[deep]);
    let checked = bench.onetag.line(&format!("check {name}")).code(1);
    assert!(checked.text().contains(deep) && checked.text().matches("error: ").count() == 1, "{checked}");
}

/// Each level names the one below two hundred times: read naively, it has no end.
#[test]
fn indexes_that_multiply_are_read_once() {
    let bench = bench();
    let mut level = bench.layout.index(vec![bench.layout.honest("linux/amd64")]);
    for _ in 0..6 {
        level = bench.layout.index(vec![level; 200]);
    }
    let name = bench.layout.name(&level);
    let inspected = bench.read_all(&name).success();
    assert!(inspected.text().contains("amd64"), "{inspected}");
    let checked = bench.onetag.line(&format!("check --json {name}")).success();
    let report: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    assert_eq!(report[0]["platforms"].as_array().map(Vec::len), Some(1));
    bench.onetag.ok(&format!("copy {name} store:app"));
    bench.onetag.ok("images");
    bench.onetag.ok("image inspect app");
}

#[test]
fn descriptors_that_lie() {
    let bench = bench();
    let image = bench.layout.honest("linux/amd64");
    let wrong = Descriptor { size: image.size + 1, ..image.clone() };
    let index = bench.layout.index(vec![wrong]);
    let name = bench.layout.name(&index);
    let (says, has) = (format!("its descriptor says {}", image.size + 1), format!("has {} bytes", image.size));
    for read in [bench.read_all(&name), bench.onetag.line(&format!("copy {name} store:x"))] {
        one_error(read, &[image.digest.as_str(), &says, &has]);
    }
    let kind = Descriptor { media_type: media_type::OCI_INDEX.to_owned(), ..image.clone() };
    let name = bench.layout.name(&bench.layout.index(vec![kind]));
    one_error(bench.onetag.line(&format!("copy {name} store:x")), &[image.digest.as_str(), media_type::OCI_INDEX]);
    let absent = Descriptor { digest: Digest::sha256(b"absent"), ..image };
    let name = bench.layout.name(&bench.layout.index(vec![absent.clone()]));
    one_error(bench.onetag.line(&format!("copy {name} store:x")), &[absent.digest.encoded()]);
    // Nothing got a name.
    bench.onetag.line("image inspect x").failure();
}

#[test]
fn large_documents_have_a_limit() {
    let bench = bench();
    let image = bench.layout.honest("linux/amd64");
    let padded = |length: usize| {
        let mut index = Index::new(vec![image.clone()]);
        index.annotations.insert("padding".to_owned(), String::new());
        let bare = Document::from_value(index.clone()).bytes().len();
        index.annotations.insert("padding".to_owned(), "x".repeat(length - bare));
        let document = Document::from_value(index);
        assert_eq!(document.bytes().len(), length);
        bench.layout.blob(media_type::OCI_INDEX, document.bytes())
    };
    let limit = 4 << 20;
    let name = bench.layout.name(&padded(limit));
    assert!(bench.onetag.ok(&format!("imagetools inspect {name}")).text().contains("linux/amd64"));
    bench.onetag.ok(&format!("check {name}"));
    let large = padded(limit + 1);
    let name = bench.layout.name(&large);
    for command in ["imagetools inspect", "imagetools create --dry-run", "check"] {
        one_error(bench.onetag.line(&format!("{command} {name}")), &[large.digest.as_str(), "4194305", "4194304"]);
    }
}

#[test]
fn two_hundred_entries_are_no_trouble() {
    let bench = bench();
    let program = program_of("amd64");
    let entry = |number: usize| {
        let app = layer(&[("app", &program), ("number", number.to_string().as_bytes())]);
        let platform = Platform { os_version: Some(format!("1.{number}")), ..Platform::linux("amd64") };
        bench.layout.image("linux/amd64", &["/app"], &[app]).with_platform(platform)
    };
    let entries: Vec<Descriptor> = (0..200).map(entry).collect();
    let name = bench.layout.name(&bench.layout.index(entries));
    let inspected = bench.onetag.ok(&format!("imagetools inspect {name}"));
    assert_eq!(inspected.text().matches("Platform:  linux/amd64").count(), 200);
    let checked = bench.onetag.ok(&format!("check {name}"));
    assert!(checked.text().contains("0 errors, 0 warnings; 200 layers read"), "{checked}");
    let created = bench.onetag.ok(&format!("imagetools create --dry-run {name}"));
    let index: Value = serde_json::from_slice(&created.stdout).expect("JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(200));
}

#[test]
fn a_registry_that_lies_is_found_out() {
    let world = World::any();
    let layout = Layout::new(&world.onetag, "layout");
    let name = layout.name(&layout.index(vec![layout.honest("linux/amd64"), layout.honest("linux/arm64")]));
    world.onetag.user().own_tree(&world.onetag.work());
    world.onetag.ok(&format!("copy {name} {}", world.reference("app:1")));
    let faulty = FaultyRegistry::start(world.registry.address());
    let reference = format!("{}/app:1", faulty.name());
    let child = layout.honest("linux/arm64").digest;
    let path = format!("/manifests/{child}");
    let check = |code: &str| {
        let checked = world.onetag.line(&format!("check --json {reference}")).code(1);
        let report: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
        let findings = report[0]["findings"].as_array().expect("findings");
        assert_eq!(
            (findings.len(), &findings[0]["code"], &findings[0]["platform"]),
            (1, &json!(code), &json!("linux/arm64"))
        );
    };
    // An index that names itself cannot be made: what stands behind a digest has to have it.
    let circle = Document::from_value(Index::new(vec![Descriptor::new(media_type::OCI_INDEX, child.clone(), 9)]));
    let headers = vec![("Content-Type".to_owned(), media_type::OCI_INDEX.to_owned())];
    let answer = |status, body: &[u8]| Fault::Answer { status, headers: headers.clone(), body: body.to_vec() };
    faulty.add(Rule::always("GET", &path, answer(200, circle.bytes())));
    check("digest");
    faulty.clear();
    faulty.add(Rule::always("GET", &path, Fault::status(404)));
    check("missing");
    faulty.clear();
    faulty.add(Rule::always("GET", &path, answer(200, &vec![b' '; (4 << 20) + 1])));
    check("too-large");
    // Somebody who does not answer tells nothing about the index.
    faulty.clear();
    faulty.add(Rule::always("GET", &path, Fault::status(403)));
    let checked = world.onetag.line(&format!("check {reference}")).code(1);
    assert!(checked.stderr.contains("cannot check") && checked.text().is_empty(), "{checked}");
}

#[test]
fn platforms_that_are_none_are_named() {
    let onetag = Onetag::new(BINARY, User::current());
    let layout = Layout::new(&onetag, "layout");
    let name = layout.name(&layout.index(vec![layout.honest("linux/amd64")]));
    for vector in crate::vectors_folder::load("platforms.json") {
        let (Some("parse"), Some(text), false) =
            (vector["kind"].as_str(), vector["in"].as_str(), vector["error"].is_null())
        else {
            continue;
        };
        // On the command line a comma separates platforms, and nothing at all is no platform.
        if text.is_empty() || text.contains(',') || text.trim() != text || text.starts_with('-') || text.contains('\0')
        {
            continue;
        }
        for command in ["imagetools create --dry-run -p", "check --platform"] {
            let arguments = command.split(' ').chain([text, name.as_str()]);
            one_error(onetag.run(arguments), &[]);
        }
    }
}
