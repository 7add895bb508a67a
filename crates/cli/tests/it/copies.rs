//! `copy`: to the byte, without detours, among all places; seen with the eyes of the registry and of skopeo.

use onetag_oci::{Descriptor, Digest, Document, Manifest, ManifestDocument, media_type};
use onetag_testkit::fault::{Fault, FaultyRegistry, Request, Rule};
use onetag_testkit::fixture::PLATFORMS;
use onetag_testkit::folder::program;
use onetag_testkit::{Running, require};

use crate::support::World;

/// The registry behind a proxy that notes every request.
fn watched(world: &World) -> FaultyRegistry {
    FaultyRegistry::start(world.registry.address())
}

fn count(requests: &[Request], method: &str, path: &str) -> usize {
    requests.iter().filter(|request| request.method == method && request.path.contains(path)).count()
}

/// Requests that carry content of blobs.
fn moved(requests: &[Request]) -> usize {
    count(requests, "GET", "/blobs/")
        + count(requests, "PATCH", "/blobs/uploads/")
        + count(requests, "PUT", "/blobs/uploads/")
}

#[test]
fn within_one_registry_no_blob_moves() {
    let world = World::any();
    let (_, multi) = world.push_tiny("app:1", &PLATFORMS);
    let proxy = watched(&world);
    let (source, target) = (format!("{}/app:1", proxy.name()), format!("{}/mirror/app:1", proxy.name()));
    let copied = world.onetag.ok(&format!("copy --all {source} {target}"));
    assert_eq!(copied.text().trim(), multi.index.digest().to_string());
    let requests = proxy.requests();
    assert_eq!(moved(&requests), 0, "{requests:?}");
    assert_eq!(count(&requests, "POST", "mount="), 2 * PLATFORMS.len());
    let tag = requests.iter().rposition(|request| request.method == "PUT").expect("a tag was put");
    assert!(requests[tag].path.ends_with("/manifests/1"), "the tag moves last: {:?}", requests[tag].path);
    assert_eq!(world.raw(&world.reference("mirror/app:1")), multi.index.bytes());
}

#[test]
fn between_registries_nothing_touches_the_disk_and_a_second_run_sends_nothing() {
    let world = World::any();
    let other = World::any();
    let (source, multi) = world.push_tiny("app:1", &PLATFORMS);
    let proxy = watched(&other);
    let target = format!("{}/app:1", proxy.name());
    proxy.add(Rule::once("PUT", "/manifests/1", Fault::status(403)));
    let failed = world.onetag.line(&format!("copy {source} {target}")).failure();
    assert!(failed.stderr.contains("denies access"), "{failed}");
    assert_eq!(count(&proxy.requests(), "PUT", "/blobs/uploads/"), 2 * PLATFORMS.len());
    proxy.clear();
    let again = world.onetag.ok(&format!("copy {source} {target}"));
    assert_eq!(moved(&proxy.requests()), 0, "what is there is not sent again");
    assert!(again.stderr.contains("already there"), "{again}");
    assert_eq!(other.raw(&other.reference("app:1")), multi.index.bytes());
    let blobs = world.onetag.root().join("blobs/sha256");
    let kept = std::fs::read_dir(&blobs).map(Iterator::count).unwrap_or_default();
    assert_eq!(kept, 0, "the store holds nothing of it");
}

#[test]
fn wrong_content_of_a_registry_arrives_nowhere() {
    let world = World::any();
    let other = World::any();
    let (_, multi) = world.push_tiny("app:1", &["linux/amd64"]);
    let proxy = watched(&world);
    let layer = multi.images[0].manifest.layers[0].digest.clone();
    proxy.add(Rule::always("GET", &format!("/blobs/{layer}"), Fault::WrongByte));
    let target = other.reference("app:1");
    let failed = world.onetag.line(&format!("copy {}/app:1 {target}", proxy.name())).failure();
    assert!(failed.stderr.contains(layer.as_str()), "{failed}");
    other.onetag.line(&format!("imagetools inspect {target}")).failure();
}

#[test]
fn cuts_on_either_side_are_survived() {
    let world = World::any();
    let other = World::any();
    let (_, multi) = world.push_tiny("app:1", &["linux/amd64", "linux/arm64"]);
    let (from, to) = (watched(&world), watched(&other));
    let layers: Vec<_> = multi.images.iter().map(|image| image.manifest.layers[0].digest.clone()).collect();
    from.add(Rule::once("GET", &format!("/blobs/{}", layers[0]), Fault::EofAfter(5)));
    to.add(Rule::once("PUT", "/blobs/uploads/", Fault::Reset));
    to.add(Rule::once("PUT", "/manifests/sha256:", Fault::status(503)));
    world.onetag.ok(&format!("copy {}/app:1 {}/app:1", from.name(), to.name()));
    assert!(count(&from.requests(), "GET", &format!("/blobs/{}", layers[0])) > 1, "{:?}", from.requests());
    assert_eq!(other.raw(&other.reference("app:1")), multi.index.bytes());
    other.onetag.ok(&format!("copy --quiet {} oci:proof", other.reference("app:1")));
}

