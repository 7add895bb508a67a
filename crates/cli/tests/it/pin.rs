//! `onetag pin` with real registries: what is written, what is told, and that a lock is honoured by a build.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use onetag_oci::Platform;
use onetag_testkit::fault::{Fault, FaultyRegistry, Rule};
use onetag_testkit::fixture::{Image, Multi};
use onetag_testkit::user::User;
use onetag_testkit::{Finished, Onetag, Running};
use serde_json::Value;

use crate::support::{BINARY, World};

const TWO: [&str; 2] = ["linux/amd64", "linux/arm64"];
const THREE: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];

/// An index in the registry, other content for another `seed`.
struct Published {
    digest: String,
    images: Vec<Image>,
}

impl Published {
    /// The digest of a platform's manifest.
    fn child(&self, platform: &str) -> String {
        let platform: Platform = platform.parse().expect("a platform");
        let image = self.images.iter().find(|image| image.platform == platform.normalize());
        image.expect("one of the index").manifest.digest().to_string()
    }
}

fn publish(world: &World, name: &str, platforms: &[&str], seed: usize) -> Published {
    // An archive without entries, of as many empty blocks as it takes to be another one.
    let image = |(at, platform): (usize, &&str)| {
        let platform: Platform = platform.parse().expect("a platform");
        Image::new(platform.normalize(), vec![0; 1024 + 512 * (8 * seed + at)])
    };
    let multi = Multi::new(platforms.iter().enumerate().map(image).collect());
    let layout = world.onetag.work().join(format!("layout-{}-{seed}", name.replace([':', '/'], "-")));
    std::fs::create_dir_all(&layout).expect("own folder");
    multi.write_layout(&layout, "x").expect("own folder");
    world.onetag.user().own_tree(&layout);
    let line = format!("copy -q oci:{}:x {}", layout.display(), world.reference(name));
    let digest = world.onetag.ok(&line).text().trim().to_owned();
    assert_eq!(digest, multi.index.digest().to_string());
    Published { digest, images: multi.images }
}

fn text(path: &PathBuf) -> String {
    std::fs::read_to_string(path).expect("a file")
}

fn json(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"))
}

#[test]
fn dockerfiles_are_pinned_and_nothing_else_of_them_changes() {
    let world = World::any();
    let (base, tools) = (publish(&world, "base:1", &TWO, 0), publish(&world, "tools:latest", &THREE, 1));
    let registry = world.registry.name();
    let plain = format!(
        "# syntax=docker/dockerfile:1\r\nARG BASE={registry}/base:1   \r\nFROM $BASE AS build\r\nFROM \\\n  \
         --platform=$BUILDPLATFORM \\\n # between\n  {registry}/base:1 \\\n  AS other\nCOPY --from=build / /\n\
         COPY --link --from=\"{registry}/tools\" /a \\\n  /b\nRUN --mount=from={registry}/tools:latest,target=/x <<EOF\n\
         FROM {registry}/base:1\nEOF\nFROM scratch"
    );
    let file = world.onetag.file("app/Dockerfile", &plain);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("own file");
    let link = world.onetag.work().join("link");
    std::os::unix::fs::symlink("app/Dockerfile", &link).expect("own folder");

    let dry = world.onetag.ok("pin --dry-run -f app/Dockerfile");
    assert_eq!(text(&file), plain);
    assert!(dry.text().starts_with("--- a/app/Dockerfile\n+++ b/app/Dockerfile\n@@ "), "{dry}");
    assert!(dry.stderr.contains("to be pinned"), "{dry}");

    let pinned = world.onetag.ok("pin -f link");
    let (base, tools) = (format!("@{}", base.digest), format!("@{}", tools.digest));
    let expected = plain
        .replace(&format!("ARG BASE={registry}/base:1"), &format!("ARG BASE={registry}/base:1{base}"))
        .replace(&format!("  {registry}/base:1 \\"), &format!("  {registry}/base:1{base} \\"))
        .replace(&format!("{registry}/tools\""), &format!("{registry}/tools:latest{tools}\""))
        .replace(&format!("{registry}/tools:latest,"), &format!("{registry}/tools:latest{tools},"));
    assert_eq!(text(&file), expected, "{pinned}");
    assert!(pinned.text().contains("4 pinned; wrote link"), "{pinned}");
    assert!(std::fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o640);

    let again = world.onetag.ok("pin -f app/Dockerfile");
    assert!(again.text().contains("4 kept; nothing written"), "{again}");
    assert_eq!(text(&file), expected);
    world.onetag.ok("pin --check --platform linux/amd64,linux/arm64 -f app");
    let lacking = world.onetag.line("pin --check --platform linux/amd64,linux/s390x -f app").code(1);
    assert!(lacking.text().contains("LACKS linux/s390x"), "{lacking}");
}

