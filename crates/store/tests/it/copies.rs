//! Changes of stacks without mounts.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onetag_store::copy::{CopyError, CopyRequest, MakeDirectory, MakeFile, Remove};
use onetag_store::tree::{Matched, MergedTree, Node};
use onetag_store::{LayerId, LayerOptions, Stack, Store};

use crate::archive::{Archive, list, unpack};

struct Fixture {
    _folder: tempfile::TempDir,
    context: PathBuf,
    store: Store,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let context = folder.path().join("context");
    std::fs::create_dir_all(context.join("d/sub")).unwrap();
    std::fs::write(context.join("a.txt"), b"a").unwrap();
    std::fs::write(context.join("b.txt"), b"b").unwrap();
    std::fs::write(context.join("d/one"), b"1").unwrap();
    std::fs::write(context.join("d/sub/two"), b"2").unwrap();
    symlink("d", context.join("dirlink")).unwrap();
    symlink("/a.txt", context.join("link")).unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    Fixture { context, store, _folder: folder }
}

impl Fixture {
    fn context(&self) -> MergedTree {
        MergedTree::plain(&self.context, Some((0, 0)), None).unwrap()
    }

    fn base(&self) -> Stack {
        let archive = Archive::new()
            .directory("usr", 0o755)
            .directory("usr/lib", 0o750)
            .file("usr/lib/old", b"old")
            .symlink("lib", "usr/lib")
            .directory("dir", 0o700)
            .file("dir/f", b"f");
        let layer = unpack(&self.store, archive);
        self.store.stack(&[LayerId::Diff(layer)]).unwrap()
    }

    fn copy(&self, below: &Stack, request: &CopyRequest) -> Result<Stack, CopyError> {
        let mut workspace = self.store.workspace(below).unwrap();
        workspace.copy(&self.context(), request)?;
        let mut layers = below.layers.clone();
        layers.push(workspace.commit()?);
        Ok(self.store.stack(&layers).unwrap())
    }

    fn paths(&self, stack: &Stack) -> Vec<String> {
        let tree = MergedTree::open(&stack.lowers, self.store.ownership()).unwrap();
        let walk = tree.walk(Path::new("")).unwrap();
        walk.map(|entry| entry.unwrap().path.display().to_string()).filter(|path| !path.is_empty()).collect()
    }

    fn layer(&self, stack: &Stack) -> Vec<String> {
        let (top, below) = stack.layers.split_last().unwrap();
        let below = self.store.stack(below).unwrap();
        let options = LayerOptions {
            compression: onetag_store::layer::CompressionOptions {
                compression: onetag_store::layer::Compression::None,
                level: None,
            },
            latest_mtime: None,
        };
        let exported = self.store.export_layer(top, &below, &options).unwrap();
        list(&self.store.read_blob(&exported.descriptor.digest, 1 << 20).unwrap())
    }
}

fn request(source: &str, destination: &str) -> CopyRequest {
    CopyRequest {
        source: source.into(),
        destination: destination.into(),
        wildcard: true,
        follow_symlinks: true,
        copy_directory_contents: true,
        create_destination: true,
        ..CopyRequest::default()
    }
}

#[test]
fn a_folder_is_copied_by_content_or_by_name() {
    let f = fixture();
    let empty = f.store.stack(&[]).unwrap();
    let contents = f.copy(&empty, &request("/d", "/to")).unwrap();
    assert_eq!(f.paths(&contents), ["to", "to/one", "to/sub", "to/sub/two"]);
    let named = CopyRequest { copy_directory_contents: false, ..request("/d", "/to/") };
    let named = f.copy(&empty, &named).unwrap();
    assert_eq!(f.paths(&named), ["to", "to/d", "to/d/one", "to/d/sub", "to/d/sub/two"]);
}

#[test]
fn files_go_into_folders_and_beside_names() {
    let f = fixture();
    let base = f.base();
    assert!(f.paths(&f.copy(&base, &request("/a.txt", "/dir")).unwrap()).contains(&"dir/a.txt".to_owned()));
    assert!(f.paths(&f.copy(&base, &request("/a.txt", "/new")).unwrap()).contains(&"new".to_owned()));
    assert!(f.paths(&f.copy(&base, &request("/a.txt", "/n/")).unwrap()).contains(&"n/a.txt".to_owned()));
    assert!(f.paths(&f.copy(&base, &request("/*.txt", "/n/")).unwrap()).contains(&"n/b.txt".to_owned()));
}

#[test]
fn links_of_the_destination_are_followed_inside_it() {
    let f = fixture();
    let stack = f.copy(&f.base(), &request("/a.txt", "/lib/")).unwrap();
    assert_eq!(f.layer(&stack), ["usr/", "usr/lib/", "usr/lib/a.txt"]);
    let tree = MergedTree::open(&stack.lowers, f.store.ownership()).unwrap();
    assert_eq!(tree.lookup(Path::new("usr/lib")).unwrap().unwrap().metadata().unwrap().mode, 0o750);
    assert!(tree.lookup(Path::new("usr/lib/old")).unwrap().is_some());
}

