//! Before a build pulls or executes anything: bases that lack platforms are told together, with the ways out.

use std::fmt::Write as _;

use onetag_testkit::fault::FaultyRegistry;

use crate::crafted::Layout;
use crate::support::World;

/// A world whose registry has `one` (this host's platform and s390x), `two` (s390x and arm64), and of `many` the tags
/// `1` (s390x), `2` (s390x and this host's) and `3-slim` (this host's).
fn world(host: &str) -> World {
    let world = World::any();
    let layout = Layout::new(&world.onetag, "layout");
    for (name, platforms) in [
        ("one:1", vec![host, "linux/s390x"]),
        ("two:1", vec!["linux/s390x", "linux/ppc64le"]),
        ("many:1", vec!["linux/s390x"]),
        ("many:2", vec!["linux/s390x", host]),
        ("many:3-slim", vec![host]),
    ] {
        let index = layout.index(platforms.iter().map(|platform| layout.honest(platform)).collect());
        let source = layout.name(&index);
        world.onetag.user().own_tree(&world.onetag.work());
        world.onetag.ok(&format!("copy {source} {}", world.reference(name)));
    }
    world
}

const fn host() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

#[test]
fn all_misses_are_told_together() {
    let world = world(host());
    let (one, two) = (world.reference("one:1"), world.reference("two:1"));
    let mut dockerfile = String::new();
    write!(dockerfile, "FROM {one} AS build\nRUN false\nFROM {two}\nCOPY --from=build /app /app\n").expect("memory");
    let folder = world.context("app", &dockerfile, &[]);
    let platforms = format!("{},linux/s390x,linux/ppc64le", host());
    let built = world.onetag.line(&format!("build --progress plain --platform {platforms} {folder}")).code(1);
    for text in [
        &format!("   1 | >>> FROM {one} AS build\n"),
        &format!("{one} has no linux/ppc64le; it has {}, linux/s390x\n", host()),
        &format!("   3 | >>> FROM {two}\n"),
        &format!("{two} has no {}; it has linux/s390x, linux/ppc64le\n", host()),
        "failed to resolve source metadata for",
        "no match for platform in manifest: not found",
        "hint: build for the platforms that are there: --platform linux/s390x\n",
        &format!("Dockerfile:1: FROM --platform=$BUILDPLATFORM {one} AS build\n"),
    ] {
        assert!(built.stderr.contains(text), "{text} is missing\n{built}");
    }
    assert!(!built.stderr.contains("] RUN false"), "nothing is executed\n{built}");
}

#[test]
fn one_miss_is_told_as_other_errors_are() {
    let world = world(host());
    let one = world.reference("one:1");
    let folder = world.context("app", &format!("FROM {one}\nRUN true\n"), &[]);
    let built = world.onetag.line(&format!("build --progress plain --platform linux/riscv64 {folder}")).code(1);
    let expected = format!(
        "Dockerfile:1\n--------------------\n   1 | >>> FROM {one}\n   2 |     RUN true\n   3 |     \n--------------------\n\
         Dockerfile:1:6: {one} has no linux/riscv64; it has {}, linux/s390x\n    FROM {one}\n         {}\n\
         ERROR: failed to build: failed to solve: {one}: failed to resolve source metadata for {one}: \
         no match for platform in manifest: not found ({one} has no linux/riscv64, it has {}, linux/s390x)\n",
        host(),
        "^".repeat(one.len()),
        host()
    );
    assert!(built.stderr.contains(&expected), "{expected}\n{built}");
    let only = format!("hint: build for platforms that are there: --platform {},linux/s390x\n", host());
    assert!(built.stderr.contains(&only), "{built}");
}

#[test]
fn another_tag_that_has_the_platforms_is_found() {
    let world = world(host());
    let faulty = FaultyRegistry::start(world.registry.address());
    let many = format!("{}/many:1", faulty.name());
    let folder = world.context("app", &format!("FROM {many}\nLABEL a=b\n"), &[]);
    let platforms = format!("linux/s390x,{}", host());
    let built = world.onetag.line(&format!("build --progress plain --platform {platforms} {folder}")).code(1);
    let hint = format!("FROM {}/many:2\n", faulty.name());
    assert!(built.stderr.contains(&hint), "{hint}\n{built}");
    assert!(built.stderr.contains(&format!("another base that has linux/s390x, {}", host())), "{built}");
    let listed = faulty.requests().iter().filter(|request| request.path.contains("/tags/list")).count();
    assert_eq!(listed, 1);
}

#[test]
fn images_that_files_come_from_are_told_too() {
    let world = world(host());
    let (one, two) = (world.reference("one:1"), world.reference("two:1"));
    let dockerfile = format!("FROM {one}\nCOPY --from={two} /app /tool\n");
    let folder = world.context("app", &dockerfile, &[]);
    let built = world.onetag.line(&format!("build --progress plain --platform {} {folder}", host())).code(1);
    assert!(built.stderr.contains(&format!("   2 | >>> COPY --from={two} /app /tool\n")), "{built}");
    assert!(!built.stderr.contains("BUILDPLATFORM"), "a COPY has no platform of its own\n{built}");
}