#[test]
fn what_moved_is_told_and_refreshed() {
    let world = World::any();
    let old = publish(&world, "base:1", &TWO, 0);
    let file = world.onetag.file("Dockerfile", format!("FROM {}\n", world.reference("base:1")));
    let missing = world.onetag.line("pin --check").code(1);
    assert!(
        missing.text().contains("NOT PINNED") && missing.stderr.contains("hint: onetag pin -f Dockerfile"),
        "{missing}"
    );
    world.onetag.ok("pin");
    let new = publish(&world, "base:1", &["linux/amd64", "linux/s390x"], 1);
    let stale = world.onetag.line("pin --check").code(1);
    assert!(
        stale.text().contains("STALE") && stale.stderr.contains("hint: onetag pin --update -f Dockerfile"),
        "{stale}"
    );
    assert!(text(&file).contains(&old.digest));
    let found = json(&world.onetag.line("pin --check --json").code(1));
    let image = &found["files"][0]["images"][0];
    assert_eq!((&image["status"], &image["current"]), (&"stale".into(), &Value::from(new.digest.clone())));

    let updated = world.onetag.ok("pin --update");
    for words in [
        "platforms: +linux/s390x -linux/arm64",
        "created:   unknown -> unknown",
        "(linux/amd64)",
        "1 updated; wrote Dockerfile",
    ] {
        assert!(updated.text().contains(words), "{words} is missing\n{updated}");
    }
    assert_eq!(text(&file), format!("FROM {}@{}\n", world.reference("base:1"), new.digest));
    world.onetag.ok("pin --check");
    assert!(world.onetag.ok("pin --update").text().contains("1 up to date; nothing written"));

    // What was pinned is gone: the update says so and goes on.
    let absent = format!("sha256:{}", "0".repeat(64));
    world.onetag.file("Dockerfile", format!("FROM {}@{absent}\n", world.reference("base:1")));
    assert!(world.onetag.line("pin --check").code(1).text().contains("no longer has"));
    assert!(world.onetag.ok("pin --update").text().contains("no longer in its registry"));
    assert!(text(&file).contains(&new.digest));
}

