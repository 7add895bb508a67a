//! Archives of every make, honest and hostile.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use onetag_store::layer::{
    Compression, CompressionOptions, EntryHeader, EntryKind, LayerError, Limits, TarReader, TarWriter,
};
use onetag_store::tree::{MergedTree, Node};
use onetag_store::{Error, LayerId, LayerOptions, Store};
use proptest::prelude::*;

use crate::archive::{Archive, list, put, unpack};

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

/// Type, mode, owner, group, time and content.
type Attributes = (String, u32, u32, u32, i64, Vec<u8>);

/// Everything of a tree that an image carries.
fn contents(store: &Store, layers: &[LayerId]) -> BTreeMap<PathBuf, Attributes> {
    let stack = store.stack(layers).unwrap();
    let tree = MergedTree::open(&stack.lowers, store.ownership()).unwrap();
    let mut all = BTreeMap::new();
    for entry in tree.walk(Path::new("")).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.node.metadata().unwrap();
        let content = match &entry.node {
            Node::Directory(_) => Vec::new(),
            Node::Leaf(leaf) => match leaf.read_link() {
                Ok(target) => target.as_os_str().as_bytes().to_vec(),
                Err(_) => std::io::read_to_string(leaf.open().unwrap()).unwrap().into_bytes(),
            },
        };
        let kind = format!("{:?}", metadata.file_type);
        let mtime = if entry.path.as_os_str().is_empty() { 0 } else { metadata.mtime.0 };
        all.insert(entry.path, (kind, metadata.mode, metadata.uid, metadata.gid, mtime, content));
    }
    all
}

fn refused(store: &Store, archive: &[u8]) -> LayerError {
    let (diff_id, blob) = put(store, archive);
    match store.ensure_layer(&diff_id, &blob, "") {
        Err(Error::Unpack { source, .. }) => {
            assert!(store.unpacked_layer(&diff_id).is_none());
            source
        }
        other => panic!("{other:?}"),
    }
}

/// An archive with paths that honest writers refuse to write.
fn raw(entries: &[(EntryKind, &[u8], &[u8])]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (kind, path, link) in entries {
        let (kind, size) = (*kind, if *kind == EntryKind::File { 1 } else { 0 });
        let header =
            EntryHeader { kind, path, link, mode: 0o755, uid: 0, gid: 0, size, mtime: 0, device: (0, 0), xattrs: &[] };
        writer.header(&header).unwrap();
        if size > 0 {
            writer.data(b"x").unwrap();
            writer.pad(1).unwrap();
        }
    }
    writer.finish().unwrap()
}

#[test]
fn nothing_leaves_the_layer() {
    let (folder, store) = open();
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let escape = outside.to_str().unwrap().as_bytes();
    assert!(matches!(refused(&store, &raw(&[(EntryKind::File, b"../x", b"")])), LayerError::InvalidPath { .. }));
    assert!(matches!(
        refused(&store, &raw(&[(EntryKind::HardLink, b"x", b"../../etc/passwd")])),
        LayerError::InvalidPath { .. }
    ));
    refused(&store, &raw(&[(EntryKind::Symlink, b"l", escape), (EntryKind::File, b"l/x", b"")]));
    refused(&store, &raw(&[(EntryKind::Symlink, b"l", b"/proc/self/root"), (EntryKind::File, b"l/x", b"")]));
    refused(
        &store,
        &raw(&[(EntryKind::Symlink, b"a", b"b"), (EntryKind::Symlink, b"b", b"a"), (EntryKind::File, b"a/x", b"")]),
    );
    refused(&store, &raw(&[(EntryKind::HardLink, b"x", b"x")]));
    refused(&store, &raw(&[(EntryKind::File, b"d/.wh.", b"")]));
    refused(&store, &raw(&[(EntryKind::File, b"d/.wh...", b"")]));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    // Inside the layer a link is followed, as in a running container.
    let archive = raw(&[
        (EntryKind::Directory, b"usr/lib/", b""),
        (EntryKind::Symlink, b"lib", b"/usr/lib"),
        (EntryKind::File, b"lib/x", b""),
    ]);
    let (diff_id, blob) = put(&store, &archive);
    let layer = store.ensure_layer(&diff_id, &blob, "").unwrap();
    assert!(layer.tree.join("usr/lib/x").exists());
}

