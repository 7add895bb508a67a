//! `onetag check`: what is true passes, each lie is told once and precisely, and every layer is read at most once.

use std::collections::HashMap;

use onetag_oci::{Descriptor, DiffId, Digest, Platform, media_type};
use onetag_testkit::fault::FaultyRegistry;
use onetag_testkit::user::User;
use onetag_testkit::{Finished, Onetag, fixture, require};
use serde_json::Value;

use crate::crafted::{Bench, Layout, bench, gzip, layer, program_of, program_of_level, program_with_loader};
use crate::support::{BINARY, World};

impl Bench {
    /// The findings about an index of these entries: severity, code and message.
    fn findings(&self, entries: Vec<Descriptor>, flags: &str) -> Vec<(String, String, String)> {
        let name = self.layout.name(&self.layout.index(entries));
        findings(&self.onetag.line(&format!("check --json {flags} {name}")))
    }
}

fn findings(finished: &Finished) -> Vec<(String, String, String)> {
    let reports: Value = serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}\n{finished}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = reports[0]["findings"].as_array().expect("findings").iter();
    found.map(|found| (text(&found["severity"]), text(&found["code"]), text(&found["message"]))).collect()
}

/// One finding, of this code, whose message says these things.
#[track_caller]
fn only(found: &[(String, String, String)], severity: &str, code: &str, says: &[&str]) {
    let [(found_severity, found_code, message)] = found else { panic!("not one finding: {found:#?}") };
    assert_eq!((found_severity.as_str(), found_code.as_str()), (severity, code), "{message}");
    for text in says {
        assert!(message.contains(text), "{text} is missing: {message}");
    }
}

#[test]
fn what_is_true_passes() {
    let bench = bench();
    let platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "linux/ppc64le"];
    let entries = platforms.iter().map(|platform| bench.layout.honest(platform)).collect();
    let name = bench.layout.name(&bench.layout.index(entries));
    for flags in ["", "--all"] {
        let checked = bench.onetag.line(&format!("check {flags} {name}")).success();
        for text in ["PLATFORM", "linux/arm/v7", "/app", "x86-64", "IBM S/390", "0 errors, 0 warnings"] {
            assert!(checked.text().contains(text), "{text} is missing\n{checked}");
        }
        assert_eq!(checked.text().matches(" ok\n").count(), 5, "{checked}");
    }
    let one = bench.onetag.line(&format!("check --json --platform linux/arm64 {name}")).success();
    let report: Value = serde_json::from_slice(&one.stdout).expect("JSON");
    assert_eq!((&report[0]["layersRead"], &report[0]["tellsTruth"]), (&Value::from(1), &Value::from(true)));
}

#[test]
fn real_images_of_five_platforms_pass() {
    let busybox = require!(ok fixture::busybox());
    let onetag = Onetag::new(BINARY, User::current());
    let folder = onetag.work().join("busybox");
    busybox.write_layout(&folder, "latest").expect("own folder");
    let checked = onetag.line(&format!("check --all oci:{}", folder.display())).success();
    assert!(checked.text().contains("0 errors, 0 warnings; 5 layers read"), "{checked}");
}

#[test]
fn a_program_of_another_machine_is_a_lie() {
    let bench = bench();
    let amd64 = program_of("amd64");
    let wrong = bench.layout.image("linux/arm64", &["/app"], &[layer(&[("app", &amd64)])]);
    let name = bench.layout.name(&bench.layout.index(vec![bench.layout.honest("linux/amd64"), wrong]));
    let checked = bench.onetag.line(&format!("check {name}")).code(1);
    let text = checked.text();
    assert!(
        text.contains("error: linux/arm64: the program /app is for x86-64, not for linux/arm64\nhint: "),
        "{checked}"
    );
    assert!(text.contains("TARGETARCH") && text.contains("1 error, 0 warnings"), "{checked}");
    assert!(checked.stderr.contains("does not tell the truth: 1 error"), "{checked}");
}