#[test]
fn a_single_platform_is_pinned_on_purpose_only() {
    let world = World::any();
    let index = publish(&world, "base:1", &TWO, 0);
    let name = world.reference("base:1");
    let file = world.onetag.file("Dockerfile", format!("FROM {name}@{}\n", index.child("linux/arm64")));
    let single = world.onetag.line("pin --check").code(1);
    assert!(single.text().contains("is the manifest of linux/arm64 alone"), "{single}");
    world.onetag.line("pin --check --platform linux/arm64,linux/amd64").code(1).says("pins the index");
    world.onetag.ok("pin --check --platform linux/arm64");
    world.onetag.line("pin --check --platform linux/amd64").code(1);
    let updated = world.onetag.ok("pin --update");
    assert!(updated.text().contains("platforms: +linux/amd64"), "{updated}");
    assert_eq!(text(&file), format!("FROM {name}@{}\n", index.digest));

    world.onetag.file("Dockerfile", format!("FROM {name}\nFROM --platform=linux/amd64 {name}\n"));
    world.onetag.ok("pin --platform linux/arm64");
    let (arm64, amd64) = (index.child("linux/arm64"), index.child("linux/amd64"));
    assert_eq!(text(&file), format!("FROM {name}@{arm64}\nFROM --platform=linux/amd64 {name}@{amd64}\n"));
    world.onetag.line("pin --platform linux/arm64,linux/amd64").failure().says("the whole index");
    world.onetag.file("Dockerfile", format!("FROM {name}\n"));
    let absent = world.onetag.line("pin --platform linux/s390x").code(1);
    assert!(absent.text().contains("has no linux/s390x, it has linux/amd64, linux/arm64"), "{absent}");
    assert_eq!(text(&file), format!("FROM {name}\n"));

    // A tag that is a bare manifest: pinned as it is, and told for what it is.
    world.onetag.ok(&format!("copy -q --platform linux/amd64 {name} {}", world.reference("bare:1")));
    world.onetag.file("Dockerfile", format!("FROM {}\n", world.reference("bare:1")));
    assert!(world.onetag.ok("pin").text().contains("linux/amd64 alone"));
    world.onetag.ok("pin --check");
    world.onetag.line("pin --check --platform linux/amd64,linux/arm64").code(1).says("choose an image");
}

#[test]
fn all_problems_are_told_at_once_and_nothing_is_written() {
    let world = World::any();
    publish(&world, "base:1", &TWO, 0);
    let absent = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let closed = FaultyRegistry::start(world.registry.address());
    closed.add(Rule::always("GET", "/manifests/", Fault::status(401)));
    let base = world.reference("base:1");
    let plain = format!("FROM {base}\nFROM {}\nFROM {absent}/x:1\n", world.reference("none:1"));
    let file = world.onetag.file("Dockerfile", &plain);
    let yaml =
        format!("services:\n  a:\n    image: {base}\n  b:\n    image: {}/x:1\n  c:\n    image: Bad\n", closed.name());
    let compose = world.onetag.file("compose.yaml", &yaml);
    let failed = world.onetag.line("pin -f Dockerfile compose.yaml").code(1);
    for words in [
        "Dockerfile:2: FROM".to_owned(),
        "none:1: not found".to_owned(),
        format!("cannot connect to {absent}"),
        "refuses access".to_owned(),
        "\"Bad\" is not an image".to_owned(),
        "nothing written".to_owned(),
    ] {
        assert!(failed.text().contains(&words), "{words} is missing\n{failed}");
    }
    for words in
        ["4 images of 6 cannot be resolved; nothing was written", &format!("hint: onetag login {}", closed.name())]
    {
        assert!(failed.stderr.contains(words), "{words} is missing\n{failed}");
    }
    assert_eq!((text(&file), text(&compose)), (plain, yaml));
    let except = format!("pin --except {absent}/x --except {}", world.reference("none"));
    assert!(world.onetag.ok(&except).text().contains("1 pinned, 2 skipped; wrote Dockerfile"));
    world.onetag.file("Dockerfile", "FROM a\nRUNN x\n");
    world.onetag.line("pin").failure().says("unknown instruction: RUNN");
    world.onetag.file("broken.yaml", "a: [\n");
    world.onetag.line("pin -f broken.yaml").failure().says("broken.yaml:");
    std::fs::remove_file(&file).expect("own file");
    assert!(world.onetag.line("pin --check").code(1).text().contains("compose.yaml:3: services.a.image"));
    world.onetag.line("pin -f absent").failure().says("cannot read absent");
}

