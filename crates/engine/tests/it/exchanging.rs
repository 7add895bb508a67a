//! Caches that builds on several machines share: what is found again, what is not transferred, what others' mistakes do.

use std::path::Path;
use std::sync::Barrier;

use onetag_engine::Engine;
use onetag_engine::build::BuildRequest;
use onetag_engine::cache::document::{ARTIFACT_TYPE, RECORDS_TYPE, Table};
use onetag_engine::cache::{CacheExport, CacheImport};
use onetag_engine::flags::parse_cache;
use onetag_oci::{Descriptor, Digest, Manifest, ManifestDocument, media_type};
use onetag_testkit::fault::Fault;
use onetag_testkit::fault::Rule;

use crate::setup::{Log, Setup, build, small};

const BOTH: [&str; 2] = ["linux/amd64", "linux/arm64"];
const DOCKERFILE: &str = "FROM REGISTRY/base:1 AS build\nCOPY src /src/\nCOPY other /other/\n\
    FROM REGISTRY/base:1\nCOPY --from=build /src /src\nCOPY a /b/\n";
const FILES: [(&str, &str); 4] = [("Dockerfile", DOCKERFILE), ("src", "source"), ("other", "o"), ("a", "one")];

fn to(request: &mut BuildRequest, text: &str) {
    request.cache_to = CacheExport::parse(&parse_cache(&[text]).unwrap(), &mut Vec::new()).unwrap();
}

fn from(request: &mut BuildRequest, text: &str) {
    request.cache_from = CacheImport::parse(&parse_cache(&[text]).unwrap(), &mut Vec::new()).unwrap();
}

/// Every step was found, none was executed.
fn assert_all_found(log: &Log, steps: usize) {
    assert_eq!((log.executed("COPY"), log.found("COPY")), (0, steps), "{log:#?}");
    assert!(log.warnings.is_empty(), "{log:#?}");
}

fn registry_ref(setup: &Setup, mode: &str) -> String {
    format!("type=registry,ref={},mode={mode}", setup.reference("app:cache"))
}

/// Forgets the cache, so that the next one is written anew.
fn drop_cache(setup: &Setup) {
    setup.engine.client().unwrap().delete_manifest(&setup.reference("app:cache")).unwrap();
}

/// Gets of blobs that are no small documents of the cache or the base.
fn layers_fetched(setup: &Setup) -> Vec<String> {
    let ManifestDocument::Manifest(cache) = setup.pulled("app:cache") else { panic!("no manifest") };
    let is_layer = |path: &String| cache.layers.iter().any(|layer| path.contains(layer.digest.as_str()));
    let gets = setup.requests().into_iter().filter(|request| request.method == "GET");
    gets.map(|request| request.path).filter(is_layer).collect()
}

#[test]
fn an_empty_machine_finds_every_step_and_moves_no_layer() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &FILES);
    for mode in ["max", "min"] {
        let mut request = setup.pushed(&context, &BOTH, "app:1");
        to(&mut request, &registry_ref(&setup, mode));
        let (first, _) = build(&setup.another(&format!("writer-{mode}")), &request);
        let mut request = setup.pushed(&context, &BOTH, "app:2");
        from(&mut request, &setup.reference("app:cache").to_string());
        setup.requests();
        let (second, log) = build(&setup.another(&format!("reader-{mode}")), &request);
        // Without the records of the stage that is not in the image its steps are neither found nor needed.
        assert_eq!(log.executed("COPY"), 0, "{log:#?}");
        assert_eq!(log.found("COPY"), if mode == "max" { 8 } else { 4 }, "{mode}: {log:#?}");
        assert_eq!(layers_fetched(&setup), [""; 0], "mode={mode}");
        assert_eq!(first.descriptor.unwrap().digest, second.descriptor.unwrap().digest, "the very same image");
        drop_cache(&setup);
    }
}

