//! What collection takes and what it leaves.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use onetag_oci::{Descriptor, DiffId, Digest, ImageConfig, Manifest, Platform, media_type};
use onetag_store::{LayerId, PruneOptions, RecordStorage, Resource, Store, UsageKind};

use crate::archive::{Archive, put, unpack};

/// An image of one uncompressed layer under a name. Gives its blobs and its layer.
pub fn image(store: &Store, name: &str, archive: Archive) -> (Vec<Digest>, DiffId) {
    let archive = archive.bytes();
    let (diff_id, layer) = put(store, &archive);
    let mut config = ImageConfig::new(&Platform::linux("amd64"));
    config.rootfs.diff_ids = vec![diff_id.clone()];
    let config = onetag_oci::go_json(&config);
    let config_digest = store.put_document(&config).unwrap();
    let manifest = Manifest::new(
        Descriptor::new(media_type::OCI_CONFIG, config_digest.clone(), config.len() as u64),
        vec![Descriptor::new(media_type::OCI_LAYER, layer.clone(), archive.len() as u64)],
    );
    let manifest = onetag_oci::go_json(&manifest);
    let digest = store.put_document(&manifest).unwrap();
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest.clone(), manifest.len() as u64);
    store.set_reference(name, descriptor).unwrap();
    (vec![digest, config_digest, layer], diff_id)
}

/// The store as another process sees it later: nothing is held by this one.
fn later(store: Store) -> Store {
    let root = store.root().to_owned();
    drop(store);
    Store::open(&root).unwrap()
}

#[test]
fn a_named_image_stays_and_an_unnamed_one_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (kept, layer) = image(&store, "docker.io/library/kept:latest", Archive::new().file("a", b"1"));
    let (gone, other) = image(&store, "docker.io/library/gone:latest", Archive::new().file("a", &[7; 100_000]));
    store.ensure_layer(&layer, &kept[2], "").unwrap();
    store.ensure_layer(&other, &gone[2], "").unwrap();
    store.remove_reference("docker.io/library/gone:latest").unwrap();
    let store = later(store);
    let dry = store.prune(&PruneOptions { dry_run: true, ..PruneOptions::default() }).unwrap();
    assert!(gone.iter().all(|digest| store.has_blob(digest)));
    let report = store.prune(&PruneOptions::default()).unwrap();
    assert_eq!(dry, report);
    assert!(report.reclaimed_bytes >= 200_000, "{}", report.reclaimed_bytes);
    assert!(kept.iter().all(|digest| store.has_blob(digest)));
    assert!(!gone.iter().any(|digest| store.has_blob(digest)));
    assert!(store.unpacked_layer(&layer).is_some() && store.unpacked_layer(&other).is_none());
    let again = store.prune(&PruneOptions { unpacked_layers: true, ..PruneOptions::default() }).unwrap();
    assert!(store.unpacked_layer(&layer).is_none());
    assert_eq!(again.removed.len(), 1);
}

#[test]
fn what_is_held_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mine = store.put_document(b"mine").unwrap();
    let other = Store::open(folder.path()).unwrap();
    let lease = other.lease().unwrap();
    let layer = LayerId::Diff(unpack(&store, Archive::new().file("a", b"1")));
    lease.hold(&layer.resource()).unwrap();
    other.prune(&PruneOptions::default()).unwrap();
    assert!(store.has_blob(&mine));
    let store = later(store);
    store.prune(&PruneOptions::default()).unwrap();
    assert!(!store.has_blob(&mine));
    assert!(store.has_layer(&layer));
    drop(lease);
    // A child that another test has just forked has the lease's descriptor, and so its lock, until it executes its
    // program. Whoever holds a lease for so short a time keeps what it holds for a moment longer, which is no harm.
    let started = Instant::now();
    while store.has_layer(&layer) {
        assert!(started.elapsed() < Duration::from_secs(30), "it is still held");
        store.prune(&PruneOptions::default()).unwrap();
    }
}

#[test]
fn no_program_that_is_started_inherits_a_lock() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.put_document(b"held").unwrap();
    let lease = store.lease().unwrap();
    let claim = store.claim_work(&Digest::sha256(b"key")).unwrap();
    let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let open = String::from_utf8(output.stdout).unwrap();
    assert!(open.contains(" -> "), "{open}");
    assert!(!open.contains(&*folder.path().to_string_lossy()), "{open}");
    drop((lease, claim));
}