#[test]
fn ways_to_the_program_are_followed() {
    let bench = bench();
    let (arm64, amd64) = (program_of("arm64"), program_of("amd64"));
    let base = layer(&[("usr/bin/busybox", &arm64), ("bin", b"->usr/bin"), ("usr/bin/sh", b"->busybox")]);
    let script = layer(&[("entry", b"#!/bin/sh\nexec app\n"), ("usr/local/bin/app", &amd64)]);
    let image = |words: &[&str]| bench.layout.image("linux/arm64", words, &[base.clone(), script.clone()]);
    // The script's interpreter is right, the other program is found as a program of the image.
    let found = bench.findings(vec![image(&["/entry"])], "");
    only(&found, "error", "foreign-programs", &["/usr/local/bin/app", "x86-64", "linux/arm64"]);
    let found = bench.findings(vec![image(&["/bin/sh", "-c", "exec app --flag"])], "");
    only(&found, "error", "foreign-entry-point", &["/usr/local/bin/app"]);
    let found = bench.findings(vec![image(&["/missing"])], "");
    assert!(
        found
            .iter()
            .any(|(_, code, message)| code == "entry-point" && message.contains("/missing is not in the image"))
    );
    let removed = layer(&[("usr/bin/.wh.busybox", b"")]);
    let image = bench.layout.image("linux/arm64", &["/bin/sh"], &[base.clone(), removed]);
    only(&bench.findings(vec![image], ""), "error", "entry-point", &["/bin/sh", "/usr/bin/busybox"]);
    let dynamic = layer(&[("app", &program_with_loader("/lib/ld-musl-x86_64.so.1"))]);
    let image = bench.layout.image("linux/amd64", &["/app"], &[dynamic]);
    only(&bench.findings(vec![image], ""), "error", "entry-point", &["/lib/ld-musl-x86_64.so.1", "/app"]);
}

#[test]
fn levels_are_promises() {
    let bench = bench();
    let app = layer(&[("app", &program_of_level(3))]);
    let plain = bench.layout.image("linux/amd64", &["/app"], std::slice::from_ref(&app));
    only(&bench.findings(vec![plain], ""), "error", "entry-point-level", &["x86-64 v3", "linux/amd64"]);
    let level = bench.layout.image("linux/amd64/v3", &["/app"], &[app]);
    assert_eq!(bench.findings(vec![level], ""), []);
}

#[test]
fn index_and_config_have_to_agree() {
    let bench = bench();
    let claim = |image: Descriptor, platform: &str| image.with_platform(platform.parse().expect("a platform"));
    let lie = claim(bench.layout.honest("linux/amd64"), "linux/arm64");
    let found = bench.findings(vec![lie], "");
    assert!(
        found.iter().any(|(_, code, message)| code == "config-platform"
            && message == "the index says linux/arm64, the config says linux/amd64"),
        "{found:?}"
    );
    let wrong_variant = claim(bench.layout.honest("linux/arm/v7"), "linux/arm/v6");
    only(&bench.findings(vec![wrong_variant], ""), "error", "config-platform", &["linux/arm/v6", "linux/arm/v7"]);
    let app = layer(&[("app", &program_of("arm"))]);
    let silent = bench.layout.image_with("linux/arm/v6", &["/app"], &[app], |config, _| config.variant = None);
    only(&bench.findings(vec![silent], ""), "warning", "config-variant", &["linux/arm/v6"]);
}

#[test]
fn platforms_are_judged_as_clients_judge_them() {
    let bench = bench();
    let named = |os: &str, architecture: &str| {
        let mut image = bench.layout.honest("linux/amd64");
        image.platform = Some(Platform::new(os, architecture));
        image
    };
    only(&bench.findings(vec![named("linux", "x86_64")], ""), "warning", "platform-spelling", &["linux/amd64"]);
    let found = bench.findings(vec![named("linux", "vax")], "");
    assert!(
        found.iter().any(|(_, code, message)| code == "unknown-platform" && message.contains("linux/vax")),
        "{found:?}"
    );
    let mut arm = bench.layout.honest("linux/arm/v7");
    arm.platform = Some(Platform::linux("arm"));
    only(&bench.findings(vec![arm], ""), "warning", "no-variant", &["linux/arm"]);
    let mut bare = bench.layout.honest("linux/amd64");
    bare.platform = None;
    only(&bench.findings(vec![bare], ""), "warning", "no-platform", &["sha256:"]);
    let (first, second) = (
        bench.layout.honest("linux/amd64"),
        bench.layout.image("linux/amd64", &["/x"], &[layer(&[("x", &program_of("amd64"))])]),
    );
    only(&bench.findings(vec![first.clone(), second], ""), "error", "duplicate-platform", &["linux/amd64"]);
    only(&bench.findings(vec![first.clone(), first], ""), "warning", "repeated-entry", &["linux/amd64"]);
}

