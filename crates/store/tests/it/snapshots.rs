//! Steps without overlay mounts leave the same layers as steps with them.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use onetag_store::layer::{Compression, CompressionOptions};
use onetag_store::{LayerId, LayerOptions, Stack, Store};

use crate::archive::{Archive, list, unpack};

fn base(store: &Store) -> Stack {
    let archive = Archive::new()
        .directory("etc", 0o755)
        .file("etc/passwd", b"root")
        .file("etc/same", b"same")
        .directory("gone", 0o755)
        .file("gone/x", b"x")
        .directory("kept", 0o711)
        .file("kept/y", b"y")
        .symlink("link", "etc")
        .file("one", b"1")
        .hard_link("two", "one");
    store.stack(&[LayerId::Diff(unpack(store, archive))]).unwrap()
}

fn written(store: &Store, layer: &LayerId, below: &Stack) -> Vec<String> {
    let compression = CompressionOptions { compression: Compression::None, level: None };
    let exported = store.export_layer(layer, below, &LayerOptions { compression, latest_mtime: None }).unwrap();
    list(&store.read_blob(&exported.descriptor.digest, 1 << 20).unwrap())
}

#[test]
fn an_untouched_snapshot_is_an_empty_layer() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let below = base(&store);
    let snapshot = store.copy_snapshot(&below).unwrap();
    assert_eq!(std::fs::read(snapshot.root().join("etc/passwd")).unwrap(), b"root");
    let layer = snapshot.commit().unwrap();
    assert_eq!(written(&store, &layer, &below), Vec::<String>::new());
    let tree = store.layer_tree(&layer).unwrap();
    assert_eq!(std::fs::read_dir(tree).unwrap().count(), 0);
}

#[test]
fn changes_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let below = base(&store);
    let snapshot = store.copy_snapshot(&below).unwrap();
    let root = snapshot.root();
    let passwd = root.join("etc/passwd");
    let modified = std::fs::metadata(&passwd).unwrap().modified().unwrap();
    std::fs::write(&passwd, b"toor").unwrap();
    // A step that sets the time back deceives nobody.
    std::fs::File::options().write(true).open(&passwd).unwrap().set_modified(modified).unwrap();
    std::fs::remove_dir_all(root.join("gone")).unwrap();
    std::fs::create_dir(root.join("new")).unwrap();
    std::fs::write(root.join("new/file"), b"n").unwrap();
    std::fs::set_permissions(root.join("kept"), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::remove_file(root.join("link")).unwrap();
    symlink("kept", root.join("link")).unwrap();
    let layer = snapshot.commit().unwrap();
    let expected = [".wh.gone", "etc/", "etc/passwd", "kept/", "link", "new/", "new/file"];
    let mut found = written(&store, &layer, &below);
    found.sort();
    assert_eq!(found, expected);
    let mut layers = below.layers.clone();
    layers.push(layer);
    let stack = store.stack(&layers).unwrap();
    let tree = onetag_store::tree::MergedTree::open(&stack.lowers, store.ownership()).unwrap();
    assert!(tree.lookup(Path::new("gone")).unwrap().is_none());
    assert!(tree.lookup(Path::new("kept/y")).unwrap().is_some());
}
