//! What goes to registries and the store, and in which order.

use onetag_engine::export::{Destination, ExportOptions, Target};
use onetag_oci::ManifestDocument;
use onetag_testkit::fault::{Fault, Rule};

use crate::setup::{Setup, small};

const BOTH: [&str; 2] = ["linux/amd64", "linux/arm64"];

#[test]
fn several_platforms_are_an_index_and_one_is_a_manifest() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &[("Dockerfile", "FROM REGISTRY/base:1\nCOPY a /b/\n"), ("a", "one")]);
    let (outcome, _) = setup.build(&setup.pushed(&context, &BOTH, "app:both"));
    let ManifestDocument::Index(index) = setup.pulled("app:both") else { panic!("no index") };
    assert_eq!(outcome.descriptor.unwrap().digest, *index.digest());
    let platforms: Vec<String> =
        index.manifests.iter().filter_map(|entry| Some(entry.platform.as_ref()?.to_string())).collect();
    assert_eq!(platforms, BOTH);
    let (outcome, _) = setup.build(&setup.pushed(&context, &BOTH[1..], "app:one"));
    let ManifestDocument::Manifest(manifest) = setup.pulled("app:one") else { panic!("no manifest") };
    assert_eq!(outcome.descriptor.unwrap().platform.unwrap().to_string(), "linux/arm64");
    assert_eq!(manifest.layers.len(), 2);
    assert_eq!(*manifest.digest(), index.manifests[1].digest, "alone and in the index it is the same");
}

#[test]
fn the_tag_moves_last_and_blobs_before_manifests() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &[("Dockerfile", "FROM REGISTRY/base:1\nCOPY a /b/\n"), ("a", "one")]);
    setup.requests();
    setup.build(&setup.pushed(&context, &BOTH, "app:1"));
    let writes: Vec<_> = setup.requests().into_iter().filter(|request| request.method == "PUT").collect();
    let first_manifest = writes.iter().position(|request| request.path.contains("/manifests/")).unwrap();
    assert!(writes[first_manifest..].iter().all(|request| request.path.contains("/manifests/")));
    assert!(writes.last().unwrap().path.ends_with("/manifests/1"));
    assert_eq!(writes.iter().filter(|request| request.path.ends_with("/manifests/1")).count(), 1);
}

#[test]
fn layers_of_the_base_never_pass_through_here() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let dockerfile = "FROM REGISTRY/base:1\nLABEL a=b\nCOPY --link a /b/\n";
    let context = setup.context("context", &[("Dockerfile", dockerfile), ("a", "one")]);
    setup.requests();
    setup.build(&setup.pushed(&context, &BOTH, "app:1"));
    let requests = setup.requests();
    let layers: Vec<_> =
        requests.iter().filter(|request| request.method == "GET" && request.path.contains("/base/blobs/")).collect();
    assert_eq!(layers.len(), 2, "the configs alone: {layers:?}");
    assert!(requests.iter().any(|request| request.method == "POST" && request.path.contains("from=base")));
}

#[test]
fn loaded_and_pushed_are_one_digest() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &[("Dockerfile", "FROM REGISTRY/base:1\nCOPY a /b/\n"), ("a", "one")]);
    let mut request = setup.request(&context, &BOTH);
    request.tags.push(setup.reference("app:1"));
    request.outputs.push(ExportOptions::new(Target::Store));
    let (outcome, _) = setup.build(&request);
    let store = setup.engine.store().unwrap();
    let loaded = store.reference(&setup.reference("app:1").to_string()).unwrap().unwrap();
    assert_eq!(outcome.descriptor.unwrap().digest, loaded.digest);
    let cancel = onetag_engine::progress::Cancellation::new();
    let reference = setup.reference("app:1");
    let request = onetag_engine::push::PushRequest { reference, platforms: Vec::new(), fetches_missing: false };
    let pushed = onetag_engine::push::push(&setup.engine, &request, &cancel, &|_| {}).unwrap();
    assert_eq!(pushed.descriptor.digest, loaded.digest);
    assert_eq!(*setup.pulled("app:1").digest(), loaded.digest);
}

