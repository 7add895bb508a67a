//! What was confirmed is there: after the process died, after garbage was collected, and when everybody pushes the same.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onetag_oci::{Digest, Platform, media_type};
use onetag_registry::Pushed;
use onetag_registry::server::storage::{FilesystemStorage, Storage};
use onetag_registry::server::{CollectOptions, Options, Server, collect};

use crate::scripted::{Asked, forward};
use crate::support::{TestRegistry, client, describe, noise, push_image, push_index};

fn storage(folder: &Path) -> Arc<dyn Storage> {
    Arc::new(FilesystemStorage::open(folder).expect("opened"))
}

fn everything(dry_run: bool) -> CollectOptions {
    CollectOptions { dry_run, untagged: true, grace: Duration::ZERO }
}

/// Bytes that a folder's files occupy.
fn occupied(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for entry in std::fs::read_dir(folder).expect("folder") {
        let entry = entry.expect("entry");
        let metadata = entry.metadata().expect("metadata");
        total += if metadata.is_dir() { occupied(&entry.path()) } else { metadata.blocks() * 512 };
    }
    total
}

#[test]
fn collection_leaves_what_tags_lead_to() {
    let registry = TestRegistry::start();
    let client = client();
    let kept = registry.reference("app:kept");
    let index = push_index(&client, &kept);
    let gone = registry.reference("app:gone");
    push_image(&client, &gone, &noise(300_000, 77), &Platform::linux("amd64"));
    let subject = describe(&index, media_type::OCI_INDEX);
    let referrer = format!(
        r#"{{"schemaVersion":2,"mediaType":"{0}","artifactType":"application/x","manifests":[],"subject":{{"mediaType":"{0}","digest":"{1}","size":{2}}}}}"#,
        media_type::OCI_INDEX,
        subject.digest,
        subject.size
    );
    let untagged = gone.without_tag().with_digest(Digest::sha256(referrer.as_bytes()));
    client.push_manifest(&untagged, referrer.as_bytes(), media_type::OCI_INDEX).expect("referrer");
    let loose = noise(50_000, 5);
    client.push_blob(&kept, &describe(&loose, media_type::OCI_LAYER), &loose, &[]).expect("loose");
    let storage = storage(registry.folder.path());
    let young =
        collect(&storage, CollectOptions { grace: Duration::from_secs(600), ..everything(false) }).expect("ran");
    assert_eq!(young, Default::default(), "young content stays");
    client.delete_manifest(&gone).expect("untagged");
    let tagged_only = collect(&storage, CollectOptions { untagged: false, ..everything(true) }).expect("ran");
    assert_eq!((tagged_only.manifests.len(), tagged_only.blobs.len()), (0, 1));
    let planned = collect(&storage, everything(true)).expect("planned");
    assert_eq!((planned.manifests.len(), planned.blobs.len(), planned.content.len()), (1, 3, 4));
    let before = occupied(&registry.folder.path().join("content"));
    let done = collect(&storage, everything(false)).expect("collected");
    assert_eq!(done, planned, "what was said is what happens");
    assert_eq!(before - occupied(&registry.folder.path().join("content")), done.freed_bytes());
    assert_eq!(client.manifest(&kept).expect("kept").bytes(), index);
    assert_eq!(client.referrers(&kept, &subject.digest, None).expect("referrers").len(), 1);
    for child in &client.manifest(&kept).expect("kept").as_index().expect("index").manifests {
        let manifest = client.manifest(&kept.without_tag().with_digest(child.digest.clone())).expect("child");
        for blob in &manifest.as_manifest().expect("manifest").layers {
            client.fetch_blob(&kept, blob, &mut Vec::new()).expect("layer");
        }
    }
    assert_eq!(collect(&storage, everything(false)).expect("again"), Default::default());
}

#[test]
fn collection_and_pushes_do_not_get_into_each_others_way() {
    let registry = TestRegistry::start();
    let storage = storage(registry.folder.path());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let collector = std::thread::spawn(move || {
        // Pushes take less than the grace.
        let options = CollectOptions { grace: Duration::from_secs(5), ..everything(false) };
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            collect(&storage, options).expect("collected");
        }
    });
    let client = client();
    for number in 0..10 {
        let reference = registry.reference(&format!("app:v{number}"));
        let descriptor = push_image(&client, &reference, &noise(10_000, number), &Platform::linux("amd64"));
        assert_eq!(client.resolve(&reference).expect("resolved").digest, descriptor.digest);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    collector.join().expect("collector");
    assert_eq!(client.tags(&registry.reference("app")).expect("tags").len(), 10);
}