#[test]
fn the_cache_is_pruned_by_age_and_budget() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let below = store.stack(&[]).unwrap();
    let mut steps = Vec::new();
    for number in 0..3 {
        let upper = store.new_upper(&below).unwrap();
        std::fs::write(upper.upper().join("f"), vec![number; 1 << 20]).unwrap();
        let step = upper.commit().unwrap();
        store.database().put("cache", &[number], b"value", &[step.resource()]).unwrap();
        steps.push(step);
    }
    let store = later(store);
    store.prune(&PruneOptions::default()).unwrap();
    assert!(steps.iter().all(|step| store.has_layer(step)));
    let hour = PruneOptions { unused_for: Some(Duration::from_secs(3600)), ..PruneOptions::default() };
    assert_eq!(store.prune(&hour).unwrap().records, 0);
    let budget = PruneOptions { keep_bytes: Some(2_500_000), ..PruneOptions::default() };
    let report = store.prune(&budget).unwrap();
    assert_eq!(report.records, 1);
    assert_eq!(steps.iter().filter(|step| store.has_layer(step)).count(), 2);
    let all = PruneOptions { unused_for: Some(Duration::ZERO), ..PruneOptions::default() };
    assert_eq!(store.prune(&all).unwrap().records, 2);
    assert!(!steps.iter().any(|step| store.has_layer(step)));
    assert!(store.database().list("cache").unwrap().is_empty());
}

#[test]
fn what_a_killed_process_left_is_reclaimed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let below = store.stack(&[]).unwrap();
    let upper = store.new_upper(&below).unwrap();
    std::fs::write(upper.upper().join("f"), b"x").unwrap();
    // Neither destructors nor anything else runs in a process that is killed.
    std::mem::forget(upper);
    let other = Store::open(folder.path()).unwrap();
    other.prune(&PruneOptions::default()).unwrap();
    assert_ne!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    for lease in std::fs::read_dir(folder.path().join("leases")).unwrap() {
        let path = lease.unwrap().path();
        if !path.ends_with(other_lease(&other)) {
            std::fs::remove_file(path).unwrap();
        }
    }
    other.prune(&PruneOptions::default()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
}

/// The name of a store's own lease: the one that holds what it just wrote.
fn other_lease(store: &Store) -> String {
    let digest = store.put_document(b"mark").unwrap();
    let mark = Resource::Blob(digest).to_string();
    for lease in std::fs::read_dir(store.root().join("leases")).unwrap() {
        let path = lease.unwrap().path();
        if std::fs::read_to_string(&path).unwrap().contains(&mark) {
            return path.file_name().unwrap().to_string_lossy().into_owned();
        }
    }
    panic!("no lease holds what was written");
}

#[test]
fn reported_bytes_are_what_the_disk_gets_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let base = unpack(&store, Archive::new().directory("d", 0o755).file("d/f", &vec![1; 300_000]));
    let link = unpack(&store, Archive::new().hard_link("d/g", "d/f").file("x", &vec![2; 200_000]));
    store.stack(&[LayerId::Diff(base), LayerId::Diff(link)]).unwrap();
    let store = later(store);
    let measure = || {
        let output = Command::new("du").args(["-s", "--block-size=1"]).arg(folder.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let before = measure();
    let usage: BTreeMap<UsageKind, u64> = store.usage().unwrap().into_iter().fold(BTreeMap::new(), |mut sums, item| {
        *sums.entry(item.kind).or_default() += item.bytes;
        sums
    });
    let report = store.prune(&PruneOptions::default()).unwrap();
    let freed = before - measure();
    assert!(freed.abs_diff(report.reclaimed_bytes) * 100 <= freed, "{freed} {}", report.reclaimed_bytes);
    assert!(usage.values().sum::<u64>() >= 900_000, "{usage:?}");
}

#[test]
fn a_damaged_database_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.database().put("n", b"k", b"v", &[]).unwrap();
    let store = later(store);
    std::fs::write(folder.path().join("cache.db"), vec![0x5a; 8192]).unwrap();
    assert_eq!(store.database().get("n", b"k").unwrap(), None);
    store.database().put("n", b"k", b"w", &[]).unwrap();
    assert_eq!(later(store).database().get("n", b"k").unwrap().as_deref(), Some(&b"w"[..]));
}

#[test]
fn trees_of_another_boot_are_not_believed_unless_synced() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let layer = unpack(&store, Archive::new().file("a", b"1"));
    let record = store.layer_tree(&LayerId::Diff(layer.clone())).unwrap().with_file_name("record.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let changed = text.lines().next().unwrap().replace(boot.trim(), "another");
    let digest = Digest::sha256(changed.as_bytes());
    std::fs::write(&record, format!("{changed}\n{}\n", digest.encoded())).unwrap();
    assert!(store.unpacked_layer(&layer).is_none());
    let (diff_id, blob) = put(&store, &Archive::new().file("a", b"1").bytes());
    store.ensure_layer(&diff_id, &blob, "").unwrap();
    assert_eq!(store.sync_trees().unwrap(), 1);
    assert!(!std::fs::read_to_string(&record).unwrap().contains(boot.trim()));
    assert!(store.unpacked_layer(&layer).is_some());
}
