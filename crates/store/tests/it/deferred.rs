//! Copies that are put together in memory: the same layers as copies on disk, and never other content than was seen.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use onetag_store::checksum::{self, Captured, NoFileDigests, Selection};
use onetag_store::copy::CopyRequest;
use onetag_store::layer::{Compression, CompressionOptions};
use onetag_store::tree::MergedTree;
use onetag_store::{ExportedLayer, LayerId, LayerOptions, Store};
use proptest::prelude::*;

use crate::archive::{Archive, list, unpack};

struct Fixture {
    _folder: tempfile::TempDir,
    context: PathBuf,
    store: Store,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let context = folder.path().join("context");
    std::fs::create_dir(&context).unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    Fixture { context, store, _folder: folder }
}

/// Long ago, so that a change since then shows.
fn age(path: &Path, seconds: u64) {
    let file = std::fs::File::open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::new(1_500_000_000 + seconds, 5)).unwrap();
}

const PLAIN: LayerOptions = LayerOptions {
    compression: CompressionOptions { compression: Compression::None, level: None },
    latest_mtime: None,
};

impl Fixture {
    fn file(&self, path: &str, content: &str) {
        let path = self.context.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        age(&path, content.len() as u64);
    }

    fn capture(&self, request: &CopyRequest) -> Captured {
        let tree = MergedTree::plain(&self.context, Some((0, 0)), None).unwrap();
        let selection = Selection {
            path: request.source.clone(),
            wildcard: request.wildcard,
            follow_symlinks: request.follow_symlinks,
            filter: request.filter.clone(),
            contents_only: request.copy_directory_contents,
        };
        checksum::capture(&tree, &selection, &NoFileDigests).unwrap()
    }

    /// The layer that is put together in memory, unless that is refused.
    fn deferred(&self, below: &[LayerId], requests: &[CopyRequest]) -> Option<LayerId> {
        let mut copy = self.store.deferred_copy(self.store.view(below).unwrap()).unwrap();
        for request in requests {
            if !copy.copy(&self.capture(request), request).unwrap() {
                return None;
            }
        }
        Some(copy.commit().unwrap())
    }

    /// The layer that is written to disk.
    fn copied(&self, below: &[LayerId], requests: &[CopyRequest]) -> Result<LayerId, String> {
        let mut workspace = self.store.workspace(&self.store.stack(below).unwrap()).unwrap();
        for request in requests {
            workspace.copy_captured(&self.capture(request), request).map_err(|error| error.to_string())?;
        }
        Ok(workspace.commit().unwrap())
    }

    fn export(&self, below: &[LayerId], layer: &LayerId) -> onetag_store::Result<ExportedLayer> {
        let tree = self.store.view(below)?;
        self.store.export_layer_over(layer, below, &tree, &PLAIN, |_| {})
    }

    fn content(&self, layer: &ExportedLayer) -> Vec<String> {
        list(&self.store.read_blob(&layer.descriptor.digest, 1 << 24).unwrap())
    }

    /// Everything to be seen in a tree, with attributes and content.
    fn shown(tree: &MergedTree) -> Vec<String> {
        let describe = |entry: onetag_store::tree::WalkEntry| {
            let m = entry.node.metadata().unwrap();
            let content = match &entry.node {
                onetag_store::tree::Node::Leaf(leaf) if m.file_type.is_file() => {
                    std::io::read_to_string(leaf.open_confirmed().unwrap()).unwrap()
                }
                onetag_store::tree::Node::Leaf(leaf) if m.file_type.is_symlink() => {
                    leaf.read_link().unwrap().display().to_string()
                }
                _ => String::new(),
            };
            format!("{:?} {:o} {}:{} {} {content}", entry.path, m.mode, m.uid, m.gid, m.mtime.0)
        };
        tree.walk(Path::new("")).unwrap().map(|entry| describe(entry.unwrap())).collect()
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
        mtime: Some((1_400_000_000, 0)),
        ..CopyRequest::default()
    }
}

#[test]
fn nothing_is_written_before_somebody_needs_files() {
    let f = fixture();
    f.file("a/one", "1");
    f.file("a/two", "2");
    std::fs::hard_link(f.context.join("a/two"), f.context.join("a/three")).unwrap();
    let layer = f.deferred(&[], &[request("/a", "/to/")]).unwrap();
    let LayerId::Step(step) = &layer else { panic!("no step") };
    let folder = f.store.root().join("layers/steps").join(step.as_str());
    assert!(!f.store.has_layer(&layer), "no other process finds it");
    let exported = f.export(&[], &layer).unwrap();
    assert_eq!(f.content(&exported).len(), 4);
    assert!(f.store.has_layer(&layer));
    assert!(!folder.join("tree").exists());
    let in_memory = Fixture::shown(&f.store.view(std::slice::from_ref(&layer)).unwrap());
    // Another process has the blob alone.
    f.store.forget_deferred(std::slice::from_ref(&layer));
    let stack = f.store.stack(std::slice::from_ref(&layer)).unwrap();
    assert!(folder.join("tree").exists());
    assert_eq!(Fixture::shown(&MergedTree::open(&stack.lowers, f.store.ownership()).unwrap()), in_memory);
}

