//! Digests of parts of trees.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use onetag_oci::Digest;
use onetag_store::checksum::{Selection, digest};
use onetag_store::tree::{Matched, MergedTree};

fn tree(folder: &Path) -> MergedTree {
    MergedTree::plain(folder, Some((0, 0)), None).unwrap()
}

fn of(folder: &Path, path: &str) -> Digest {
    digest(&tree(folder), &Selection { path: path.into(), wildcard: true, ..Selection::default() }).unwrap()
}

fn make(folder: &Path) {
    std::fs::create_dir(folder.join("d")).unwrap();
    std::fs::write(folder.join("d/a"), b"1").unwrap();
    std::fs::write(folder.join("d/b"), b"2").unwrap();
    std::fs::write(folder.join("x"), b"3").unwrap();
}

#[test]
fn equal_trees_have_equal_digests_and_times_do_not_count() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(one.path());
    make(two.path());
    std::fs::File::open(two.path().join("d/a")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    for path in ["/", "/d", "/d/*", "/x"] {
        assert_eq!(of(one.path(), path), of(two.path(), path), "{path}");
    }
}

#[test]
fn every_change_counts_where_it_is_selected() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let (d, x) = (of(folder.path(), "/d"), of(folder.path(), "/x"));
    std::fs::set_permissions(folder.path().join("d/a"), PermissionsExt::from_mode(0o600)).unwrap();
    let changed = of(folder.path(), "/d");
    assert_ne!(d, changed);
    std::fs::rename(folder.path().join("d/b"), folder.path().join("d/c")).unwrap();
    let renamed = of(folder.path(), "/d");
    assert_ne!(changed, renamed);
    std::fs::write(folder.path().join("d/c"), b"9").unwrap();
    assert_ne!(renamed, of(folder.path(), "/d"));
    assert_eq!(x, of(folder.path(), "/x"));
}

#[test]
fn filtered_files_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let select = || {
        let only_a = |path: &Path, is_directory: bool| match (path.ends_with("a"), is_directory) {
            (true, _) => Matched::Included,
            (false, true) => Matched::Descend,
            (false, false) => Matched::Excluded,
        };
        let selection = Selection { path: "/".into(), filter: Some(Arc::new(only_a)), ..Selection::default() };
        digest(&tree(folder.path()), &selection).unwrap()
    };
    let before = select();
    std::fs::write(folder.path().join("d/b"), b"other").unwrap();
    assert_eq!(before, select());
    std::fs::write(folder.path().join("d/a"), b"other").unwrap();
    assert_ne!(before, select());
}

#[test]
fn absence_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let selection = Selection { path: "/nope".into(), ..Selection::default() };
    assert_eq!(digest(&tree(folder.path()), &selection).unwrap_err().to_string(), "\"/nope\": not found");
}