#[test]
fn every_place_keeps_every_byte() {
    let world = World::any();
    let (source, multi) = world.push_tiny("app:1", &PLATFORMS);
    let places = ["oci:layout:app:1", "oci-archive:app.tar:app:1", "store:app:1", "oci:other", "oci-archive:bare.tar"];
    let mut from = source;
    for place in places {
        let copied = world.onetag.ok(&format!("copy --quiet {from} {place}"));
        assert_eq!(copied.text().trim(), multi.index.digest().to_string(), "{from} to {place}");
        assert_eq!(world.raw(place), multi.index.bytes(), "{place}");
        from = place.to_owned();
    }
    world.onetag.run_program("gzip", "bare.tar").success();
    let back = world.reference("back:1");
    world.onetag.ok(&format!("copy oci-archive:bare.tar.gz docker://{back}"));
    assert_eq!(world.raw(&back), multi.index.bytes());
    let skopeo = require!(some program("skopeo"), "skopeo is not installed");
    let seen = world.onetag.run_program(&skopeo, "inspect --raw oci-archive:app.tar:app:1").success();
    assert_eq!(seen.stdout, multi.index.bytes());
    world
        .onetag
        .run_program(&skopeo, "copy --all --preserve-digests oci-archive:app.tar:app:1 oci:by-skopeo:1")
        .success();
    world
        .onetag
        .run_program(&skopeo, "copy --all --preserve-digests oci:by-skopeo:1 oci-archive:by-skopeo.tar:1")
        .success();
    world.onetag.ok(&format!("copy oci-archive:by-skopeo.tar:1 {back}"));
    assert_eq!(world.raw(&back), multi.index.bytes());
}

#[test]
fn dockers_archive_holds_one_platform_and_says_so_beforehand() {
    let world = World::any();
    let (source, multi) = world.push_tiny("app:1", &["linux/amd64", "linux/arm64"]);
    let refused = world.onetag.line(&format!("copy {source} docker-archive:app.tar")).failure();
    assert!(
        refused.stderr.contains("cannot hold an index") && refused.stderr.contains("hint: --platform"),
        "{refused}"
    );
    assert!(!world.onetag.work().join("app.tar").exists());
    world.onetag.ok(&format!("copy --platform linux/arm64 {source} docker-archive:app.tar:app:1"));
    let manifest = multi.images[1].manifest.digest().to_string();
    let back = world.onetag.ok(&format!("copy docker-archive:app.tar:app:1 {}", world.reference("back:1")));
    assert_eq!(back.text().trim(), manifest, "an archive that is a layout too keeps the manifest");
    let skopeo = require!(some program("skopeo"), "skopeo is not installed");
    let seen = world.onetag.run_program(&skopeo, "--override-arch arm64 inspect --config docker-archive:app.tar:app:1");
    assert!(seen.success().text().contains("arm64"));
}

#[test]
fn a_part_of_an_index_is_an_explicit_choice() {
    let world = World::any();
    let (source, multi) = world.push_tiny("app:1", &["linux/amd64", "linux/arm64", "linux/s390x"]);
    let two = "--platform linux/amd64,linux/arm64";
    let target = world.reference("part:1");
    let open = world.onetag.line(&format!("copy {two} {source} {target}")).failure();
    assert!(open.stderr.contains("--strip") && open.stderr.contains("--sparse"), "{open}");
    let refused = world.onetag.line(&format!("copy {two} --sparse {source} {target}")).failure();
    assert!(refused.stderr.contains("nothing was copied") && refused.stderr.contains("hint: --strip"), "{refused}");
    let stripped = world.onetag.ok(&format!("copy {two} --strip {source} {target}"));
    let raw = world.raw(&target);
    assert_eq!(stripped.text().trim(), Digest::sha256(&raw).to_string());
    let ManifestDocument::Index(index) = ManifestDocument::parse(raw, None).expect("an index") else {
        panic!("no index")
    };
    assert_eq!(index.manifests.len(), 2);
    assert_eq!(&index.manifests[0].digest, multi.images[0].manifest.digest());
    let sparse = world.onetag.ok(&format!("copy {two} --sparse {source} oci:sparse:1"));
    assert_eq!(sparse.text().trim(), multi.index.digest().to_string());
    let missing = world.onetag.work().join("sparse/blobs/sha256").join(multi.images[2].manifest.digest().encoded());
    assert!(!missing.exists());
    let absent = world.onetag.line(&format!("copy --platform linux/386 {source} {target}")).failure();
    assert!(absent.stderr.contains("wanted linux/386, there are linux/amd64"), "{absent}");
}