#[test]
fn entries_replace_each_other_in_order() {
    let (_folder, store) = open();
    let archive = Archive::new()
        .directory("a", 0o755)
        .file("a/x", b"1")
        .file("a", b"file")
        .file("b", b"file")
        .directory("b", 0o700)
        .file("b/y", b"2")
        .file("b/y", b"3")
        .file(".wh.c", b"")
        .directory("c", 0o755)
        .file("d/z", b"4")
        .file(".wh.d", b"");
    let layer = unpack(&store, archive);
    let tree = store.layer_tree(&LayerId::Diff(layer.clone())).unwrap();
    assert_eq!(std::fs::read(tree.join("a")).unwrap(), b"file");
    assert_eq!(std::fs::read(tree.join("b/y")).unwrap(), b"3");
    let low = unpack(&store, Archive::new().file("c/hidden", b"").file("d/hidden", b""));
    let all = contents(&store, &[LayerId::Diff(low), LayerId::Diff(layer)]);
    assert!(!all.keys().any(|path| path.ends_with("hidden")), "{all:?}");
    assert!(all.contains_key(Path::new("d/z")));
}

#[test]
fn limits_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 1000, entries: 3, path_length: 50, depth: 4, ..Limits::default() };
    let store = Store::open_with_limits(folder.path(), limits).unwrap();
    let big = Archive::new().file("big", &[0; 1001]).bytes();
    let many = Archive::new().file("1", b"").file("2", b"").file("3", b"").file("4", b"").bytes();
    for archive in [big, many] {
        let error = refused(&store, &archive);
        assert!(matches!(error, LayerError::LimitExceeded { .. }), "{error}");
    }
    for path in ["a/b/c/d/e".to_owned(), "x".repeat(51)] {
        let error = refused(&store, &Archive::new().file(&path, b"").bytes());
        assert!(matches!(error, LayerError::InvalidPath { .. }), "{error}");
    }
}

#[test]
fn a_bomb_is_stopped_early() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_with_limits(folder.path(), Limits { ratio: 100, ..Limits::default() }).unwrap();
    let mut archive = Archive::new().file("x", b"").bytes();
    archive.resize(200 << 20, 0);
    let compressed = zstd::bulk::compress(&archive, 1).unwrap();
    let diff_id = onetag_oci::DiffId(onetag_oci::Digest::sha256(&archive));
    let (_, blob) = put(&store, &compressed);
    let error = store.ensure_layer(&diff_id, &blob, "").unwrap_err();
    assert!(matches!(&error, Error::Unpack { source: LayerError::LimitExceeded { .. }, .. }), "{error:?}");
}