#[test]
fn a_cache_is_an_artifact_that_says_what_it_is() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &FILES);
    let mut request = setup.request(&context, &BOTH);
    to(&mut request, &format!("{},compression=zstd", registry_ref(&setup, "max")));
    setup.build(&request);
    let ManifestDocument::Manifest(manifest) = setup.pulled("app:cache") else { panic!("no manifest") };
    assert_eq!(manifest.artifact_type.as_deref(), Some(ARTIFACT_TYPE));
    assert_eq!(manifest.config.media_type, RECORDS_TYPE);
    assert!(manifest.layers.iter().all(|layer| layer.media_type == media_type::OCI_LAYER_ZSTD), "{manifest:?}");
    assert_eq!(manifest.layers.len(), 3, "one for each different content; no layer of the base is in it");
    // The same build again has nothing to add, whatever the machine.
    let (_, log) = setup.build(&request);
    assert_eq!(log.executed("COPY"), 0);
    assert_eq!(*setup.pulled("app:cache").digest(), *manifest.digest());
}

/// Writers that know of each other's writing only through the registry.
#[test]
fn two_machines_writing_at_once_keep_each_others_records() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let machines: Vec<Engine> = (0..4).map(|number| setup.another(&format!("machine-{number}"))).collect();
    let contexts: Vec<_> = (0..4)
        .map(|number| {
            let content = format!("content {number}");
            let dockerfile = "FROM REGISTRY/base:1\nCOPY a /b/\n";
            setup.context(&format!("context-{number}"), &[("Dockerfile", dockerfile), ("a", &content)])
        })
        .collect();
    let barrier = Barrier::new(machines.len());
    std::thread::scope(|scope| {
        for (machine, context) in machines.iter().zip(&contexts) {
            scope.spawn(|| {
                let mut request = setup.request(context, &BOTH);
                to(&mut request, &registry_ref(&setup, "max"));
                barrier.wait();
                build(machine, &request);
            });
        }
    });
    let reader = setup.another("reader");
    for context in &contexts {
        let mut request = setup.request(context, &BOTH);
        from(&mut request, &registry_ref(&setup, "max").replace(",mode=max", ""));
        let (_, log) = build(&reader, &request);
        assert_all_found(&log, 2);
    }
}

#[test]
fn a_folder_is_as_good_as_a_registry() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &FILES);
    let folder = setup.context("cache", &[]).display().to_string();
    let mut request = setup.request(&context, &BOTH[..1]);
    to(&mut request, &format!("type=local,dest={folder},mode=max"));
    setup.build(&request);
    let mut request = setup.request(&context, &BOTH[1..]);
    to(&mut request, &format!("type=local,dest={folder},mode=max"));
    setup.build(&request);
    // Both platforms are in it, and files that need content get it from the folder.
    let reader = setup.another("reader");
    let mut request = setup.pushed(&context, &BOTH, "app:1");
    from(&mut request, &format!("type=local,src={folder}"));
    let (_, log) = build(&reader, &request);
    assert_all_found(&log, 8);
    let ManifestDocument::Index(index) = setup.pulled("app:1") else { panic!("no index") };
    assert_eq!(index.manifests.len(), 2);
    let (_, log) = build(&reader, &setup.request(&context, &BOTH));
    assert_eq!(log.executed("COPY a"), 0, "what was fetched is the store's own: {log:#?}");
}

#[test]
fn steps_run_on_layers_that_come_when_they_are_needed() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &FILES);
    let mut request = setup.request(&context, &BOTH[..1]);
    to(&mut request, &registry_ref(&setup, "max"));
    setup.build(&request);
    // Another last step: it stands on layers of the cache.
    std::fs::write(context.join("a"), "two").unwrap();
    let mut request = setup.pushed(&context, &BOTH[..1], "app:2");
    from(&mut request, &setup.reference("app:cache").to_string());
    setup.requests();
    let reader = setup.another("reader");
    let (mixed, log) = build(&reader, &request);
    assert_eq!((log.executed("COPY"), log.executed("COPY a")), (1, 1), "{log:#?}");
    assert_eq!(layers_fetched(&setup).len(), 1, "the one layer that the step stands on");
    request.cache_from.clear();
    let (again, log) = build(&reader, &request);
    assert_eq!(log.executed("COPY a"), 0, "{log:#?}");
    assert_eq!(mixed.descriptor, again.descriptor);
}