#[test]
fn attestations_are_told_and_held_to_their_marks() {
    let bench = bench();
    let image = bench.layout.honest("linux/amd64");
    let statement = bench.layout.blob(media_type::IN_TOTO, b"{}");
    let attest = |subject: &str, platform: Option<Platform>| {
        let config = bench.layout.blob(media_type::OCI_CONFIG, b"{}");
        let manifest = onetag_oci::Document::from_value(onetag_oci::Manifest::new(config, vec![statement.clone()]));
        let mut entry = bench.layout.blob(media_type::OCI_MANIFEST, manifest.bytes());
        entry.platform = platform;
        entry.annotations.insert("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned());
        entry.annotations.insert("vnd.docker.reference.digest".to_owned(), subject.to_owned());
        entry
    };
    let unknown = Some(Platform::new("unknown", "unknown"));
    let marked = attest(image.digest.as_str(), unknown.clone());
    only(&bench.findings(vec![image.clone(), marked], "--all"), "warning", "attestations", &["1 entry"]);
    let found = bench.findings(vec![image.clone(), attest(image.digest.as_str(), Some(Platform::linux("amd64")))], "");
    only(&found, "error", "unmarked-attestation", &["unknown/unknown"]);
    let found = bench.findings(vec![image, attest(&format!("sha256:{}", "0".repeat(64)), unknown)], "");
    assert!(found.iter().any(|(severity, code, _)| code == "loose-attestation" && severity == "warning"), "{found:?}");
}

#[test]
fn content_has_to_be_there_and_what_it_is_said_to_be() {
    let bench = bench();
    let mut wrong_size = bench.layout.honest("linux/amd64");
    wrong_size.size += 1;
    only(&bench.findings(vec![wrong_size], ""), "error", "size", &["manifest"]);
    let app = layer(&[("app", &program_of("amd64"))]);
    let larger =
        bench.layout.image_with("linux/amd64", &["/none-is-read"], std::slice::from_ref(&app), |config, layers| {
            layers[0].size += 7;
            config.os = "windows".to_owned();
        });
    let found = bench.findings(vec![larger.with_platform(Platform::new("windows", "amd64"))], "");
    assert!(
        found.iter().any(|(_, code, message)| code == "size" && message.contains("the layer sha256:")),
        "{found:?}"
    );
    let wrong_diff = bench.layout.image_with("linux/amd64", &["/app"], std::slice::from_ref(&app), |config, _| {
        config.rootfs.diff_ids[0] = DiffId(Digest::sha256(b"other"));
    });
    only(&bench.findings(vec![wrong_diff], ""), "error", "diff-id", &["unpacks to"]);
    let too_few = bench.layout.image_with("linux/amd64", &["/app"], std::slice::from_ref(&app), |config, _| {
        config.rootfs.diff_ids.clear();
    });
    only(&bench.findings(vec![too_few], ""), "error", "layer-count", &["1 layers", "0 diff IDs"]);
    let mislabelled = bench.layout.image_with("linux/amd64", &["/app"], std::slice::from_ref(&app), |_, layers| {
        layers[0].media_type = media_type::OCI_LAYER_GZIP.to_owned();
    });
    only(&bench.findings(vec![mislabelled], ""), "error", "compression", &["not compressed", "gzip"]);
    let packed = gzip(&app);
    let compressed = bench.layout.image_with("linux/amd64", &["/app"], std::slice::from_ref(&app), |_, layers| {
        layers[0] = bench.layout.blob(media_type::OCI_LAYER_GZIP, &packed);
    });
    assert_eq!(bench.findings(vec![compressed], "--all"), []);
    let broken = bench.layout.image("linux/amd64", &["/app"], &[app[..app.len() - 1500].to_vec()]);
    only(&bench.findings(vec![broken], ""), "error", "layer", &["cannot be unpacked"]);
    // Damage comes last: it stays in the layout.
    let image = bench.layout.honest("linux/amd64");
    std::fs::write(bench.layout.path(&Digest::sha256(&app)), vec![0; app.len()]).expect("own folder");
    only(&bench.findings(vec![image.clone()], ""), "error", "digest", &["layer"]);
    std::fs::remove_file(bench.layout.path(&Digest::sha256(&app))).expect("own folder");
    only(&bench.findings(vec![image.clone()], ""), "error", "missing", &["the layer"]);
    std::fs::remove_file(bench.layout.path(&image.digest)).expect("own folder");
    only(&bench.findings(vec![image], ""), "error", "missing", &["the manifest or index"]);
}

#[test]
fn layers_of_windows_are_left_where_they_are() {
    let bench = bench();
    let image = bench.layout.image_with("windows/amd64", &["cmd"], &[Vec::new()], |_, layers| {
        layers[0].media_type = media_type::DOCKER_FOREIGN_LAYER_GZIP.to_owned();
        layers[0].digest = Digest::sha256(b"elsewhere");
    });
    let name = bench.layout.name(&bench.layout.index(vec![image]));
    let checked = bench.onetag.line(&format!("check --all {name}")).success();
    assert!(checked.text().contains("note: windows/amd64: 1 layer is not looked into"), "{checked}");
}

#[test]
fn every_layer_is_read_at_most_once() {
    let world = World::any();
    let layout = Layout::new(&world.onetag, "layout");
    let shared = gzip(&layer(&[("usr/share/doc", b"text")]));
    let diff_id = DiffId(Digest::sha256(&layer(&[("usr/share/doc", b"text")])));
    let image = |platform: &str| {
        let parsed: Platform = platform.parse().expect("a platform");
        let own = layer(&[("usr/bin/app", &program_of(&parsed.architecture))]);
        layout.image_with(platform, &["app"], &[own], |config, layers| {
            layers.insert(0, layout.blob(media_type::OCI_LAYER_GZIP, &shared));
            config.rootfs.diff_ids.insert(0, diff_id.clone());
        })
    };
    let name = layout.name(&layout.index(vec![image("linux/amd64"), image("linux/arm64"), image("linux/s390x")]));
    world.onetag.user().own_tree(&world.onetag.work());
    world.onetag.ok(&format!("copy {name} {}", world.reference("app:1")));
    let faulty = FaultyRegistry::start(world.registry.address());
    for flags in ["--all", ""] {
        faulty.clear();
        let checked = world.onetag.ok(&format!("check {flags} {}/app:1", faulty.name()));
        assert!(checked.text().contains("4 layers read"), "{checked}");
        let mut count: HashMap<String, usize> = HashMap::new();
        for request in
            faulty.requests().iter().filter(|request| request.method == "GET" && request.path.contains("/blobs/"))
        {
            *count.entry(request.path.clone()).or_default() += 1;
        }
        assert!(count.len() == 7 && count.values().all(|count| *count == 1), "{count:?}");
    }
    // Nothing of it was kept.
    assert!(!world.onetag.root().join("blobs").exists());
}

#[test]
fn a_build_warns_of_programs_that_are_not_its_targets() {
    let world = World::any();
    let folder = world.context("app", "FROM scratch\nCOPY --chmod=755 app tool /\nENTRYPOINT [\"/app\"]\n", &[]);
    for (name, architecture) in [("app", "amd64"), ("tool", "arm64")] {
        std::fs::write(format!("{folder}/{name}"), program_of(architecture)).expect("own folder");
    }
    world.onetag.user().own_tree(&world.onetag.work());
    let platforms = "--platform linux/amd64,linux/arm64";
    let built = world.onetag.ok(&format!("build --progress plain {platforms} --load -t app {folder}"));
    for text in [
        "linux/arm64: the program /app is for x86-64, not for linux/arm64",
        "linux/amd64: 1 program is for AArch64, not for linux/amd64: /tool",
        "2 warnings found",
    ] {
        assert!(built.stderr.contains(text), "{text} is missing\n{built}");
    }
    world.onetag.line("check store:app").code(1).says("does not tell the truth");
}
