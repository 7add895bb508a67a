//! Indexes that other tools wrote: read, proven, carried by digest.

use std::path::PathBuf;

use onetag_oci::Digest;
use onetag_testkit::folder::repository;
use onetag_testkit::host::files_below;
use serde_json::Value;

use crate::support::World;

/// Copies a layout to where every user may read it.
fn layout(world: &World, name: &str) -> PathBuf {
    let source = repository().join("tests/indexes").join(name);
    for path in files_below(&source, &|_| true) {
        let relative = path.strip_prefix(&source).expect("below it");
        world.onetag.file(&format!("{name}/{}", relative.display()), std::fs::read(&path).expect("a fixture"));
    }
    world.onetag.work().join(name)
}

#[test]
fn their_indexes_are_read_proven_and_carried_by_digest() {
    let world = World::any();
    for (name, platforms, machines) in [
        ("buildah", &["linux/amd64", "linux/arm64", "linux/arm/v7"][..], &["x86-64", "AArch64", "ARM"][..]),
        ("podman", &["linux/amd64", "linux/arm64", "linux/arm/v7"], &["x86-64", "AArch64", "ARM"]),
        ("docker-list", &["linux/amd64", "linux/arm64", "linux/arm/v7"], &["x86-64", "AArch64", "ARM"]),
        ("umoci", &["linux/arm64"], &["AArch64"]),
    ] {
        let source = format!("oci:{}", layout(&world, name).display());
        let raw = world.onetag.ok(&format!("imagetools inspect --raw {source}"));
        let inspected = world.onetag.ok(&format!("imagetools inspect {source}"));
        assert!(inspected.text().contains(Digest::sha256(&raw.stdout).as_str()), "{inspected}");
        let checked = world.onetag.ok(&format!("check --all --json {source}"));
        let report: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
        let entries = report[0]["platforms"].as_array().expect("platforms");
        let column =
            |key: &str| entries.iter().map(|entry| entry[key].as_str().unwrap_or_default()).collect::<Vec<_>>();
        assert_eq!((column("platform"), column("machine")), (platforms.to_vec(), machines.to_vec()), "{name}");
        assert!(column("entryPoint").iter().all(|entry| *entry == "/app"), "{checked}");
        let target = world.reference(&format!("{name}:1"));
        world.onetag.ok(&format!("copy {source} {target}"));
        let carried = world.onetag.ok(&format!("imagetools inspect --raw {target}"));
        assert_eq!(carried.stdout, raw.stdout, "{name} is carried byte for byte");
        world.onetag.ok(&format!("check {target}"));
        let created = world.onetag.ok(&format!("imagetools create --dry-run {target}"));
        let index: Value = serde_json::from_slice(&created.stdout).expect("JSON");
        let named = index["manifests"].as_array().expect("manifests").iter();
        let named: Vec<&str> =
            named.map(|entry| entry["platform"]["architecture"].as_str().unwrap_or_default()).collect();
        assert_eq!(named.len(), platforms.len(), "{created}");
        assert!(
            platforms.iter().zip(named).all(|(platform, named)| platform.split('/').nth(1) == Some(named)),
            "{created}"
        );
    }
}
