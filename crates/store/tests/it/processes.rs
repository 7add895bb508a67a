//! Eight processes at one store.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use onetag_store::copy::{CopyRequest, MakeFile};
use onetag_store::tree::MergedTree;
use onetag_store::{LayerId, LayerOptions, PruneOptions, RecordStorage, Store};

use crate::archive::Archive;
use crate::collection::image;

const WORKER: &str = "ONETAG_STORE_TEST_WORKER";
const SECONDS: &str = "ONETAG_STORE_TEST_SECONDS";

/// Not a test by itself: what each of the processes does, again and again.
#[test]
fn the_worker() {
    let (Some(root), Some(seconds)) = (std::env::var_os(WORKER), std::env::var(SECONDS).ok()) else { return };
    let root = PathBuf::from(root);
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
    let me = std::process::id();
    let mut round = 0_u32;
    while Instant::now() < end {
        // A new handle each time, as a new command would have.
        let store = Store::open(&root).unwrap();
        let name = format!("docker.io/worker/p{me}:latest");
        let shared = format!("docker.io/shared/r{}:latest", round % 3);
        let archive = || Archive::new().directory("d", 0o755).file("d/f", format!("{}", round % 5).as_bytes());
        let (blobs, layer) = image(&store, &name, archive());
        image(&store, &shared, archive());
        store.ensure_layer(&layer, &blobs[2], "").unwrap();
        let below = store.stack(&[LayerId::Diff(layer)]).unwrap();
        let mut workspace = store.workspace(&below).unwrap();
        let file = MakeFile { mode: 0o644, mtime: Some((1, 0)), ..MakeFile::default() };
        workspace.make_file(std::path::Path::new("/d/new"), &round.to_le_bytes(), &file).unwrap();
        let source = MergedTree::open(&below.lowers, store.ownership()).unwrap();
        let request = CopyRequest {
            source: "/d".into(),
            destination: "/copy".into(),
            create_destination: true,
            ..CopyRequest::default()
        };
        workspace.copy(&source, &request).unwrap();
        let step = workspace.commit().unwrap();
        let exported = store.export_layer(&step, &below, &LayerOptions::default()).unwrap();
        store.database().put("cache", &me.to_le_bytes(), &round.to_le_bytes(), &[step.resource()]).unwrap();
        match round % 4 {
            0 => drop(store.prune(&PruneOptions::default()).unwrap()),
            1 => {
                let all = PruneOptions { unused_for: Some(Duration::ZERO), ..PruneOptions::default() };
                store.prune(&all).unwrap();
            }
            2 => drop(store.remove_reference(&shared).unwrap()),
            _ => {}
        }
        // What this process has in its hands is still there, whatever the others collected.
        assert!(store.has_blob(&exported.descriptor.digest) && store.has_layer(&step));
        assert!(blobs.iter().all(|digest| store.has_blob(digest)));
        assert_eq!(store.reference(&name).unwrap().unwrap().digest, blobs[0]);
        round += 1;
    }
    assert!(round > 0);
}

#[test]
fn eight_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let seconds = std::env::var(SECONDS).unwrap_or_else(|_| "3".to_owned());
    let workers: Vec<_> = (0..8)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "processes::the_worker", "--nocapture"])
                .env(WORKER, &root)
                .env(SECONDS, &seconds)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let store = Store::open(&root).unwrap();
    assert!(store.references().unwrap().len() >= 8);
    assert_eq!(store.check().unwrap().findings, []);
    store.prune(&PruneOptions::default()).unwrap();
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    assert_eq!(store.check().unwrap().findings, []);
}