#[test]
fn what_tar_programs_write_is_read() {
    let (folder, store) = open();
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let long = "long-name-".repeat(20);
    std::fs::write(source.join(&long), b"l").unwrap();
    std::fs::write(source.join("ümlaut"), b"u").unwrap();
    std::fs::write(source.join(std::ffi::OsStr::from_bytes(b"not-\xff-utf8")), b"n").unwrap();
    std::os::unix::fs::symlink("x".repeat(150), source.join("long-link")).unwrap();
    let sparse = std::fs::File::create(source.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 5 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1 << 20).unwrap();
    for arguments in [
        &["--format=gnu", "--sparse"][..],
        &["--format=pax", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=gnu"],
        &["--format=posix"],
    ] {
        let output = Command::new("tar").args(arguments).arg("-C").arg(&source).args(["-cf", "-", "."]).output();
        let Ok(output) = output else { return eprintln!("skipped: tar is not installed") };
        let layer = unpack_bytes(&store, &output.stdout);
        let tree = store.layer_tree(&LayerId::Diff(layer)).unwrap();
        assert_eq!(std::fs::read(tree.join(&long)).unwrap(), b"l", "{arguments:?}");
        assert!(tree.join(std::ffi::OsStr::from_bytes(b"not-\xff-utf8")).exists(), "{arguments:?}");
        assert_eq!(std::fs::read_link(tree.join("long-link")).unwrap().as_os_str().len(), 150);
        let metadata = std::fs::metadata(tree.join("sparse")).unwrap();
        assert_eq!(std::fs::read(tree.join("sparse")).unwrap(), std::fs::read(source.join("sparse")).unwrap());
        let is_sparse = arguments.contains(&"--sparse");
        assert!(!is_sparse || metadata.blocks() * 512 < 1 << 20, "{arguments:?} {}", metadata.blocks());
        let (found, wanted) = (tree.join("ümlaut"), source.join("ümlaut"));
        let times = |path: &Path| std::fs::metadata(path).map(|found| (found.mtime(), found.mtime_nsec())).unwrap();
        if arguments[0] != "--format=gnu" {
            assert_eq!(times(&found), times(&wanted));
        }
    }
}

fn unpack_bytes(store: &Store, archive: &[u8]) -> onetag_oci::DiffId {
    let (diff_id, blob) = put(store, archive);
    store.ensure_layer(&diff_id, &blob, "").unwrap();
    diff_id
}

#[test]
fn overlay_attributes_of_an_image_are_dropped() {
    let (_folder, store) = open();
    let xattrs = [
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
        (b"user.keep".to_vec(), b"1".to_vec()),
        (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
    ];
    let mut writer = TarWriter::new(Vec::new());
    let header = EntryHeader {
        kind: EntryKind::Directory,
        path: b"d/",
        link: b"",
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: 0,
        device: (0, 0),
        xattrs: &xattrs,
    };
    writer.header(&header).unwrap();
    let layer = unpack_bytes(&store, &writer.finish().unwrap());
    let stack = store.stack(&[LayerId::Diff(layer)]).unwrap();
    let tree = MergedTree::open(&stack.lowers, store.ownership()).unwrap();
    let found = tree.lookup(Path::new("d")).unwrap().unwrap().xattrs().unwrap();
    assert!(found.is_empty() || found == [(b"user.keep".to_vec(), b"1".to_vec())], "{found:?}");
}

#[test]
fn gzip_members_and_zstd_frames_are_one_stream() {
    let archive = Archive::new().file("a", &[1; 5000]).file("b", &[2; 5000]).bytes();
    let diff_id = onetag_oci::DiffId(onetag_oci::Digest::sha256(&archive));
    let (first, second) = archive.split_at(3000);
    let gzip = |data: &[u8]| {
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut output = vec![0; compressor.gzip_compress_bound(data.len())];
        let length = compressor.gzip_compress(data, &mut output).unwrap();
        output.truncate(length);
        output
    };
    let zstd = |data: &[u8]| zstd::bulk::compress(data, 3).unwrap();
    // eStargz ends with an empty member whose header has an extra field; zstd:chunked with frames to be skipped
    let mut footer = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0];
    footer.extend_from_slice(b"0000000000000400STARGZ");
    footer.extend_from_slice(&[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    let skipped = [&0x184d_2a50_u32.to_le_bytes()[..], &64_u32.to_le_bytes(), &[7; 64]].concat();
    let blobs = [
        archive.clone(),
        [gzip(first), gzip(second)].concat(),
        [gzip(first), gzip(second), footer].concat(),
        [zstd(first), zstd(second)].concat(),
        [zstd(first), zstd(second), skipped.clone(), skipped].concat(),
    ];
    for (number, blob) in blobs.iter().enumerate() {
        let (_folder, store) = open();
        let (_, blob) = put(&store, blob);
        let unpacked = store.ensure_layer(&diff_id, &blob, "").unwrap();
        assert_eq!(std::fs::read(unpacked.tree.join("b")).unwrap(), [2; 5000], "{number}");
    }
}

/// A node of a generated tree.
#[derive(Debug, Clone)]
enum Kind {
    File(Vec<u8>),
    Directory,
    Symlink(String),
}

fn trees() -> impl Strategy<Value = BTreeMap<String, (Kind, u32, i64)>> {
    let name = "[a-c]{1,2}|[ -.0-~é]{1,30}|[d-f]{90,120}";
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let kind = prop_oneof![
        prop::collection::vec(any::<u8>().prop_map(|byte| byte & 0x7f), 0..2000).prop_map(Kind::File),
        Just(Kind::Directory),
        "[a-z/]{1,120}".prop_map(Kind::Symlink),
    ];
    let entry = (path, (kind, 0_u32..0o7777, -5_i64..2_000_000_000));
    prop::collection::btree_map(entry.clone().prop_map(|(path, _)| path), entry.prop_map(|(_, entry)| entry), 0..12)
}

fn is_usable(path: &str) -> bool {
    path.split('/').all(|name| !matches!(name, "" | "." | "..") && !name.starts_with(".wh."))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_what_is_unpacked(tree in trees()) {
        let (_folder, store) = open();
        let empty = store.stack(&[]).unwrap();
        let upper = store.new_upper(&empty).unwrap();
        let root = upper.upper();
        for (path, (kind, mode, mtime)) in tree.iter().filter(|(path, _)| is_usable(path)) {
            let place = root.join(path);
            if std::fs::create_dir_all(place.parent().unwrap()).is_err() || place.symlink_metadata().is_ok() {
                continue;
            }
            match kind {
                Kind::File(content) => std::fs::write(&place, content).unwrap(),
                Kind::Directory => std::fs::create_dir(&place).unwrap(),
                Kind::Symlink(target) => {
                    // Links would lead later paths away.
                    std::os::unix::fs::symlink(target, place.with_file_name("zz-link")).ok();
                    continue;
                }
            }
            let mode = mode | 0o700;
            std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs((*mtime).max(0).unsigned_abs());
            std::fs::File::open(&place).unwrap().set_modified(time).unwrap();
        }
        let step = upper.commit().unwrap();
        let before = contents(&store, std::slice::from_ref(&step));
        for compression in [Compression::Gzip, Compression::Zstd] {
            let options = LayerOptions { compression: CompressionOptions { compression, level: None }, latest_mtime: None };
            let exported = store.export_layer(&step, &empty, &options).unwrap();
            store.ensure_layer(&exported.diff_id, &exported.descriptor.digest, "").unwrap();
            let after = contents(&store, &[LayerId::Diff(exported.diff_id)]);
            prop_assert_eq!(&before, &after);
        }
        // Written anew with bounded times it is what it would have been at once.
        let plain = store.export_layer(&step, &empty, &LayerOptions::default()).unwrap();
        let compression = CompressionOptions { compression: Compression::Zstd, level: None };
        let bounded = LayerOptions { compression, latest_mtime: Some(1_000_000_000) };
        let rewritten = store.rewrite_layer(&plain.descriptor.digest, &bounded).unwrap();
        prop_assert_eq!(rewritten, store.export_layer(&step, &empty, &bounded).unwrap());
    }

    #[test]
    fn damaged_archives_never_panic(position in 0_usize..6000, value in any::<u8>(), cut in 0_usize..8000) {
        let archive = Archive::new()
            .directory("d", 0o755)
            .file(&"long".repeat(40), b"content")
            .symlink("l", &"target".repeat(30))
            .hard_link("h", "d/f")
            .file("d/f", &[7; 1500]);
        let mut archive = archive.bytes();
        let index = position % archive.len();
        archive[index] = value;
        archive.truncate(cut.max(100));
        let limits = Limits { bytes: 1 << 20, ..Limits::default() };
        let mut reader = TarReader::new(&archive[..], limits);
        while let Ok(Some(_)) = reader.next_entry() {
            while let Ok(Some(_)) = reader.next_data() {}
        }
    }
}

#[test]
fn one_hundred_and_twenty_eight_layers() {
    let (_folder, store) = open();
    let mut layers = Vec::new();
    for number in 0..128 {
        let archive = Archive::new().directory("d", 0o755).file(&format!("d/{number}"), b"x").file("d/last", &[number]);
        layers.push(LayerId::Diff(unpack(&store, archive)));
    }
    let stack = store.stack(&layers).unwrap();
    let mut workspace = store.workspace(&stack).unwrap();
    let file = onetag_store::copy::MakeFile { mode: 0o644, ..Default::default() };
    workspace.make_file(Path::new("d/new"), b"new", &file).unwrap();
    let step = workspace.commit().unwrap();
    let options = LayerOptions {
        compression: CompressionOptions { compression: Compression::None, level: None },
        latest_mtime: None,
    };
    let exported = store.export_layer(&step, &stack, &options).unwrap();
    assert_eq!(list(&store.read_blob(&exported.descriptor.digest, 1 << 20).unwrap()), ["d/", "d/new"]);
    layers.push(step);
    assert_eq!(contents(&store, &layers).len(), 128 + 2 + 2);
}
