//! Docker's `manifest` commands: the same words, documents and order as Docker's own, whose output was looked at with
//! `docker manifest` 28.2 against this registry.

use onetag_oci::Digest;
use serde_json::Value;

use crate::support::World;

#[test]
fn lists_are_made_annotated_shown_pushed_and_forgotten() {
    let world = World::any();
    let (_, multi) = world.push_tiny("all:1", &["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    let list = world.reference("list:1");
    let mut images = Vec::new();
    for (image, tag) in multi.images.iter().zip(["amd64", "arm64", "arm"]) {
        let name = world.reference(&format!("one:{tag}"));
        world.onetag.ok(&format!("copy --quiet {}@{} {name}", world.reference("all"), image.manifest.digest()));
        images.push(name);
    }
    let [amd64, arm64, arm] = images.as_slice() else { panic!("three images") };
    let created = world.onetag.ok(&format!("manifest create {list} {arm64} {amd64}"));
    assert_eq!(created.text(), format!("Created manifest list {list}\n"));
    let refused = world.onetag.line(&format!("manifest create {list} {arm}")).failure();
    assert!(refused.stderr.contains("refusing to amend an existing manifest list with no --amend flag"), "{refused}");
    world.onetag.ok(&format!("manifest create --insecure --amend {list} {arm}"));
    world.onetag.ok(&format!("manifest annotate --variant v8 --os-version 1 --os-features a,b {list} {arm64}"));
    let wrong = world.onetag.line(&format!("manifest annotate --arch foo {list} {arm64}")).failure();
    assert!(wrong.stderr.contains("unsupported os/arch combination: linux/foo"), "{wrong}");
    let shown = world.onetag.ok(&format!("manifest inspect {list}"));
    let entry = |number: usize, platform: &str| {
        let (digest, size) = (multi.images[number].manifest.digest(), multi.images[number].manifest.size());
        format!(
            "      {{\n         \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n         \"size\": {size},\n         \
             \"digest\": \"{digest}\",\n         \"platform\": {{\n{platform}\n         }}\n      }}"
        )
    };
    let expected = format!(
        "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"application/vnd.oci.image.index.v1+json\",\n   \"manifests\": [\n{},\n{},\n{}\n   ]\n}}\n",
        entry(0, "            \"architecture\": \"amd64\",\n            \"os\": \"linux\""),
        entry(
            2,
            "            \"architecture\": \"arm\",\n            \"os\": \"linux\",\n            \"variant\": \"v7\""
        ),
        entry(
            1,
            "            \"architecture\": \"arm64\",\n            \"os\": \"linux\",\n            \"os.version\": \"1\",\n            \
             \"os.features\": [\n               \"a\",\n               \"b\"\n            ],\n            \"variant\": \"v8\""
        ),
    );
    assert_eq!(shown.text(), expected);
    let verbose = world.onetag.ok(&format!("manifest inspect -v {list}"));
    assert!(
        verbose.text().starts_with(&format!("[\n\t{{\n\t\t\"Ref\": \"{amd64}\",\n\t\t\"Descriptor\": {{\n")),
        "{verbose}"
    );
    let parsed: Value = serde_json::from_slice(&verbose.stdout).expect("JSON");
    assert_eq!(parsed[1]["OCIManifest"]["schemaVersion"], 2);
    let one = world.onetag.ok(&format!("manifest inspect {list} {arm64}"));
    assert!(one.text().starts_with("{\n\t\"schemaVersion\": 2,\n"), "{one}");
    let pushed = world.onetag.ok(&format!("manifest push --purge {list}"));
    let lines: Vec<&str> = pushed.text().lines().collect();
    let digest = multi.images[0].manifest.digest();
    assert_eq!(lines[0], format!("Pushed ref {}@{digest} with digest: {digest}", world.reference("list")));
    assert_eq!(lines[3], Digest::sha256(expected.trim_end().as_bytes()).to_string());
    assert_eq!(world.raw(&list), expected.trim_end().as_bytes());
    let gone = world.onetag.line(&format!("manifest rm {list}")).failure();
    assert!(gone.stderr.contains(&format!("No such manifest: {list}")), "{gone}");
    let nested = world.onetag.line(&format!("manifest create {} {list}", world.reference("list:2"))).failure();
    assert!(nested.stderr.contains("is a manifest list"), "{nested}");
    let absent = world.onetag.line(&format!("manifest inspect {}", world.reference("absent:1"))).failure();
    assert!(absent.stderr.contains("no such manifest: "), "{absent}");
}