#[test]
fn a_local_image_is_a_base_before_any_registry_is_asked() {
    let setup = Setup::new();
    let first = setup.context("first", &[("Dockerfile", "FROM scratch\nCOPY a /a\n"), ("a", "one")]);
    let mut request = setup.request(&first, &BOTH);
    request.tags.push("docker.io/library/mine:latest".parse().unwrap());
    request.outputs.push(ExportOptions::new(Target::Store));
    setup.build(&request);
    let second = setup.context("second", &[("Dockerfile", "FROM mine\nCOPY b /b\n"), ("b", "two")]);
    let (outcome, _) = setup.build(&setup.pushed(&second, &BOTH, "app:1"));
    assert_eq!(*setup.pulled("app:1").digest(), outcome.descriptor.unwrap().digest);
}

#[test]
fn archives_and_folders_hold_the_files() {
    let setup = Setup::new();
    let context = setup.context("context", &[("Dockerfile", "FROM scratch\nCOPY a /b/\n"), ("a", "one")]);
    let mut request = setup.request(&context, &BOTH);
    let (folder, layout, archive) = (context.join("out"), context.join("layout"), context.join("out.tar"));
    let path = Destination::Path;
    request.outputs = vec![
        ExportOptions::new(Target::Files(folder.clone())),
        ExportOptions::new(Target::Oci { destination: path(layout.clone()), tar: false }),
        ExportOptions::new(Target::Tar(path(archive.clone()))),
    ];
    let (outcome, _) = setup.build(&request);
    assert_eq!(std::fs::read_to_string(folder.join("linux_arm64/b/a")).unwrap(), "one");
    let digest = outcome.descriptor.unwrap().digest;
    assert!(layout.join("blobs/sha256").join(digest.encoded()).is_file());
    let mut archive = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let names: Vec<String> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert!(names.contains(&"linux_amd64/b/a".to_owned()), "{names:?}");
}

/// Bytes that do not compress, so that a layer of them is large.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

#[test]
fn a_large_layer_is_sent_while_it_is_written_and_once() {
    let setup = Setup::new();
    let context = setup.context("context", &[("Dockerfile", "FROM scratch\nCOPY large small /\n"), ("small", "one")]);
    std::fs::write(context.join("large"), noise(9 << 20)).unwrap();
    let (outcome, _) = setup.build(&setup.pushed(&context, &BOTH, "app:1"));
    let requests = setup.requests();
    let streamed: Vec<_> = requests.iter().filter(|request| request.method == "PATCH").collect();
    assert_eq!(streamed.len(), 1, "{streamed:?}");
    assert!(streamed[0].head.to_lowercase().contains("transfer-encoding: chunked"));
    let digest = outcome.descriptor.unwrap().digest;
    assert_eq!(*setup.pulled("app:1").digest(), digest);
    // The same again finds the layer in the cache, and in the registry.
    let (again, log) = setup.build(&setup.pushed(&context, &BOTH, "app:1"));
    assert_eq!((again.descriptor.unwrap().digest, log.executed("COPY")), (digest, 0));
    assert!(setup.requests().iter().all(|request| request.method != "PATCH" && request.method != "POST"));
}

#[test]
fn an_upload_that_breaks_off_is_made_from_the_stored_blob() {
    for fault in [Fault::Reset, Fault::status(405), Fault::status(500)] {
        let setup = Setup::new();
        let context = setup.context("context", &[("Dockerfile", "FROM scratch\nCOPY large /\n")]);
        std::fs::write(context.join("large"), noise(9 << 20)).unwrap();
        setup.registry.add(Rule::always("PATCH", "/uploads/", fault));
        let (outcome, _) = setup.build(&setup.pushed(&context, &BOTH[..1], "app:1"));
        assert_eq!(*setup.pulled("app:1").digest(), outcome.descriptor.unwrap().digest);
    }
}

#[test]
fn a_second_repository_takes_layers_from_the_first() {
    let setup = Setup::new();
    let context = setup.context("context", &[("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "one")]);
    let mut request = setup.pushed(&context, &BOTH[..1], "app:1");
    request.tags.push(setup.reference("other:1"));
    setup.build(&request);
    let requests = setup.requests();
    assert!(requests.iter().any(|request| request.method == "POST" && request.path.contains("from=app")));
    assert_eq!(setup.pulled("app:1").digest(), setup.pulled("other:1").digest());
}