#[test]
fn one_digest_pushed_by_many_is_stored_once() {
    let registry = TestRegistry::start();
    let blob = noise(400_000, 1);
    let descriptor = describe(&blob, media_type::OCI_LAYER);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (registry, blob, descriptor) = (&registry, &blob, &descriptor);
            scope.spawn(move || {
                let reference = registry.reference(&format!("r{}", number % 2));
                let pushed = client().push_blob(&reference, descriptor, blob, &[]).expect("pushed");
                assert!(matches!(pushed, Pushed::Uploaded | Pushed::Existed));
            });
        }
    });
    let stored = storage(registry.folder.path()).contents().expect("listed");
    assert_eq!(stored.len(), 1);
    assert_eq!(std::fs::read_dir(registry.folder.path().join("arriving")).expect("folder").count(), 0);
}

#[test]
fn uploads_go_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let mut options = Options::new(folder.path());
    options.address.set_port(0);
    let blob = noise(100_000, 8);
    let digest = Digest::sha256(&blob);
    let ask = |address, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        forward(address, &Asked { method: method.into(), target: target.into(), headers, body: body.to_vec() })
    };
    let first = Server::bind(&options).expect("bound").spawn();
    let begun = ask(first.address(), "POST", "/v2/a/blobs/uploads/", &[], b"");
    let location = begun.header("location").expect("location").to_owned();
    // The connection breaks in the middle of a chunk; what arrived of it counts.
    let mut stream = TcpStream::connect(first.address()).expect("connected");
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("written");
    stream.write_all(&blob[..60_000]).expect("written");
    stream.flush().expect("flushed");
    drop(stream);
    let mut received = String::new();
    for _ in 0..100 {
        received = ask(first.address(), "GET", &location, &[], b"").header("range").unwrap_or_default().to_owned();
        if received == "0-59999" {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(received, "0-59999");
    first.stop().expect("stopped");
    let second = Server::bind(&options).expect("bound").spawn();
    let status = ask(second.address(), "GET", &location, &[], b"");
    assert_eq!((status.status, status.header("range")), (204, Some("0-59999")));
    let rest = ask(second.address(), "PATCH", &location, &[("content-range", "60000-99999")], &blob[60_000..]);
    assert_eq!(rest.status, 202);
    let done = ask(second.address(), "PUT", &format!("{location}?digest={digest}"), &[], b"");
    assert_eq!(done.status, 201);
    assert_eq!(ask(second.address(), "GET", &format!("/v2/a/blobs/{digest}"), &[], b"").body, blob);
}

#[test]
fn what_was_confirmed_survives_another_process_and_litter() {
    let registry = TestRegistry::start();
    let reference = registry.reference("app:v1");
    let client = client();
    let index = push_index(&client, &reference);
    let root = registry.folder.path().to_owned();
    // What a process that was killed leaves behind.
    for litter in ["tmp/1-1", "arriving/00000000-0000-4000-8000-000000000000"] {
        std::fs::write(root.join(litter), "half of something").expect("written");
        let file = std::fs::File::options().write(true).open(root.join(litter)).expect("opened");
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(7200)).expect("made old");
    }
    let mut options = Options::new(&root);
    options.address.set_port(0);
    options.limits.upload_age = Duration::from_secs(3600);
    let second = Server::bind(&options).expect("bound").spawn();
    let elsewhere = format!("{}/app:v1", second.address());
    let elsewhere = onetag_oci::Reference::parse(&elsewhere).expect("reference");
    assert_eq!(client.manifest(&elsewhere).expect("manifest").bytes(), index);
    // A tag that one of two servers moves is moved for the other as well.
    let moved = push_image(&client, &elsewhere, b"another layer", &Platform::linux("amd64"));
    assert_eq!(client.resolve(&reference).expect("resolved").digest, moved.digest);
    let litter = |folder: &str| std::fs::read_dir(root.join(folder)).expect("folder").count();
    for _ in 0..100 {
        if litter("tmp") + litter("arriving") == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("litter stays");
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    // A file system of a few pages, which only root can make.
    let folder = tempfile::tempdir().expect("folder");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(folder.path())
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("ONETAG_REQUIRE").is_none(), "cannot mount a small file system");
        println!("skipped: cannot mount a small file system");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let mut options = Options::new(folder.path());
        options.address.set_port(0);
        let running = Server::bind(&options).expect("bound").spawn();
        let reference = onetag_oci::Reference::parse(&format!("{}/a", running.address())).expect("reference");
        let blob = noise(1_000_000, 1);
        let descriptor = describe(&blob, media_type::OCI_LAYER);
        let put = |blob: &[u8]| {
            let target = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(blob));
            let asked = Asked { method: "POST".into(), target, headers: Vec::new(), body: blob.to_vec() };
            forward(running.address(), &asked).status
        };
        assert_eq!(put(&blob), 507);
        assert!(!client().blob_exists(&reference, &descriptor.digest).expect("asked"));
        assert_eq!(std::fs::read_dir(folder.path().join("arriving")).expect("folder").count(), 0);
        assert_eq!(put(&blob[..50_000]), 201);
    });
    let _ = std::process::Command::new("umount").arg(folder.path()).status();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
