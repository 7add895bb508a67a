//! Every platform built on a runner of its own, and one command that puts them together.

use onetag_testkit::fault::FaultyRegistry;
use onetag_testkit::folder::program;
use onetag_testkit::require;
use serde_json::Value;

use crate::support::World;

/// Builds for a platform, pushed by digest to a repository, with a record.
fn build(world: &World, context: &str, platform: &str, repository: &str, record: &str) -> Value {
    world.onetag.ok(&format!(
        "build --progress plain --platform {platform} --push-by-digest --record {record} -t {repository} {context}"
    ));
    let content = std::fs::read(world.onetag.work().join(record)).expect("the record was written");
    serde_json::from_slice(&content).expect("JSON")
}

#[test]
fn runners_push_by_digest_and_one_command_makes_the_image() {
    let world = World::any();
    let context = world.context(
        "app",
        "FROM scratch\nARG TARGETARCH\nCOPY note /note\nLABEL arch=$TARGETARCH\n",
        &[("note", "x")],
    );
    let git = require!(some program("git"), "git is not installed");
    for line in ["init -q app", "-C app add .", "-C app -c user.name=a -c user.email=a@b commit -qm one"] {
        world.onetag.run_program(&git, line).success();
    }
    let repositories = [world.reference("ci/amd64"), world.reference("ci/arm64")];
    let amd64 = build(&world, &context, "linux/amd64", &repositories[0], "amd64.json");
    let head = world.onetag.run_program(&git, "-C app rev-parse HEAD").success();
    assert_eq!(amd64["source"]["revision"], head.text().trim());
    assert_eq!(
        (&amd64["source"]["dirty"], &amd64["repository"]),
        (&Value::from(false), &Value::from(repositories[0].as_str()))
    );
    world.onetag.line(&format!("imagetools inspect {}:latest", repositories[0])).failure().says("not found");
    build(&world, &context, "linux/arm64", &repositories[1], "arm64.json");
    let image = world.reference("app:1");
    let merge = format!("imagetools merge -t {image} --expect linux/arm64,linux/amd64");
    let missing = world.onetag.line(&format!("{merge} amd64.json")).failure();
    assert!(missing.stderr.contains("linux/arm64 is expected and in no record"), "{missing}");
    assert!(missing.stderr.contains("hint: onetag build --platform linux/arm64 --push-by-digest"), "{missing}");
    world.onetag.line(&format!("imagetools inspect {image}")).failure();
    let merged = world.onetag.ok(&format!("{merge} amd64.json arm64.json"));
    let index: Value = serde_json::from_slice(&world.raw(&image)).expect("JSON");
    assert_eq!(index["manifests"][0]["platform"]["architecture"], "arm64", "the order is the expected one");
    assert_eq!(index["manifests"][1]["digest"], amd64["descriptor"]["digest"]);
    let again = world.onetag.ok(&format!("{merge} arm64.json amd64.json"));
    assert_eq!(merged.text(), again.text(), "the same records make the same image");
    let twice = world.onetag.line(&format!("{merge} amd64.json arm64.json amd64.json")).failure();
    assert!(twice.stderr.contains("linux/amd64 is in amd64.json and, the same image, in amd64.json"), "{twice}");
    let more =
        world.onetag.line(&format!("imagetools merge -t {image} --expect linux/amd64 amd64.json arm64.json")).failure();
    assert!(more.stderr.contains("linux/arm64 of arm64.json is not expected"), "{more}");
    let nothing = world.onetag.line(&format!("imagetools merge -t {image} app/Dockerfile")).failure();
    assert!(nothing.stderr.contains("not a record of `onetag build --record`"), "{nothing}");
}

