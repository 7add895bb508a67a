//! Every file of a store damaged in every way: found, mended, never used in silence.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use onetag_oci::Digest;
use onetag_store::{Damage, LayerId, RecordStorage, Store};

use crate::archive::{Archive, put};
use crate::collection::image;

/// A way to damage a file.
#[derive(Debug, Clone, Copy)]
enum Way {
    Delete,
    Empty,
    Truncate,
    Flip,
}

fn damage(path: &Path, way: Way) {
    let mut content = std::fs::read(path).unwrap();
    match way {
        Way::Delete => return std::fs::remove_file(path).unwrap(),
        Way::Empty => content.clear(),
        Way::Truncate => content.truncate(content.len() / 2),
        Way::Flip => {
            let middle = content.len() / 2;
            content[middle] ^= 0x10;
        }
    }
    let metadata = std::fs::metadata(path).unwrap();
    std::fs::write(path, content).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

fn make(root: &Path) {
    let store = Store::open(root).unwrap();
    let archive =
        || Archive::new().directory("d", 0o755).file("d/a", b"content a").symlink("l", "d/a").file("d/b", b"b");
    let (blobs, layer) = image(&store, "docker.io/library/app:latest", archive());
    let (_, other) =
        image(&store, "docker.io/library/other:latest", Archive::new().file("d/.wh.a", b"").file("c", b"c"));
    store.ensure_layer(&layer, &blobs[2], "").unwrap();
    let (_, blob) = put(&store, &Archive::new().file("d/.wh.a", b"").file("c", b"c").bytes());
    store.ensure_layer(&other, &blob, "").unwrap();
    store.stack(&[LayerId::Diff(layer), LayerId::Diff(other)]).unwrap();
    store.database().put("cache", b"key", b"value", &[]).unwrap();
}

/// Files whose loss or change loses nothing: made anew, or copies for mending.
fn is_immaterial(relative: &Path) -> bool {
    relative.starts_with("locks") || relative.starts_with("leases") || relative.starts_with("cache.db")
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn every_damage_is_found_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    make(&good);
    let good_store = Store::open(&good).unwrap();
    assert_eq!(good_store.check().unwrap().findings, []);
    let mut all = Vec::new();
    files(&good, &mut all);
    for file in all {
        let relative = file.strip_prefix(&good).unwrap();
        let is_empty = std::fs::metadata(&file).unwrap().len() == 0;
        if is_immaterial(relative) || is_empty {
            continue;
        }
        for way in [Way::Delete, Way::Empty, Way::Truncate, Way::Flip] {
            let _ = std::fs::remove_dir_all(&bad);
            copy(&good, &bad);
            damage(&bad.join(relative), way);
            let store = match Store::open(&bad) {
                Ok(store) => store,
                Err(error) => {
                    assert!(relative.ends_with("oci-layout"), "{relative:?} {way:?} {error}");
                    continue;
                }
            };
            if relative.ends_with("oci-layout") {
                continue;
            }
            let report = store.check().unwrap();
            assert!(!report.is_clean(), "{relative:?} {way:?} was not found");
            let is_blob = relative.starts_with("blobs");
            assert!(!is_blob || report.findings.iter().all(|finding| !finding.images.is_empty()), "{report:?}");
            let left = store
                .repair(report.findings, &mut |descriptor, _, writer| {
                    let file = good_store.open_blob(&descriptor.digest);
                    file.is_ok_and(|mut file| std::io::copy(&mut file, writer).is_ok())
                })
                .unwrap();
            assert_eq!(left, [], "{relative:?} {way:?}");
            assert_eq!(store.check().unwrap().findings, [], "{relative:?} {way:?} after mending");
            assert_eq!(store.references().unwrap().len(), 2, "{relative:?} {way:?}");
        }
    }
}

#[test]
fn what_cannot_be_had_again_is_told_with_its_images() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let store = Store::open(folder.path()).unwrap();
    let layer = store.blobs().unwrap().into_iter().max_by_key(|(_, size)| *size).unwrap().0;
    damage(&store.blob_path(&layer), Way::Flip);
    let report = store.check().unwrap();
    assert!(matches!(&report.findings[0].damage, Damage::Blob { digest, .. } if *digest == layer));
    let left = store.repair(report.findings, &mut |_, _, _| false).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].images.len(), 1);
    assert!(!store.has_blob(&layer), "a damaged blob was left to be used");
    let wrong = Digest::sha256(b"wrong");
    let report = store.check().unwrap();
    let left = store.repair(report.findings, &mut |_, _, writer| writer.write_all(b"wrong").is_ok()).unwrap();
    assert!(left.len() == 1 && !store.has_blob(&wrong) || store.blobs().unwrap().iter().all(|(d, _)| *d != layer));
}