/// A signature of an image, as an artifact with a subject, in a layout of its own.
fn push_signature(world: &World, subject: &Descriptor, repository: &str) -> Digest {
    let folder = world.onetag.work().join("signature");
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("own folder");
    let signature = b"signed".to_vec();
    let layer = Descriptor::new("application/vnd.example.signature", Digest::sha256(&signature), 6);
    let config = Descriptor::new(media_type::EMPTY, Digest::sha256(b"{}"), 2);
    let mut manifest = Manifest::new(config, vec![layer]);
    manifest.artifact_type = Some("application/vnd.example.signature".to_owned());
    manifest.subject = Some(Descriptor::new(subject.media_type.clone(), subject.digest.clone(), subject.size));
    let manifest = Document::from_value(manifest);
    for content in [signature.as_slice(), b"{}", manifest.bytes()] {
        std::fs::write(blobs.join(Digest::sha256(content).encoded()), content).expect("own folder");
    }
    let entry = ManifestDocument::Manifest(manifest.clone()).descriptor();
    std::fs::write(folder.join("index.json"), Document::from_value(onetag_oci::Index::new(vec![entry])).bytes())
        .expect("own folder");
    std::fs::write(folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).expect("own folder");
    world.onetag.user().own_tree(&world.onetag.work());
    world.onetag.ok(&format!("copy oci:signature {repository}:signature"));
    manifest.digest().clone()
}

#[test]
fn what_is_about_an_image_goes_along_when_asked() {
    let world = World::any();
    let (source, multi) = world.push_tiny("app:1", &["linux/amd64", "linux/arm64"]);
    let subject = multi.images[1].descriptor();
    let signature = push_signature(&world, &subject, &world.reference("app"));
    let (without, with) = (world.reference("without:1"), world.reference("with:1"));
    world.onetag.ok(&format!("copy {source} {without}"));
    world.onetag.line(&format!("imagetools inspect {}@{signature}", world.reference("without"))).failure();
    let copied = world.onetag.ok(&format!("copy --referrers {source} {with}"));
    assert!(copied.stderr.contains("1 manifests about it went along"), "{copied}");
    world.onetag.ok(&format!("imagetools inspect {}@{signature}", world.reference("with")));
    // through a layout and back, where only the subject tells
    world.onetag.ok(&format!("copy --referrers {source} oci:signed:1"));
    let (back, repository) = (world.reference("back:1"), world.reference("back"));
    world.onetag.ok(&format!("copy --referrers oci:signed:1 {back}"));
    world.onetag.ok(&format!("imagetools inspect {repository}@{signature}"));
    assert_eq!(world.raw(&back), multi.index.bytes());
}

#[test]
fn places_of_other_tools_are_named() {
    let world = World::any();
    let refused = world.onetag.line("copy containers-storage:app oci:x").failure();
    assert!(
        refused.stderr.contains("containers-storage: is not supported") && refused.stderr.contains("hint: podman push")
    );
    let refused = world.onetag.line("copy --dest-creds a:b app oci:x").failure();
    assert!(refused.stderr.contains("onetag login"), "{refused}");
}

#[test]
fn tags_that_cannot_move_are_told_from_tags_that_need_not() {
    let world = World::any();
    let (source, multi) = world.push_tiny("app:1", &["linux/amd64", "linux/arm64"]);
    let (other, _) = world.push_tiny("other:1", &["linux/s390x"]);
    let proxy = watched(&world);
    let body = br#"{"errors":[{"code":"TAG_IMMUTABLE","message":"tag 1 is immutable"}]}"#.to_vec();
    let fault = Fault::Answer { status: 409, headers: Vec::new(), body };
    proxy.add(Rule::always("PUT", "/manifests/1", fault));
    let target = format!("{}/app:1", proxy.name());
    world.onetag.ok(&format!("imagetools create -t {target} {source}"));
    let refused = world.onetag.line(&format!("imagetools create -t {target} {other}")).failure();
    assert!(refused.stderr.contains(&format!("app:1 means {}", multi.index.digest())), "{refused}");
    assert!(refused.stderr.contains("tag 1 is immutable"), "{refused}");
}

/// What a process may have in memory of its own, in KiB: less than the two large blobs that it moves, and no more than 16 MiB
/// for each connection beside what threads and the program need.
const DATA_KIB: usize = 96 << 10;
const LARGE_BYTES: usize = 80 << 20;

#[test]
fn large_blobs_pass_in_little_memory() {
    let world = World::any();
    let other = World::any();
    let context = world.context("large", "FROM scratch\nCOPY one /one\nCOPY two /two\n", &[]);
    for (name, byte) in [("one", b'1'), ("two", b'2')] {
        world.onetag.file(&format!("large/{name}"), vec![byte; LARGE_BYTES]);
    }
    let (here, there) = (world.reference("large:1"), other.reference("large:1"));
    let limited = |line: &str| {
        let mut shell = world.onetag.program("sh");
        let script = format!("ulimit -d {DATA_KIB}; exec {} {line}", world.onetag.binary().display());
        shell.args(["-c", &script]);
        Running::start(&mut shell).finish(std::time::Duration::from_secs(120)).success();
    };
    limited(&format!("build --progress quiet -o type=registry,compression=uncompressed -t {here} {context}"));
    limited(&format!("copy --quiet {here} {there}"));
    limited(&format!("copy --quiet {there} oci:layout:large"));
    limited(&format!("copy --quiet {there} docker-archive:large.tar"));
    limited(&format!("pull --quiet {there}"));
    limited(&format!("push --quiet {there}"));
    assert_eq!(world.raw(&here), other.raw(&there));
}