#[test]
fn another_revision_is_refused_unless_it_is_meant() {
    let world = World::any();
    let context = world.context("app", "FROM scratch\nCOPY note /note\n", &[("note", "x")]);
    let git = require!(some program("git"), "git is not installed");
    for line in ["init -q app", "-C app add .", "-C app -c user.name=a -c user.email=a@b commit -qm one"] {
        world.onetag.run_program(&git, line).success();
    }
    let repository = world.reference("app");
    build(&world, &context, "linux/amd64", &repository, "amd64.json");
    world.onetag.file("app/note", "y");
    let arm64 = build(&world, &context, "linux/arm64", &repository, "arm64.json");
    assert_eq!(arm64["source"]["dirty"], true);
    let merge = format!("imagetools merge -t {repository}:1 amd64.json arm64.json");
    let refused = world.onetag.line(&merge).failure();
    assert!(refused.stderr.contains("-dirty") && refused.stderr.contains("--allow-mixed"), "{refused}");
    let proxy = FaultyRegistry::start(world.registry.address());
    world.onetag.ok(&format!("{merge} --allow-mixed"));
    // records are moved to the proxy's name, where the same content is in another repository's reach
    for record in ["amd64.json", "arm64.json"] {
        let path = world.onetag.work().join(record);
        let text = std::fs::read_to_string(&path).expect("a record");
        world.onetag.file(record, text.replace(&world.registry.name(), &proxy.name()));
    }
    let target = format!("{}/elsewhere:1", proxy.name());
    world.onetag.ok(&format!("imagetools merge -t {target} --allow-mixed amd64.json arm64.json"));
    let requests = proxy.requests();
    assert!(requests.iter().any(|request| request.path.contains("mount=")), "blobs are mounted across repositories");
    assert!(!requests.iter().any(|request| request.method == "GET" && request.path.contains("/elsewhere/blobs/")));
    let last = requests.iter().rfind(|request| request.method == "PUT").expect("a tag was put");
    assert!(last.path.ends_with("/elsewhere/manifests/1"), "the tag moves last");
}

#[test]
fn records_are_held_to_what_the_registry_has() {
    let world = World::any();
    let context = world.context("app", "FROM scratch\nCOPY note /note\n", &[("note", "x")]);
    let repository = world.reference("app");
    build(&world, &context, "linux/amd64", &repository, "a.json");
    let text = std::fs::read_to_string(world.onetag.work().join("a.json")).expect("a record");
    world.onetag.file("lie.json", text.replace("linux/amd64", "linux/s390x"));
    let lie = world.onetag.line(&format!("imagetools merge -t {repository}:1 lie.json")).failure();
    assert!(lie.stderr.contains("is for linux/s390x; it is for linux/amd64"), "{lie}");
    world.onetag.file("lost.json", text.replace(&format!("{repository}\""), &format!("{repository}/gone\"")));
    let lost = world.onetag.line(&format!("imagetools merge -t {repository}:1 lost.json")).failure();
    assert!(lost.stderr.contains("of lost.json (linux/amd64) is not in reach"), "{lost}");
    let unpushed = world.onetag.line(&format!("build --record x.json {context}")).failure();
    assert!(
        unpushed.stderr.contains("nothing is pushed") && unpushed.stderr.contains("--push-by-digest"),
        "{unpushed}"
    );
    let nameless = world.onetag.line(&format!("build --push-by-digest {context}")).failure();
    assert!(nameless.stderr.contains("needs a repository"), "{nameless}");
}

#[test]
fn the_commit_of_a_ci_system_counts_where_there_is_no_checkout() {
    let world = World::any();
    let context = world.context("app", "FROM scratch\nCOPY note /note\n", &[("note", "x")]);
    let repository = world.reference("app");
    let line = format!("build --push-by-digest --record a.json -t {repository} {context}");
    let mut command = world.onetag.command(line.split(' '));
    let output = command.env("GITHUB_SHA", "0123456789abcdef").output().expect("the binary runs");
    assert!(output.status.success());
    let record = std::fs::read_to_string(world.onetag.work().join("a.json")).expect("a record");
    assert!(record.contains("\"revision\": \"0123456789abcdef\""), "{record}");
}
