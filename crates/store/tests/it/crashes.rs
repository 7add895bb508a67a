//! A process killed at every change that it makes to the store: what it had reported is there, nothing else is seen.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use onetag_oci::{Descriptor, Digest, media_type};
use onetag_store::{LayerId, LayerOptions, PruneOptions, RecordStorage, Resource, Store};

use crate::archive::{Archive, put};
use crate::collection::image;

/// The store of the scenario, set in the process that plays it.
const SCENARIO: &str = "ONETAG_STORE_TEST_SCENARIO";

const KEPT: &str = "docker.io/library/kept:latest";
const MOVED: &str = "docker.io/library/moved:latest";

/// Not a test by itself: what the killed process does. It tells each thing that is done.
#[test]
fn the_scenario() {
    let Some(root) = std::env::var_os(SCENARIO) else { return };
    let root = PathBuf::from(root);
    let mut done = std::fs::File::options().create(true).append(true).open(root.with_extension("done")).unwrap();
    let mut tell = |what: String| done.write_all(format!("{what}\n").as_bytes()).unwrap();
    let store = Store::open(&root).unwrap();
    let (blobs, layer) = image(&store, MOVED, Archive::new().directory("d", 0o755).file("d/a", b"a"));
    tell(format!("name {MOVED} {}", blobs[0]));
    store.ensure_layer(&layer, &blobs[2], "").unwrap();
    let below = store.stack(&[LayerId::Diff(layer)]).unwrap();
    let upper = store.new_upper(&below).unwrap();
    std::fs::write(upper.upper().join("f"), b"f").unwrap();
    let step = upper.commit().unwrap();
    let exported = store.export_layer(&step, &below, &LayerOptions::default()).unwrap();
    let resources = [Resource::Blob(exported.descriptor.digest.clone()), step.resource()];
    store.database().put("cache", b"key", b"value", &resources).unwrap();
    let index = store.put_document(b"{}").unwrap();
    store.set_reference(MOVED, Descriptor::new(media_type::OCI_INDEX, index.clone(), 2)).unwrap();
    tell(format!("name {MOVED} {index}"));
    let batch = store.batch();
    let (blobs, _) = image(&store, MOVED, Archive::new().file("b", b"of a batch"));
    tell(format!("name {MOVED} {}", blobs[0]));
    batch.close().unwrap();
    store.remove_reference(MOVED).unwrap();
    tell(format!("gone {MOVED}"));
    let all =
        PruneOptions { unused_for: Some(std::time::Duration::ZERO), unpacked_layers: true, ..PruneOptions::default() };
    store.prune(&all).unwrap();
}

fn verify(root: &Path, kept: &[Digest], round: &str) {
    let store = Store::open(root).unwrap();
    let told = std::fs::read_to_string(root.with_extension("done")).unwrap_or_default();
    let last = told.lines().last().map(|line| line.split(' ').collect::<Vec<_>>());
    let moved = store.reference(MOVED).unwrap();
    match last.as_deref() {
        // The next thing may have happened just before it could be told.
        Some(["name", _, digest]) if told.lines().count() == 1 => {
            let found = moved.expect("a name that was reported is gone").digest.to_string();
            assert!(found == *digest || found == Digest::sha256(b"{}").to_string(), "round {round}");
        }
        Some(["gone", _]) => assert_eq!(moved, None, "round {round}"),
        _ => {}
    }
    assert!(kept.iter().all(|digest| store.has_blob(digest)), "round {round}");
    let report = store.check().unwrap();
    let harmful: Vec<_> = report.findings.iter().filter(|finding| !finding.images.is_empty()).collect();
    assert!(harmful.is_empty(), "round {round}: {harmful:?}");
    // The next command works, and collection takes what was left.
    let (again, layer) = image(&store, "docker.io/library/next:latest", Archive::new().file("n", b"n"));
    store.ensure_layer(&layer, &again[2], "").unwrap();
    drop(store);
    let store = Store::open(root).unwrap();
    store.prune(&PruneOptions::default()).unwrap();
    let left: Vec<_> = std::fs::read_dir(root.join("tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "round {round}: {left:?}");
    assert!(kept.iter().chain(&again).all(|digest| store.has_blob(digest)), "round {round}");
}

#[test]
fn killed_at_every_change() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let calls = "rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,mknodat,fsync,fdatasync,pwrite64,ftruncate";
    let folder = tempfile::tempdir().unwrap();
    let prepared = folder.path().join("prepared");
    let kept = {
        let store = Store::open(&prepared).unwrap();
        image(&store, KEPT, Archive::new().file("k", b"k")).0
    };
    let scenario = |root: &Path, arguments: &[&str]| {
        Command::new("strace")
            .args(["-f", "-qq", "-e"])
            .arg(format!("trace={calls}"))
            .args(arguments)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "crashes::the_scenario", "--nocapture"])
            .env(SCENARIO, root)
            .output()
            .unwrap()
    };
    // strace counts each call by itself, so that a change is a call and its number among those of its name
    let log = folder.path().join("log");
    let whole = folder.path().join("whole");
    let copy = |to: &Path| assert!(Command::new("cp").arg("-a").arg(&prepared).arg(to).status().unwrap().success());
    copy(&whole);
    let output = scenario(&whole, &["-o", log.to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("ptrace") {
        eprintln!("skipped: tracing is denied: {stderr}");
        return;
    }
    assert!(output.status.success(), "{stderr}");
    let changes = changes(&std::fs::read_to_string(&log).unwrap());
    assert!(changes.len() > 30, "only {changes:?} were met");
    // Some of the changes in every run of the tests, others in the next, are enough here.
    let stride = if std::env::var_os("ONETAG_TEST_EXHAUSTIVE").is_some() { 1 } else { 7 };
    for (call, number) in changes.iter().skip(std::process::id() as usize % stride).step_by(stride) {
        let root = folder.path().join(format!("{call}-{number}"));
        copy(&root);
        let output =
            scenario(&root, &["-o", "/dev/null", "-e", &format!("inject={call}:signal=SIGKILL:when={number}")]);
        let killed = output.status.signal() == Some(9) || output.status.code() == Some(137);
        let round = format!("{call} {number}");
        assert!(killed || output.status.success(), "{round}: {}", String::from_utf8_lossy(&output.stderr));
        verify(&root, &kept, &round);
        std::fs::remove_dir_all(&root).unwrap();
    }
}

/// The changes of a log of strace's, each call by its name and its number among those of that name in its thread.
fn changes(log: &str) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in log.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        if let Some((name, _)) = call.trim_start().split_once('(').filter(|(name, _)| !name.starts_with('<')) {
            *counts.entry((name, thread)).or_default() += 1;
        }
    }
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    for ((name, _), count) in counts {
        let known = most.entry(name).or_default();
        *known = count.max(*known);
    }
    most.into_iter().flat_map(|(name, count)| (1..=count).map(move |number| (name.to_owned(), number))).collect()
}

#[test]
fn an_unfinished_blob_is_not_a_blob() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"half").unwrap();
    std::mem::forget(writer);
    let (_, blob) = put(&store, b"whole");
    assert_eq!(store.blobs().unwrap(), [(blob, 5)]);
}
