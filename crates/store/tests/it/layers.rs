//! Layers unpacked, stacked, read, changed and written again.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use onetag_store::layer::{Compression, CompressionOptions, Decompressor};
use onetag_store::tree::MergedTree;
use onetag_store::{LayerId, LayerOptions, Stack, Store};

use crate::archive::{Archive, list, unpack};

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn view(store: &Store, stack: &Stack) -> MergedTree {
    MergedTree::open(&stack.lowers, store.ownership()).unwrap()
}

fn read(tree: &MergedTree, path: &str) -> Option<String> {
    match tree.lookup_following(Path::new(path)).unwrap()? {
        onetag_store::tree::Node::Directory(_) => Some("<directory>".to_owned()),
        onetag_store::tree::Node::Leaf(leaf) => Some(std::io::read_to_string(leaf.open().unwrap()).unwrap()),
    }
}

#[test]
fn layers_merge_as_in_an_overlay() {
    let (_folder, store) = open();
    let low = unpack(&store, Archive::new().directory("d", 0o755).file("d/a", b"1").file("d/b", b"2").file("f", b"3"));
    let high = unpack(
        &store,
        Archive::new()
            .directory("d", 0o700)
            .file("d/.wh.a", b"")
            .file("d/c", b"4")
            .symlink("link", "/d/c")
            .file(".wh.f", b""),
    );
    let stack = store.stack(&[LayerId::Diff(low), LayerId::Diff(high)]).unwrap();
    let tree = view(&store, &stack);
    assert_eq!(read(&tree, "d/a"), None);
    assert_eq!(read(&tree, "d/b").as_deref(), Some("2"));
    assert_eq!(read(&tree, "link").as_deref(), Some("4"));
    assert_eq!(read(&tree, "f"), None);
    assert_eq!(tree.lookup(Path::new("d")).unwrap().unwrap().metadata().unwrap().mode, 0o700);
    let paths: Vec<String> =
        tree.walk(Path::new("")).unwrap().map(|entry| entry.unwrap().path.display().to_string()).collect();
    assert_eq!(paths, ["", "d", "d/b", "d/c", "link"]);
}

#[test]
fn opaque_folders_hide_what_is_below() {
    let (_folder, store) = open();
    let low = unpack(&store, Archive::new().directory("d", 0o755).file("d/a", b"1"));
    let high = unpack(&store, Archive::new().directory("d", 0o755).file("d/.wh..wh..opq", b"").file("d/b", b"2"));
    let stack = store.stack(&[LayerId::Diff(low), LayerId::Diff(high)]).unwrap();
    let tree = view(&store, &stack);
    assert_eq!((read(&tree, "d/a"), read(&tree, "d/b").as_deref()), (None, Some("2")));
}

#[test]
fn implicit_folders_look_as_below() {
    let (_folder, store) = open();
    let low = unpack(&store, Archive::new().directory("tmp", 0o1777).directory("tmp/deep", 0o711));
    let high = unpack(&store, Archive::new().file("tmp/deep/x", b"1"));
    let stack = store.stack(&[LayerId::Diff(low), LayerId::Diff(high)]).unwrap();
    assert_eq!(stack.lowers.len(), 3);
    let tree = view(&store, &stack);
    let mode = |path: &str| tree.lookup(Path::new(path)).unwrap().unwrap().metadata().unwrap().mode;
    assert_eq!((mode("tmp"), mode("tmp/deep")), (0o1777, 0o711));
    assert_eq!(read(&tree, "tmp/deep/x").as_deref(), Some("1"));
}

#[test]
fn links_reach_into_lower_layers() {
    let (_folder, store) = open();
    let low = unpack(&store, Archive::new().directory("bin", 0o755).file("bin/busybox", b"bb"));
    let high = unpack(&store, Archive::new().hard_link("bin/sh", "bin/busybox").hard_link("bin/ash", "bin/sh"));
    let both = [LayerId::Diff(low), LayerId::Diff(high.clone())];
    let stack = store.stack(&both).unwrap();
    let tree = view(&store, &stack);
    assert_eq!(read(&tree, "bin/sh").as_deref(), Some("bb"));
    assert_eq!(read(&tree, "bin/ash").as_deref(), Some("bb"));
    let alone = unpack(&store, Archive::new().file("x", b""));
    assert!(store.stack(&[LayerId::Diff(alone), LayerId::Diff(high)]).is_err());
}