#[test]
fn links_of_the_source_are_followed_where_asked() {
    let f = fixture();
    let empty = f.store.stack(&[]).unwrap();
    let followed = f.copy(&empty, &request("/link", "/x")).unwrap();
    let tree = MergedTree::open(&followed.lowers, f.store.ownership()).unwrap();
    assert!(matches!(tree.lookup(Path::new("x")).unwrap(), Some(Node::Leaf(leaf)) if leaf.read_link().is_err()));
    assert_eq!(f.paths(&f.copy(&empty, &request("/dirlink/one", "/x")).unwrap()), ["x"]);
    let kept = CopyRequest { follow_symlinks: false, ..request("/link", "/x") };
    let kept = f.copy(&empty, &kept).unwrap();
    let tree = MergedTree::open(&kept.lowers, f.store.ownership()).unwrap();
    assert!(matches!(tree.lookup(Path::new("x")).unwrap(), Some(Node::Leaf(leaf)) if leaf.read_link().is_ok()));
}

#[test]
fn owners_modes_and_times_are_set() {
    let f = fixture();
    let request = CopyRequest {
        owner: Some((12, 34)),
        mode: Some(Arc::new(|_, is_directory| if is_directory { 0o711 } else { 0o600 })),
        parent_mode: Some(0o711),
        mtime: Some((1_000, 5)),
        ..request("/d", "/p/q")
    };
    let stack = f.copy(&f.store.stack(&[]).unwrap(), &request).unwrap();
    let tree = MergedTree::open(&stack.lowers, f.store.ownership()).unwrap();
    for (path, mode) in [("p", 0o711), ("p/q", 0o711), ("p/q/one", 0o600), ("p/q/sub/two", 0o600)] {
        let found = tree.lookup(Path::new(path)).unwrap().unwrap().metadata().unwrap();
        assert_eq!((found.mode, found.uid, found.gid, found.mtime), (mode, 12, 34, (1_000, 5)), "{path}");
    }
}

#[test]
fn filters_choose_and_keep_parents_only_where_needed() {
    let f = fixture();
    let two = |path: &Path, _: bool| match path.ends_with("two") {
        true => Matched::Included,
        false => Matched::Descend,
    };
    let request = CopyRequest { filter: Some(Arc::new(two)), ..request("/", "/to/") };
    assert_eq!(
        f.paths(&f.copy(&f.store.stack(&[]).unwrap(), &request).unwrap()),
        ["to", "to/d", "to/d/sub", "to/d/sub/two"]
    );
}

#[test]
fn absent_sources_are_named() {
    let f = fixture();
    let empty = f.store.stack(&[]).unwrap();
    let error = f.copy(&empty, &request("/nope", "/x")).unwrap_err();
    assert_eq!(error.to_string(), "\"/nope\": not found");
    assert!(f.copy(&empty, &request("/n*", "/x")).is_err());
    let allowed = CopyRequest { allow_empty_wildcard: true, ..request("/n*", "/x") };
    assert!(f.paths(&f.copy(&empty, &allowed).unwrap()).is_empty());
}

#[test]
fn kinds_do_not_replace_each_other() {
    let f = fixture();
    let base = f.base();
    assert!(matches!(f.copy(&base, &request("/d", "/dir/f")).unwrap_err(), CopyError::NotADirectory { .. }));
    let replacing = CopyRequest { replace_existing: true, ..request("/d", "/dir/f") };
    assert!(f.paths(&f.copy(&base, &replacing).unwrap()).contains(&"dir/f/one".to_owned()));
}

#[test]
fn removed_and_made_again() {
    let f = fixture();
    let base = f.base();
    let mut workspace = f.store.workspace(&base).unwrap();
    workspace.remove(Path::new("/dir"), &Remove::default()).unwrap();
    assert!(workspace.remove(Path::new("/dir"), &Remove::default()).is_err());
    workspace.remove(Path::new("/dir"), &Remove { allow_not_found: true, ..Remove::default() }).unwrap();
    workspace.make_directory(Path::new("/dir"), &MakeDirectory { mode: 0o755, ..MakeDirectory::default() }).unwrap();
    workspace.make_file(Path::new("/dir/g"), b"g", &MakeFile { mode: 0o644, ..MakeFile::default() }).unwrap();
    workspace.make_file(Path::new("/dir/g"), b"gg", &MakeFile { mode: 0o644, ..MakeFile::default() }).unwrap();
    workspace.make_symlink(Path::new("g"), Path::new("/dir/s"), None, None).unwrap();
    workspace.remove(Path::new("/usr/lib/o*"), &Remove { wildcard: true, ..Remove::default() }).unwrap();
    let parents = MakeDirectory { mode: 0o755, parents: true, ..MakeDirectory::default() };
    workspace.make_directory(Path::new("/w/x/y"), &parents).unwrap();
    assert!(workspace.make_directory(Path::new("/no/x"), &MakeDirectory::default()).is_err());
    let mut layers = base.layers.clone();
    layers.push(workspace.commit().unwrap());
    let stack = f.store.stack(&layers).unwrap();
    assert_eq!(f.paths(&stack), ["dir", "dir/g", "dir/s", "lib", "usr", "usr/lib", "w", "w/x", "w/x/y"]);
    assert_eq!(
        f.layer(&stack),
        ["dir/", "dir/.wh..wh..opq", "dir/g", "dir/s", "usr/", "usr/lib/", "usr/lib/.wh.old", "w/", "w/x/", "w/x/y/"]
    );
}