#[test]
fn an_image_carries_its_own_cache() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &FILES);
    let mut request = setup.pushed(&context, &BOTH, "app:1");
    request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "1".to_owned());
    to(&mut request, "type=inline");
    let (first, _) = setup.build(&request);
    from(&mut request, &setup.reference("app:1").to_string());
    let (second, log) = build(&setup.another("reader"), &request);
    assert_eq!((log.executed("COPY"), log.found("COPY")), (0, 4), "{log:#?}");
    assert_eq!(first.descriptor, second.descriptor, "made again from its own cache it is the same");
    // Nobody else is told anything.
    request.cache_to.clear();
    request.cache_from.clear();
    let (plain, _) = setup.build(&request);
    assert_ne!(first.descriptor, plain.descriptor);
}

/// Steps that are executed on purpose get names of their own, which would make each image another.
#[test]
fn an_image_with_its_cache_is_the_same_whenever_it_is_made_without_one() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &FILES);
    let mut request = setup.pushed(&context, &BOTH, "app:1");
    request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "1000".to_owned());
    to(&mut request, "type=inline");
    let (found, _) = setup.build(&request);
    let (again, _) = setup.build(&request);
    assert_eq!(found.descriptor, again.descriptor);
    request.no_cache = onetag_dockerfile::NoCache::Always;
    let (one, _) = setup.build(&request);
    let (two, _) = build(&setup.another("other"), &request);
    assert_eq!(one.descriptor, two.descriptor);
}

/// What an earlier build put together in memory and nobody kept is put together again, and nothing is executed for it.
#[test]
fn a_cache_of_all_steps_has_copies_that_nobody_kept() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &FILES);
    setup.build(&setup.pushed(&context, &BOTH, "app:1"));
    let mut request = setup.request(&context, &BOTH);
    to(&mut request, &registry_ref(&setup, "max"));
    setup.build(&request);
    let mut request = setup.pushed(&context, &BOTH, "app:2");
    from(&mut request, &setup.reference("app:cache").to_string());
    let (_, log) = build(&setup.another("reader"), &request);
    assert_all_found(&log, 8);
}

#[test]
fn other_compression_and_bounded_times_give_what_a_fresh_build_gives() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let dockerfile = "FROM REGISTRY/base:1\nCOPY a /b/\nCOPY src /b/c/\n";
    let context = setup.context("context", &[("Dockerfile", dockerfile), FILES[1], FILES[3]]);
    let mut request = setup.request(&context, &BOTH);
    to(&mut request, &registry_ref(&setup, "max"));
    setup.build(&request);
    let mut request = setup.pushed(&context, &BOTH, "app:1");
    request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "1000".to_owned());
    request.outputs[0].rewrite_timestamp = true;
    request.outputs[0].compression.compression = onetag_oci::Compression::Zstd;
    let (fresh, _) = build(&setup.another("fresh"), &request);
    from(&mut request, &setup.reference("app:cache").to_string());
    let (cached, log) = build(&setup.another("reader"), &request);
    assert_all_found(&log, 4);
    assert_eq!(fresh.descriptor, cached.descriptor);
}

#[test]
fn what_is_absent_is_no_matter_and_what_is_broken_is_a_warning() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &FILES);
    let mut request = setup.request(&context, &BOTH);
    from(&mut request, &setup.reference("app:never").to_string());
    let (_, log) = setup.build(&request);
    assert!(log.warnings.is_empty(), "{log:#?}");
    put_cache(&setup, "app:broken", ARTIFACT_TYPE, RECORDS_TYPE, b"{\"version\":1,\"records\":7}");
    from(&mut request, &setup.reference("app:broken").to_string());
    let (_, log) = setup.build(&request);
    assert!(log.warnings[0].contains("is not used"), "{log:#?}");
    // An image without a cache in it.
    from(&mut request, &setup.reference("base:1").to_string());
    let (_, log) = setup.build(&request);
    assert!(log.warnings[0].contains("holds no onetag cache"), "{log:#?}");
}

