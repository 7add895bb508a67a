//! What a disk does to a store, through the binary: every file of a pulled image deleted, emptied, cut and changed by
//! a bit. It is found, mended from the registry, or told with the images that it touches; never used in silence.

use std::path::{Path, PathBuf};
use std::process::Command;

use onetag_testkit::{Finished, Running};

use crate::support::{World, native_and_foreign};

#[derive(Clone, Copy, Debug)]
enum Way {
    Delete,
    Empty,
    Cut,
    Flip,
}

fn damage(path: &Path, way: Way) {
    let mut content = std::fs::read(path).expect("a file");
    match way {
        Way::Delete => return std::fs::remove_file(path).expect("own file"),
        Way::Empty => content.clear(),
        Way::Cut => content.truncate(content.len() / 2),
        Way::Flip => {
            let middle = content.len() / 2;
            content[middle] ^= 0x10;
        }
    }
    // a disk changes content, not the time of the last write
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a time");
    std::fs::write(path, content).expect("own file");
    let file = std::fs::File::options().write(true).open(path).expect("own file");
    file.set_modified(modified).expect("own file");
}

/// Files with content, those left out that are made anew or are copies for mending.
fn files(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
        let relative = path.strip_prefix(root).expect("below the root").to_owned();
        let name = relative.to_string_lossy();
        if ["locks", "leases", "tmp", "cache.db"].iter().any(|own| name.starts_with(own)) {
            continue;
        }
        if kind.is_dir() {
            files(root, &path, found);
        } else if kind.is_file() && entry.metadata().expect("metadata").len() > 0 {
            found.push(relative);
        }
    }
}

/// An image of two platforms and two layers in the registry, pulled and unpacked.
fn pulled(world: &World) -> String {
    let onetag = &world.onetag;
    let name = world.reference("app:1");
    let context = world.context(
        "app",
        "FROM scratch\nCOPY one /d/one\nCOPY two /two\n",
        &[("one", "the first file"), ("two", "the second file")],
    );
    let (native, foreign) = native_and_foreign();
    onetag.ok(&format!("build --platform {native},{foreign} --push -t {name} {context}"));
    onetag.ok("prune --all --force");
    onetag.ok(&format!("pull --all-platforms {name}"));
    copied_out(world, &onetag.root()).success();
    onetag.ok("builder prune --force");
    name
}

fn run(world: &World, root: &Path, line: &str) -> Finished {
    let mut command = world.onetag.command(line.split_whitespace());
    Running::start(command.env("ONETAG_ROOT", root)).finish(std::time::Duration::from_secs(120))
}

/// Copies a file of the image out, which unpacks its layers.
fn copied_out(world: &World, root: &Path) -> Finished {
    let context = world.context(
        "copier",
        &format!("FROM {} AS image\nFROM scratch\nCOPY --from=image /d /d\n", world.reference("app:1")),
        &[],
    );
    let out = world.onetag.work().join("out");
    let _ = std::fs::remove_dir_all(&out);
    run(world, root, &format!("build --no-cache -o type=local,dest={} {context}", out.display()))
}

#[test]
fn every_damage_is_found_and_mended_from_the_registry() {
    let world = World::any();
    let name = pulled(&world);
    let good = world.onetag.root();
    run(&world, &good, "fsck").success();
    let mut all = Vec::new();
    files(&good, &good, &mut all);
    for part in ["blobs", "layers", "index.json", "oci-layout"] {
        assert!(all.iter().any(|file| file.starts_with(part)), "no {part} among {all:?}");
    }
    let index = run(&world, &good, &format!("imagetools inspect --raw store:{name}")).success().stdout;
    let bad = world.onetag.work().join("bad");
    for file in &all {
        for way in [Way::Delete, Way::Empty, Way::Cut, Way::Flip] {
            let what = format!("{} {way:?}", file.display());
            let _ = std::fs::remove_dir_all(&bad);
            assert!(Command::new("cp").arg("-a").arg(&good).arg(&bad).status().expect("cp").success());
            damage(&bad.join(file), way);
            if file.ends_with("oci-layout") {
                // what says that this is a store is gone or made again; nothing is lost by it
                let found = run(&world, &bad, "images");
                assert!(found.status.success() || found.stderr.contains("oci-layout"), "{what}\n{found}");
                continue;
            }
            if file.starts_with("blobs") {
                let used = run(&world, &bad, &format!("save -o saved.tar {name}"));
                let is_told = used.stderr.contains("not in the archive") || !used.status.success();
                assert!(is_told, "{what} was used in silence\n{used}");
            }
            let found = run(&world, &bad, "fsck");
            if found.status.success() {
                // a platform whose manifest is gone is one that is not held: told, and had again by a pull
                assert!(matches!(way, Way::Delete) && found.stderr.contains("is not here"), "{what}\n{found}");
                assert!(run(&world, &bad, "images").success().text().contains("(1 not here)"), "{what}");
                run(&world, &bad, &format!("pull --all-platforms {name}")).success();
                assert!(!run(&world, &bad, "fsck").success().stderr.contains("is not here"), "{what}");
                continue;
            }
            assert!(found.stderr.contains("hint: onetag fsck --repair"), "{what}\n{found}");
            assert!(!file.starts_with("blobs") || found.stderr.contains(&name), "{what}\n{found}");
            let mended = run(&world, &bad, "fsck --repair");
            assert!(mended.status.success(), "{what}\n{mended}");
            run(&world, &bad, "fsck").success();
            let raw = run(&world, &bad, &format!("imagetools inspect --raw store:{name}")).success();
            assert_eq!(raw.stdout, index, "{what}");
            copied_out(&world, &bad).success();
            let copied = std::fs::read_to_string(world.onetag.work().join("out/d/one")).expect("the file");
            assert_eq!(copied, "the first file", "{what}");
        }
    }
}

#[test]
fn what_no_registry_has_is_told_with_its_image() {
    let world = World::any();
    let onetag = &world.onetag;
    let context = world.context("own", "FROM scratch\nCOPY f /\n", &[("f", "only here")]);
    onetag.ok(&format!("build --load -t own:1 {context}"));
    onetag.ok("builder prune --all --force");
    let blobs = onetag.root().join("blobs/sha256");
    let of_layer = |path: &PathBuf| std::fs::read(path).expect("a blob").first() != Some(&b'{');
    let mut found = std::fs::read_dir(&blobs).expect("a store").map(|entry| entry.expect("an entry").path());
    let layer = found.find(of_layer).expect("a layer");
    damage(&layer, Way::Flip);
    let told = onetag.line("fsck --repair").failure();
    assert!(told.stderr.contains("own:1"), "{told}");
    assert!(told.stderr.contains("hint: "), "{told}");
    let used = onetag.line("save -o own.tar own:1");
    assert!(!used.status.success() || used.stderr.contains("not in the archive"), "{used}");
}
