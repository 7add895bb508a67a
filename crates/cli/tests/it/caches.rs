//! Caches that builds share, as users type them: two processes with stores of their own, a registry between them.

use std::time::Duration;

use onetag_oci::Manifest;
use onetag_testkit::{Onetag, require};

use crate::support::{BINARY, World};

const DOCKERFILE: &str =
    "FROM scratch AS build\nCOPY src /src/\nFROM scratch\nCOPY --from=build /src /out/\nCOPY a /\n";

fn context(world: &World, name: &str) -> String {
    world.context(name, DOCKERFILE, &[("src/file", &format!("source of {name}")), ("a", name)])
}

/// Another machine: a store of its own, the same registry.
fn machine(world: &World) -> Onetag {
    Onetag::new(BINARY, world.onetag.user().clone())
}

/// The step names that are followed by `CACHED`, and those that ran.
fn steps(output: &str) -> (usize, usize) {
    let copies: Vec<&str> =
        output.lines().filter(|line| line.contains("] COPY ")).filter_map(|line| line.split(' ').next()).collect();
    let is_cached = |number: &&&str| output.lines().any(|line| line == format!("{number} CACHED"));
    let cached = copies.iter().filter(is_cached).count();
    (cached, copies.len() - cached)
}

#[test]
fn two_processes_write_one_cache_at_once_and_both_are_found() {
    let world = World::any();
    let cache = world.reference("app:cache");
    let machines = [machine(&world), machine(&world)];
    let contexts = [context(&world, "one"), context(&world, "two")];
    let running: Vec<_> = machines
        .iter()
        .zip(&contexts)
        .map(|(machine, context)| {
            let to = format!("type=registry,ref={cache},mode=max");
            machine.start(["build", "--progress", "plain", "--cache-to", &to, context])
        })
        .collect();
    for build in running {
        build.finish(Duration::from_secs(120)).success();
    }
    let reader = machine(&world);
    for context in &contexts {
        let built = reader.ok(&format!("build --progress plain --cache-from {cache} {context}"));
        assert_eq!(steps(&built.stderr), (3, 0), "{built}");
    }
}

#[test]
fn other_clients_see_an_artifact() {
    let skopeo = require!(some onetag_testkit::folder::program("skopeo"), "skopeo is not installed");
    let world = World::any();
    let cache = world.reference("app:cache");
    let context = context(&world, "one");
    world.onetag.ok(&format!("build --cache-to {cache} {context}"));
    let line = format!("inspect --tls-verify=false --raw docker://{cache}");
    let raw = world.onetag.run_program(&skopeo, &line).success();
    let manifest: Manifest = serde_json::from_slice(&raw.stdout).expect("a manifest");
    assert_eq!(manifest.artifact_type.as_deref(), Some("application/vnd.onetag.cache.v1"));
    assert_eq!(manifest.layers.len(), 2);
}

#[test]
fn what_users_of_other_builders_write() {
    let world = World::any();
    let context = context(&world, "one");
    let built = world.onetag.ok(&format!(
        "build --progress plain --cache-to type=gha,mode=max --cache-from type=s3,region=x --cache-from {} {context}",
        world.reference("app:none")
    ));
    assert!(built.stderr.contains("--cache-to type=gha does nothing here"), "{built}");
    assert!(built.stderr.contains("--cache-from type=s3 does nothing here"), "{built}");
    assert!(built.stderr.contains("there is no cache yet"), "{built}");
    let refused = world.onetag.line(&format!("build --cache-to type=registry {context}"));
    assert!(!refused.status.success() && refused.stderr.contains("requires ref="), "{refused}");
    let app = world.reference("app:1");
    world.onetag.ok(&format!("build --push -t {app} {context}"));
    let refused = world.onetag.line(&format!("build --cache-to {app} {context}"));
    assert!(refused.stderr.contains("hint: a cache needs a name of its own"), "{refused}");
    let folder = world.onetag.work().join("cache").display().to_string();
    world.onetag.ok(&format!("build --cache-to type=local,dest={folder},mode=max {context}"));
    let built = machine(&world).ok(&format!("build --progress plain --cache-from type=local,src={folder} {context}"));
    // The store was filled by a build without a cache to write: the first stage's copy was put together in memory then,
    // no step needed its files, and nothing of it was kept. It is put together again.
    assert_eq!(steps(&built.stderr), (3, 0), "{built}");
}