#[test]
fn what_is_only_in_memory_can_be_made_to_stay() {
    let f = fixture();
    f.file("a", "1");
    let (lost, kept) =
        (f.deferred(&[], &[request("/a", "/")]).unwrap(), f.deferred(&[], &[request("/a", "/")]).unwrap());
    f.store.persist_layer(&kept).unwrap();
    f.store.forget_deferred(&[lost.clone(), kept.clone()]);
    assert!(!f.store.has_layer(&lost));
    assert!(f.store.stack(&[lost]).is_err());
    assert!(f.store.has_layer(&kept));
    assert_eq!(f.content(&f.export(&[], &kept).unwrap()).len(), 1);
}

/// What a change is called, and the change.
type Change = (&'static str, fn(&Path));

#[test]
fn a_file_that_changes_after_it_was_digested_is_an_error_however_it_changes() {
    let changes: [Change; 4] = [
        ("longer", |path| std::fs::write(path, "one more").unwrap()),
        ("as long, times set back", |path| {
            std::fs::write(path, "two").unwrap();
            age(path, 3);
        }),
        ("another file", |path| {
            std::fs::write(path.with_extension("new"), "two").unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("gone", |path| std::fs::remove_file(path).unwrap()),
    ];
    // At once, when only content tells, and after a while, when the state does.
    for pause in [Duration::ZERO, Duration::from_millis(80)] {
        for (name, change) in changes {
            let f = fixture();
            f.file("a", "one");
            std::thread::sleep(pause);
            let request = request("/a", "/");
            let captured = f.capture(&request);
            let mut copy = f.store.deferred_copy(f.store.view(&[]).unwrap()).unwrap();
            assert!(copy.copy(&captured, &request).unwrap());
            let layer = copy.commit().unwrap();
            change(&f.context.join("a"));
            assert!(f.export(&[], &layer).is_err(), "written as a layer: {name}");
            assert!(f.store.persist_layer(&layer).is_err(), "made a tree: {name}");
            assert!(!f.store.has_layer(&layer));
            let mut workspace = f.store.workspace(&f.store.stack(&[]).unwrap()).unwrap();
            assert!(workspace.copy_captured(&captured, &request).is_err(), "copied: {name}");
        }
    }
}

#[test]
fn layers_in_memory_lie_on_each_other() {
    let f = fixture();
    let base = LayerId::Diff(unpack(&f.store, Archive::new().directory("app", 0o750).file("app/old", b"old")));
    f.file("one", "1");
    f.file("two", "2");
    let first = f.deferred(std::slice::from_ref(&base), &[request("/one", "/app/x/")]).unwrap();
    let below = [base.clone(), first];
    let second = f.deferred(&below, &[request("/two", "/app/x/")]).unwrap();
    let exported = f.export(&below, &second).unwrap();
    let names: Vec<String> = f.content(&exported);
    assert_eq!(names.len(), 3, "the folders on the way are those of the layers below: {names:?}");
    let on_disk = f.copied(std::slice::from_ref(&base), &[request("/one", "/app/x/")]).unwrap();
    let below = [base, on_disk];
    let copied = f.copied(&below, &[request("/two", "/app/x/")]).unwrap();
    assert_eq!(f.export(&below, &copied).unwrap().diff_id, exported.diff_id);
}

#[test]
fn what_stands_in_the_way_is_left_to_the_copy_on_disk() {
    let f = fixture();
    f.file("a", "1");
    f.file("d/x", "1");
    let base = [LayerId::Diff(unpack(&f.store, Archive::new().directory("a", 0o755).file("d", b"file")))];
    assert!(f.deferred(&base, &[request("/d", "/d")]).is_none());
    assert!(f.copied(&base, &[request("/d", "/d")]).is_err());
}

/// What a random context holds: path, kind, mode, seconds.
fn entries() -> impl Strategy<Value = Vec<(String, u8, u32, u64)>> {
    let path = proptest::collection::vec("[a-c]", 1..4).prop_map(|names| names.join("/"));
    proptest::collection::vec((path, 0..6_u8, prop_oneof![Just(0o644), Just(0o4755), Just(0o600)], 0..3_u64), 0..14)
}

/// Source, destination, and four choices of a random copy.
type Choice = (&'static str, &'static str, [bool; 4]);

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let source = prop_oneof![Just("/"), Just("/a"), Just("/b*"), Just("/a/b"), Just("."), Just("/c/")];
    let destination =
        prop_oneof![Just("/"), Just("/a"), Just("/new/"), Just("/new"), Just("/link/x/"), Just("/dir/"), Just("/dir")];
    proptest::collection::vec((source, destination, any::<[bool; 4]>()), 1..3)
}

fn chosen((source, destination, [contents, owned, kept, ranked]): &Choice) -> CopyRequest {
    // Folders that are made on the way have the time of the copy, which is another one each time.
    let makes_folders = destination.starts_with("/new") || destination.ends_with("x/") || *destination == "/a";
    CopyRequest {
        copy_directory_contents: *contents,
        owner: owned.then_some((7, 8)),
        mtime: (!kept || makes_folders || destination.starts_with("/dir")).then_some((1_400_000_000, 0)),
        mode: ranked.then(|| std::sync::Arc::new(|mode: u32, _: bool| mode | 0o111) as onetag_store::copy::ModeChange),
        ..request(source, destination)
    }
}

/// A layer does not hold folders that are as below but for their time, so a tree that comes of a blob has not theirs.
fn without_folder_times(shown: &[String]) -> Vec<String> {
    let cut = |line: &String| match line.strip_suffix(' ') {
        Some(folder) => folder.rsplit_once(' ').map_or(folder, |(rest, _)| rest).to_owned(),
        None => line.clone(),
    };
    shown.iter().map(cut).collect()
}

fn fill(root: &Path, entries: &[(String, u8, u32, u64)]) {
    for (path, kind, mode, seconds) in entries {
        let place = root.join(path);
        let parents = place.parent().unwrap();
        if std::fs::create_dir_all(parents).is_err() || place.symlink_metadata().is_ok() {
            continue;
        }
        match kind {
            0 => std::fs::create_dir(&place).unwrap(),
            1 => symlink("b", &place).unwrap(),
            2 if root.join("first").exists() => std::fs::hard_link(root.join("first"), &place).unwrap(),
            2 => {
                std::fs::write(root.join("first"), "linked").unwrap();
                age(&root.join("first"), *seconds);
            }
            _ => {
                std::fs::write(&place, path).unwrap();
                std::fs::set_permissions(&place, PermissionsExt::from_mode(*mode)).unwrap();
                age(&place, *seconds);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn in_memory_and_on_disk_are_the_same_layer(entries in entries(), choices in choices(), with_base in any::<bool>()) {
        let requests: Vec<CopyRequest> = choices.iter().map(chosen).collect();
        let f = fixture();
        fill(&f.context, &entries);
        let archive = Archive::new()
            .directory("dir", 0o700)
            .file("dir/a", b"old")
            .directory("dir/b", 0o711)
            .symlink("link", "dir");
        let base = if with_base { vec![LayerId::Diff(unpack(&f.store, archive))] } else { Vec::new() };
        let is_there = |request: &CopyRequest| {
            let tree = MergedTree::plain(&f.context, Some((0, 0)), None).unwrap();
            let selection = Selection {
                path: request.source.clone(),
                wildcard: true,
                follow_symlinks: true,
                contents_only: request.copy_directory_contents,
                ..Selection::default()
            };
            checksum::capture(&tree, &selection, &NoFileDigests).is_ok()
        };
        prop_assume!(requests.iter().all(is_there));
        if let Some(deferred) = f.deferred(&base, &requests) {
            let copied = f.copied(&base, &requests).expect("what is deferred can be copied");
            let (a, b) = (f.export(&base, &deferred).unwrap(), f.export(&base, &copied).unwrap());
            prop_assert_eq!(f.content(&a), f.content(&b));
            prop_assert_eq!(&a.diff_id, &b.diff_id);
            // The trees that come of the memory, of the blob and of the copy are one.
            let tree = |layer: &LayerId| {
                let layers: Vec<LayerId> = base.iter().chain([layer]).cloned().collect();
                Fixture::shown(&MergedTree::open(&f.store.stack(&layers).unwrap().lowers, f.store.ownership()).unwrap())
            };
            let expected = tree(&copied);
            let layers: Vec<LayerId> = base.iter().chain([&deferred]).cloned().collect();
            prop_assert_eq!(&Fixture::shown(&f.store.view(&layers).unwrap()), &expected);
            f.store.forget_deferred(std::slice::from_ref(&deferred));
            prop_assert_eq!(without_folder_times(&tree(&deferred)), without_folder_times(&expected));
            let persisted = f.deferred(&base, &requests).expect("as before");
            f.store.persist_layer(&persisted).unwrap();
            prop_assert_eq!(&tree(&persisted), &expected);
        }
    }
}