#[test]
fn each_reference_is_asked_for_once() {
    let world = World::any();
    publish(&world, "base:1", &TWO, 0);
    let registry = FaultyRegistry::start(world.registry.address());
    let name = format!("{}/base:1", registry.name());
    world.onetag.file("Dockerfile", format!("FROM {name} AS a\nFROM {name}\nCOPY --from={name} /a /b\n"));
    world
        .onetag
        .file("pod.yaml", format!("apiVersion: v1\nkind: Pod\nspec: {{containers: [{{image: \"{name}\"}}]}}\n"));
    world.onetag.ok("pin -f Dockerfile pod.yaml");
    let asked = registry.requests().iter().filter(|request| request.path.contains("/manifests/")).count();
    assert_eq!(asked, 1);
    world.onetag.ok("pin -f Dockerfile pod.yaml");
    assert_eq!(registry.requests().iter().filter(|request| request.path.contains("/manifests/")).count(), 1);
}

#[test]
fn yaml_is_pinned_by_image_field() {
    let world = World::any();
    let base = publish(&world, "base:1", &TWO, 0);
    let name = world.reference("base:1");
    let compose = format!(
        "# a\nx-image: &image {name} # the anchor\nservices:\n  web: {{ image: *image, command: [\"image: {name}\"] }}\n  \
         built:\n    build: .\n    image: {name}\n  worker:\n    image:   '{name}'\n  other:\n    image: {name}-${{SUFFIX}}\n"
    );
    let file = world.onetag.file("compose.yaml", &compose);
    let cron = format!(
        "apiVersion: batch/v1\r\nkind: CronJob\r\nspec:\r\n  jobTemplate:\r\n    spec:\r\n      template:\r\n        spec:\r\n          \
         containers:\r\n          - {{name: a, image: \"{name}\"}}\r\n---\r\nkind: Other\r\nimage: {name}\r\n"
    );
    let pods = world.onetag.file("cron.yml", &cron);
    let pinned = world.onetag.ok("pin -f compose.yaml -f cron.yml");
    let with = format!("{name}@{}", base.digest);
    let expected = compose
        .replacen(&format!("&image {name}"), &format!("&image {with}"), 1)
        .replace(&format!("'{name}'"), &format!("'{with}'"));
    assert_eq!(text(&file), expected, "{pinned}");
    assert_eq!(text(&pods), cron.replace(&format!("\"{name}\""), &format!("\"{with}\"")));
    assert!(pinned.text().contains("services.other.image") && pinned.text().contains("SUFFIX"), "{pinned}");
}

#[test]
fn standard_input_is_pinned_on_standard_output() {
    let world = World::any();
    let base = publish(&world, "base:1", &TWO, 0);
    let piped = |arguments: &[&str], input: &str| {
        let mut running = Running::start(world.onetag.command(arguments).stdin(Stdio::piped()));
        running.stdin().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
        running.finish(Duration::from_secs(60))
    };
    let name = world.reference("base:1");
    let done = piped(&["pin", "-f", "-"], &format!("FROM {name}\n")).success();
    assert_eq!(done.text(), format!("FROM {name}@{}\n", base.digest));
    assert!(done.stderr.contains("-:1: FROM"), "{done}");
    let done = piped(&["pin", "-f", "-"], &format!("services: {{a: {{image: {name}}}}}\n")).success();
    assert_eq!(done.text(), format!("services: {{a: {{image: {name}@{}}}}}\n", base.digest));
    let failed = piped(&["pin", "-f", "-"], &format!("FROM {}\n", world.reference("none:1"))).code(1);
    assert_eq!(failed.text(), "");
}