#[test]
fn nothing_escapes_through_links() {
    let f = fixture();
    let outside = f.context.parent().unwrap().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, f.context.join("evil")).unwrap();
    let archive = Archive::new().symlink("evil", outside.to_str().unwrap());
    let layer = unpack(&f.store, archive);
    let base = f.store.stack(&[LayerId::Diff(layer)]).unwrap();
    f.copy(&base, &request("/a.txt", "/evil/")).unwrap();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(f.copy(&base, &request("/evil/x", "/")).is_err());
}

#[test]
fn archives_are_unpacked_onto_the_destination() {
    let f = fixture();
    let archive =
        Archive::new().directory("dir", 0o711).file("dir/.wh.f", b"w").file("dir/x", b"x").file("new/y", b"y");
    std::fs::write(f.context.join("t.tar"), archive.bytes()).unwrap();
    std::fs::write(f.context.join("plain.tar"), b"not an archive").unwrap();
    let add = CopyRequest { unpack_archives: true, ..request("/*.tar", "/") };
    let stack = f.copy(&f.base(), &add).unwrap();
    let paths = f.paths(&stack);
    for path in ["dir/f", "dir/.wh.f", "dir/x", "new/y", "plain.tar"] {
        // A literal whiteout name is a file here, and stays one in the merged tree of folders.
        assert!(paths.contains(&path.to_owned()), "{path} {paths:?}");
    }
}

#[test]
fn archives_of_every_usual_compression_are_unpacked() {
    use std::io::Write;
    let f = fixture();
    let archive = Archive::new().file("bz-file", b"x").bytes();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&archive).unwrap();
    std::fs::write(f.context.join("t.tbz"), bzip2.finish().unwrap()).unwrap();
    std::fs::write(f.context.join("t.txz"), include_bytes!("one-file.tar.xz")).unwrap();
    let archive = Archive::new().file("zst-file", b"x").bytes();
    std::fs::write(f.context.join("t.tzst"), zstd::encode_all(&archive[..], 1).unwrap()).unwrap();
    let add = CopyRequest { unpack_archives: true, ..request("/t.*", "/") };
    assert_eq!(f.paths(&f.copy(&f.store.stack(&[]).unwrap(), &add).unwrap()), ["bz-file", "xz-file", "zst-file"]);
}

#[test]
fn hard_links_stay_links() {
    let f = fixture();
    std::fs::hard_link(f.context.join("d/one"), f.context.join("d/three")).unwrap();
    let stack = f.copy(&f.store.stack(&[]).unwrap(), &request("/d", "/to")).unwrap();
    let tree = f.store.layer_tree(&stack.layers[0]).unwrap();
    assert_eq!(
        std::fs::metadata(tree.join("to/one")).unwrap().ino(),
        std::fs::metadata(tree.join("to/three")).unwrap().ino()
    );
}

#[test]
fn two_equal_copies_give_equal_layers() {
    let f = fixture();
    std::fs::set_permissions(f.context.join("d/one"), PermissionsExt::from_mode(0o4755)).unwrap();
    let base = f.base();
    let mut diff_ids = Vec::new();
    for _ in 0..2 {
        let stack = f.copy(&base, &request("/d", "/usr/lib")).unwrap();
        let exported = f.store.export_layer(&stack.layers[1], &base, &LayerOptions::default()).unwrap();
        diff_ids.push(exported.diff_id);
    }
    assert_eq!(diff_ids[0], diff_ids[1]);
}

/// What a cache gives is written as another build wants it: removals and hard links stay what they are.
#[test]
fn a_layer_written_anew_is_what_it_would_have_been_at_once() {
    let f = fixture();
    let base = f.base();
    std::fs::hard_link(f.context.join("a.txt"), f.context.join("again.txt")).unwrap();
    let mut workspace = f.store.workspace(&base).unwrap();
    workspace.copy(&f.context(), &request("/", "/dir")).unwrap();
    workspace.remove(Path::new("usr/lib/old"), &Remove { wildcard: false, allow_not_found: false }).unwrap();
    workspace.remove(Path::new("lib"), &Remove { wildcard: false, allow_not_found: false }).unwrap();
    let step = workspace.commit().unwrap();
    let plain = f.store.export_layer(&step, &base, &LayerOptions::default()).unwrap();
    let bounded = LayerOptions { latest_mtime: Some(1000), ..LayerOptions::default() };
    let rewritten = f.store.rewrite_layer(&plain.descriptor.digest, &bounded).unwrap();
    assert_eq!(rewritten, f.store.export_layer(&step, &base, &bounded).unwrap());
    assert_ne!(rewritten.diff_id, plain.diff_id);
    assert!(rewritten.entries > 5, "{rewritten:?}");
}