#[test]
fn caches_of_buildkit_and_images_are_neither_read_nor_overwritten() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    put_cache(&setup, "app:buildkit", "", "application/vnd.buildkit.cacheconfig.v0", b"{}");
    let context = setup.context("context", &FILES);
    for name in ["app:buildkit", "base:1"] {
        let before = setup.pulled(name);
        let mut request = setup.request(&context, &BOTH);
        to(&mut request, &format!("type=registry,ref={}", setup.reference(name)));
        let (result, _) = setup.try_build(&request);
        let error = result.unwrap_err();
        assert!(error.hints()[0].contains("a name of its own"), "{error:?}");
        to(&mut request, &format!("type=registry,ref={},ignore-error=true", setup.reference(name)));
        let (_, log) = setup.build(&request);
        assert!(log.warnings[0].contains("exporting cache"), "{log:#?}");
        assert_eq!(setup.pulled(name).digest(), before.digest());
    }
    let mut request = setup.request(&context, &BOTH);
    from(&mut request, &setup.reference("app:buildkit").to_string());
    let (_, log) = setup.build(&request);
    assert!(log.warnings[0].contains("BuildKit cache"), "{log:#?}");
}

/// The records promise a layer that the registry no longer gives, or gives wrongly.
#[test]
fn a_layer_that_does_not_come_costs_the_cache_and_not_the_build() {
    for fault in [Fault::status(404), Fault::WrongByte] {
        let setup = Setup::new();
        setup.publish(&small(&BOTH), "base:1");
        let context = setup.context("context", &FILES);
        let mut request = setup.request(&context, &BOTH[..1]);
        to(&mut request, &registry_ref(&setup, "max"));
        setup.build(&request);
        let ManifestDocument::Manifest(cache) = setup.pulled("app:cache") else { panic!("no manifest") };
        for layer in &cache.layers {
            setup.registry.add(Rule::always("GET", layer.digest.as_str(), fault.clone()));
        }
        std::fs::write(context.join("a"), "two").unwrap();
        let mut request = setup.request(&context, &BOTH[..1]);
        from(&mut request, &setup.reference("app:cache").to_string());
        let (_, log) = build(&setup.another("reader"), &request);
        assert!(log.warnings.iter().any(|text| text.contains("goes on without it")), "{log:#?}");
        assert_eq!(log.executed("COPY --from"), 1, "{log:#?}");
    }
}

#[test]
fn secrets_are_in_no_cache() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &FILES);
    let folder = setup.context("cache", &[]);
    let mut request = setup.request(&context, &BOTH[..1]);
    request.secrets.insert("token".to_owned(), b"S3CR3T-VALUE".to_vec());
    to(&mut request, &format!("type=local,dest={},mode=max", folder.display()));
    setup.build(&request);
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let manifest = blob(&folder, &index["manifests"][0]);
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    let records = std::fs::read(folder.join("blobs/sha256").join(manifest.config.digest.encoded())).unwrap();
    assert!(!Table::parse(&records).unwrap().is_empty());
    assert!(!String::from_utf8_lossy(&records).contains("S3CR3T"));
}

fn blob(folder: &Path, descriptor: &serde_json::Value) -> Vec<u8> {
    let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
    std::fs::read(folder.join("blobs/sha256").join(digest.encoded())).unwrap()
}

/// Puts a manifest with a config of a type into the registry.
fn put_cache(setup: &Setup, name: &str, artifact: &str, kind: &str, content: &[u8]) {
    let client = setup.engine.client().unwrap();
    let reference = setup.reference(name);
    let config = Descriptor::new(kind, Digest::sha256(content), content.len() as u64);
    client.push_blob(&reference, &config, &content.to_vec(), &[]).unwrap();
    let mut manifest = Manifest::new(config, Vec::new());
    manifest.artifact_type = Some(artifact.to_owned()).filter(|text| !text.is_empty());
    let bytes = onetag_oci::go_json(&manifest);
    client.push_manifest(&reference, &bytes, media_type::OCI_MANIFEST).unwrap();
}