#[test]
fn a_lock_says_what_a_build_takes() {
    let world = World::any();
    let native = Platform::host().to_string();
    let old = publish(&world, "base:1", &[&native], 0);
    let name = world.reference("base:1");
    let dockerfile = format!("ARG TAG=1\nFROM {}:${{TAG}}\nCOPY file /\n", world.reference("base"));
    let context = world.context("app", &dockerfile, &[("file", "content")]);
    let layer = |flags: &str, to: &str| {
        let reference = world.reference(to);
        let built = world.onetag.ok(&format!("build --progress plain {flags} --push -t {reference} {context}"));
        let raw = world.onetag.ok(&format!("imagetools inspect --raw {reference}"));
        let manifest: Value = serde_json::from_slice(&raw.stdout).expect("JSON");
        (manifest["layers"][0]["digest"].as_str().expect("a layer").to_owned(), built)
    };
    let layer_of = |published: &Published| published.images[0].manifest.layers[0].digest.to_string();

    let lock = format!("{context}/onetag.lock");
    let missing = world.onetag.line(&format!("pin --check --lock {lock} -f {context}")).failure();
    missing.says("onetag.lock");
    world.onetag.ok(&format!("pin --lock {lock} -f {context}"));
    let written = std::fs::read(&lock).expect("a lock");
    let content: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(content["images"][&name]["digest"], old.digest.as_str());
    assert_eq!(std::fs::read_to_string(format!("{context}/Dockerfile")).expect("a file"), dockerfile);
    world.onetag.ok(&format!("pin --lock {lock} -f {context}"));
    assert_eq!(std::fs::read(&lock).expect("a lock"), written);
    world.onetag.ok(&format!("pin --check --lock {lock} -f {context}"));

    let new = publish(&world, "base:1", &[&native], 1);
    let stale = world.onetag.line(&format!("pin --check --lock {lock} -f {context}")).code(1);
    assert!(stale.text().contains("STALE") && stale.stderr.contains(&format!("--update --lock {lock}")), "{stale}");
    let (taken, built) = layer("", "app:1");
    assert_eq!(taken, layer_of(&old));
    assert!(built.stderr.contains(&format!("FROM {name}@{}", old.digest)), "{built}");
    let (taken, built) = layer("--pull", "app:2");
    assert_eq!(taken, layer_of(&old));
    assert!(built.stderr.contains("--pull does not move"), "{built}");
    assert_eq!(layer("--no-lock", "app:3").0, layer_of(&new));
    assert_eq!(layer(&format!("--lock {lock}"), "app:4").0, layer_of(&old));

    world.onetag.ok(&format!("pin --update --lock {lock} -f {context}"));
    assert_eq!(layer("", "app:5").0, layer_of(&new));

    // What the lock does not have: a warning where it was found, an error where it was asked for.
    publish(&world, "base:2", &[&native], 2);
    let (_, built) = layer("--build-arg TAG=2", "app:6");
    assert!(built.stderr.contains("base:2 is not in") && built.stderr.contains("onetag pin --lock"), "{built}");
    let line = format!("build --progress plain --build-arg TAG=2 --lock {lock} {context}");
    let refused = world.onetag.line(&line).failure();
    assert!(
        refused.stderr.contains("base:2 is not in") && refused.stderr.contains("hint: onetag pin --lock"),
        "{refused}"
    );
    let absent = String::from_utf8(written).expect("text").replace(&old.digest, &format!("sha256:{}", "0".repeat(64)));
    world.onetag.file("app/onetag.lock", absent);
    let gone = world.onetag.line(&format!("build --progress plain {context}")).failure();
    assert!(
        gone.stderr.contains("onetag.lock has sha256:0000") && gone.stderr.contains("hint: onetag pin --update"),
        "{gone}"
    );
    world.onetag.file("app/onetag.lock", "{\"version\": 9}");
    world.onetag.line(&format!("build --progress plain {context}")).failure().says("version 9");
    world.onetag.line(&format!("pin --lock {lock} -f {context}")).failure().says("version 9");
}

#[test]
fn help_names_the_ways_to_pin() {
    let onetag = Onetag::new(BINARY, User::current());
    let help = onetag.ok("pin --help");
    for flag in ["--update", "--check", "--lock", "--platform", "--dry-run", "--json", "--except"] {
        assert!(help.text().contains(flag), "{flag} is missing\n{help}");
    }
}
