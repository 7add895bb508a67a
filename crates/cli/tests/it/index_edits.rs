//! `index edit`: what changes, what stays to the byte, and what is told.

use onetag_oci::{Digest, Document, Index};
use onetag_testkit::fault::{Fault, FaultyRegistry, Rule};
use onetag_testkit::folder::program;
use onetag_testkit::require;
use serde_json::Value;

use crate::support::World;

fn json(world: &World, name: &str) -> Value {
    serde_json::from_slice(&world.raw(name)).expect("JSON")
}

/// The config of a platform, as skopeo or anybody reads it.
fn config(world: &World, name: &str, platform: &str) -> Value {
    let format = "{{json .Image}}";
    let shown = world.onetag.run(["imagetools", "inspect", "--format", format, name]).success();
    let images: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    images[platform].clone()
}

#[test]
fn one_platform_changes_and_the_others_stay_to_the_byte() {
    let world = World::any();
    let (name, multi) = world.push_tiny("app:1", &["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    let flags = "--platform linux/arm64 --label org.example=1 --env A=b --user 33 --workdir /srv";
    let planned = world.onetag.ok(&format!("index edit --dry-run {flags} {name}"));
    for line in ["  ~ linux/arm64  ", "      + label org.example: 1\n", "      + env A: b\n", "      + workdir: /srv\n"]
    {
        assert!(planned.text().contains(line), "{line:?} is not in\n{planned}");
    }
    assert_eq!(world.raw(&name), multi.index.bytes(), "a dry run changes nothing");
    let edited = world.onetag.ok(&format!("index edit {flags} {name}"));
    let raw = world.raw(&name);
    assert_eq!(edited.text().trim(), Digest::sha256(&raw).to_string());
    let index: Document<Index> = Document::parse(raw).expect("an index");
    let before = &multi.index.manifests;
    assert_eq!((&index.manifests[0], &index.manifests[2]), (&before[0], &before[2]));
    assert_ne!(index.manifests[1].digest, before[1].digest);
    assert_eq!(index.manifests[1].platform, before[1].platform);
    let shown = config(&world, &name, "linux/arm64");
    assert_eq!(shown["config"]["Labels"]["org.example"], "1");
    assert_eq!(shown["config"]["User"], "33");
    assert!(shown["config"]["Env"].to_string().contains("\"A=b\""), "{shown}");
    assert!(config(&world, &name, "linux/amd64")["config"]["Labels"].is_null());
    let again = world.onetag.ok(&format!("index edit {flags} {name}"));
    assert!(again.stderr.contains("unchanged"), "{again}");
    let skopeo = require!(some program("skopeo"), "skopeo is not installed");
    let line = format!("--override-arch arm64 inspect --tls-verify=false --config docker://{name}");
    let seen: Value = serde_json::from_slice(&world.onetag.run_program(&skopeo, &line).success().stdout).expect("JSON");
    assert_eq!(seen["config"]["WorkingDir"], "/srv");
}

#[test]
fn every_platform_gets_an_entrypoint_and_annotations_at_every_level() {
    let world = World::any();
    let (name, _) = world.push_tiny("app:1", &["linux/amd64", "linux/arm64"]);
    let target = world.reference("app:2");
    let arguments = [
        "index",
        "edit",
        "--entrypoint",
        r#"["/bin/a", "b"]"#,
        "--cmd",
        "",
        "--annotation",
        "index:i=1",
        "--annotation",
        "manifest:m=2",
        "--annotation",
        "manifest-descriptor[linux/arm64]:d=3",
        "-t",
        &target,
        &name,
    ];
    world.onetag.run(arguments).success();
    let index = json(&world, &target);
    assert_eq!(index["annotations"]["i"], "1");
    assert_eq!(index["manifests"][1]["annotations"]["d"], "3");
    assert!(index["manifests"][0]["annotations"].is_null());
    for (number, platform) in ["linux/amd64", "linux/arm64"].into_iter().enumerate() {
        let config = config(&world, &target, platform);
        assert_eq!(config["config"]["Entrypoint"].to_string(), r#"["/bin/a","b"]"#);
        assert!(config["config"]["Cmd"].is_null());
        let digest = index["manifests"][number]["digest"].as_str().expect("a digest");
        let manifest = json(&world, &format!("{}@{digest}", world.reference("app")));
        assert_eq!(manifest["annotations"]["m"], "2");
    }
    let removed = world.onetag.ok(&format!("index edit --remove-annotation index:i --remove-env PATH --json {target}"));
    let removed: Value = serde_json::from_slice(&removed.stdout).expect("JSON");
    assert!(removed["changes"].to_string().contains("\"index\""), "{removed}");
    assert!(json(&world, &target)["annotations"].is_null());
}

#[test]
fn platforms_come_and_go_wherever_the_index_is() {
    let world = World::any();
    let (source, multi) = world.push_tiny("app:1", &["linux/amd64", "linux/386"]);
    let (more, other) = world.push_tiny("more:1", &["linux/arm64", "linux/amd64"]);
    for place in [world.reference("app:1"), "store:app:1".to_owned(), "oci:layout:app".to_owned()] {
        if place != source {
            world.onetag.ok(&format!("copy --quiet {source}@{} {place}", multi.index.digest()));
        }
        let edit =
            format!("index edit --remove linux/386 --add {more}@linux/arm64 --replace {more}@linux/amd64 {place}");
        world.onetag.ok(&edit);
        let index = json(&world, &place);
        let digests: Vec<&str> = index["manifests"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|child| child["digest"].as_str())
            .collect();
        let expected = [other.images[1].manifest.digest().as_str(), other.images[0].manifest.digest().as_str()];
        assert_eq!(digests, expected, "{place}");
        // all of it is there
        world.onetag.ok(&format!("copy --quiet {place} oci:proof-{}", place.replace(['/', ':'], "-")));
    }
    let refused = world.onetag.line(&format!("index edit --remove linux/386 {source}")).failure();
    assert!(refused.stderr.contains("has no linux/386: there are linux/amd64, linux/arm64"), "{refused}");
    let (third, _) = world.push_tiny("third:1", &["linux/arm64"]);
    let refused = world.onetag.line(&format!("index edit --add {third} {source}")).failure();
    assert!(
        refused.stderr.contains("has linux/arm64 already") && refused.stderr.contains("hint: --replace"),
        "{refused}"
    );
    let refused = world.onetag.line(&format!("index edit --entrypoint sh --platform linux/s390x {source}")).failure();
    assert!(refused.stderr.contains("has no linux/s390x"), "{refused}");
}

#[test]
fn attestations_of_changed_images_are_left_out_and_named() {
    let world = World::any();
    let (_, multi) = world.push_tiny("app:1", &["linux/amd64", "linux/arm64"]);
    let (_, about) = world.push_tiny("about:1", &["linux/amd64", "linux/arm64"]);
    let repository = world.reference("app");
    let mut sources = Vec::new();
    for image in &multi.images {
        sources.push(format!("{repository}@{}", image.manifest.digest()));
    }
    for (image, subject) in about.images.iter().zip(&multi.images) {
        let descriptor = serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": image.manifest.digest(),
            "size": image.manifest.size(),
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": subject.manifest.digest(),
            },
            "platform": {"architecture": "unknown", "os": "unknown"},
        });
        sources.push(descriptor.to_string());
    }
    // bare digests need all content in one repository
    world.onetag.ok(&format!("copy --quiet {} {repository}:about", world.reference("about:1")));
    let name = world.reference("app:attested");
    let mut arguments = vec!["imagetools".to_owned(), "create".to_owned(), "-t".to_owned(), name.clone()];
    arguments.extend(sources);
    world.onetag.run(&arguments).success();
    assert_eq!(json(&world, &name)["manifests"].as_array().map(Vec::len), Some(4));
    let edited = world.onetag.ok(&format!("index edit --platform linux/amd64 --label a=b {name}"));
    assert!(edited.stderr.contains("- attestation of linux/amd64"), "{edited}");
    let index = json(&world, &name);
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(3));
    let kept = &index["manifests"][2];
    assert_eq!(kept["digest"], about.images[1].manifest.digest().as_str());
    assert_eq!(kept["annotations"]["vnd.docker.reference.digest"], multi.images[1].manifest.digest().as_str());
}

#[test]
fn a_tag_that_moved_meanwhile_is_not_overwritten() {
    let world = World::any();
    let (name, multi) = world.push_tiny("app:1", &["linux/amd64", "linux/arm64"]);
    let proxy = FaultyRegistry::start(world.registry.address());
    let other = Digest::sha256(b"another index");
    proxy.add(Rule::always(
        "HEAD",
        "/manifests/1",
        Fault::Answer {
            status: 200,
            headers: vec![
                ("Content-Type".to_owned(), "application/vnd.oci.image.index.v1+json".to_owned()),
                ("Docker-Content-Digest".to_owned(), other.to_string()),
            ],
            body: b"another".to_vec(),
        },
    ));
    let refused = world.onetag.line(&format!("index edit --label a=b {}/app:1", proxy.name())).failure();
    assert!(refused.stderr.contains("moved meanwhile") && refused.stderr.contains(other.as_str()), "{refused}");
    assert!(refused.stderr.contains("hint: run the command again"), "{refused}");
    assert!(!proxy.requests().iter().any(|request| request.method == "PUT" && request.path.ends_with("/manifests/1")));
    assert_eq!(world.raw(&name), multi.index.bytes());
}