#[test]
fn a_step_is_written_deterministically() {
    let (_folder, store) = open();
    let low = unpack(&store, Archive::new().directory("d", 0o755).file("d/gone", b"1").file("keep", b"2"));
    let below = store.stack(&[LayerId::Diff(low)]).unwrap();
    let mut digests = Vec::new();
    for compression in [Compression::Gzip, Compression::Gzip, Compression::Zstd, Compression::None] {
        let upper = store.new_upper(&below).unwrap();
        let root = upper.upper();
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::set_permissions(root.join("d"), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(root.join("d/new"), b"content").unwrap();
        std::fs::hard_link(root.join("d/new"), root.join("link")).unwrap();
        let file = std::fs::File::open(root.join("d/new")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_500))
            .unwrap();
        for name in ["d/gone", "never"] {
            let path = root.join(name);
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::CharacterDevice,
                rustix::fs::Mode::empty(),
                0,
            )
            .unwrap();
        }
        let directory = std::fs::File::open(root.join("d")).unwrap();
        directory.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let layer = upper.commit().unwrap();
        let options = LayerOptions { compression: CompressionOptions { compression, level: None }, latest_mtime: None };
        let exported = store.export_layer(&layer, &below, &options).unwrap();
        let again = store.export_layer(&layer, &below, &options).unwrap();
        assert_eq!(exported, again);
        let mut archive = Vec::new();
        let blob = store.open_blob(&exported.descriptor.digest).unwrap();
        std::io::Read::read_to_end(&mut Decompressor::new(blob, 1000).unwrap(), &mut archive).unwrap();
        assert_eq!(list(&archive), ["d/", "d/.wh.gone", "d/new", "link"]);
        assert_eq!(exported.diff_id.0, onetag_oci::Digest::sha256(&archive));
        digests.push((exported.diff_id, exported.descriptor.digest));
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0].0, digests[3].0);
}

#[test]
fn damage_is_told_apart_from_a_wrong_diff_id() {
    let (_folder, store) = open();
    let (diff_id, blob) = crate::archive::put(&store, &Archive::new().file("a", b"1").bytes());
    let (other, _) = crate::archive::put(&store, &Archive::new().file("b", b"1").bytes());
    assert!(matches!(store.ensure_layer(&other, &blob, ""), Err(onetag_store::Error::DiffIdMismatch { .. })));
    assert!(store.unpacked_layer(&other).is_none());
    store.ensure_layer(&diff_id, &blob, "").unwrap();
    assert!(store.unpacked_layer(&diff_id).is_some());
}

#[test]
fn attributes_arrive() {
    let (_folder, store) = open();
    let layer = unpack(
        &store,
        Archive::new()
            .entry(tar::EntryType::Regular, "suid", 0o4755, "", b"x")
            .directory("ro", 0o555)
            .file("ro/f", b"y"),
    );
    let tree = store.layer_tree(&LayerId::Diff(layer)).unwrap();
    let metadata = std::fs::symlink_metadata(tree.join("suid")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o4755, 1_600_000_000));
    assert_eq!(std::fs::metadata(tree.join("ro")).unwrap().mode() & 0o7777, 0o555);
}

#[test]
fn an_uncommitted_upper_leaves_nothing() {
    let (folder, store) = open();
    let below = store.stack(&[]).unwrap();
    let upper = store.new_upper(&below).unwrap();
    std::fs::create_dir_all(upper.upper().join("a/b/c")).unwrap();
    std::fs::set_permissions(upper.upper().join("a"), PermissionsExt::from_mode(0o000)).unwrap();
    drop(upper);
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
}
