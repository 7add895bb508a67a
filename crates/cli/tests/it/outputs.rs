//! Where results go, as users type it: folders, archives, names; and what is told before anything is built.

use std::collections::BTreeSet;
use std::fs;

use onetag_oci::{Index, Manifest};
use serde_json::Value;

use crate::support::World;

const BOTH: &str = "--platform linux/amd64,linux/arm64";

fn context(world: &World) -> String {
    world.context("app", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n", &[("amd64", "a"), ("arm64", "b")])
}

fn names(archive: &[u8]) -> BTreeSet<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive").map(|entry| entry.expect("an entry"));
    entries.map(|entry| String::from_utf8(entry.path_bytes().into_owned()).expect("text")).collect()
}

fn raw<T: serde::de::DeserializeOwned>(world: &World, reference: &str) -> T {
    serde_json::from_slice(&world.raw(reference)).expect("a document")
}

#[test]
fn files_go_into_folders_and_archives() {
    let world = World::any();
    let context = context(&world);
    let both = ["linux_amd64/", "linux_amd64/arch", "linux_arm64/", "linux_arm64/arch"].map(str::to_owned);
    for output in ["-", "type=tar,dest=-", "type=local,dest=-"] {
        let split = world.onetag.ok(&format!("build {BOTH} -o {output} {context}"));
        assert_eq!(names(&split.stdout), BTreeSet::from(both.clone()), "{output}");
        let one = world.onetag.ok(&format!("build --platform linux/arm64 -o {output} {context}"));
        assert_eq!(names(&one.stdout), BTreeSet::from(["arch".to_owned()]), "{output}");
    }
    let oci = world.onetag.ok(&format!("build {BOTH} -o type=oci,dest=- {context}"));
    assert!(names(&oci.stdout).contains("index.json"));
    // Several at once, one after the other as they are typed, of one build.
    let reference = world.reference("app:several");
    let built = world.onetag.ok(&format!(
        "build --progress plain {BOTH} -o folder -o type=local,dest=split,platform-split=true -o type=oci,dest=layout,tar=false \
         -o type=tar,dest=files.tar -o type=registry,name={reference} -o type=image,name=stored:1 {context}"
    ));
    assert_eq!(built.stderr.matches("] COPY amd64 /arch").count(), 1, "{built}");
    let work = world.onetag.work();
    for file in ["folder/linux_amd64/arch", "split/linux_arm64/arch", "layout/index.json", "files.tar"] {
        assert!(work.join(file).exists(), "{file}");
    }
    assert_eq!(world.raw(&reference), world.raw("store:stored:1"));
    world.onetag.ok(&format!("build --platform linux/arm64 -o type=local,dest=only,platform-split=true {context}"));
    assert!(work.join("only/linux_arm64/arch").exists());
}

#[test]
fn images_are_named_pushed_and_compressed_as_asked() {
    let world = World::any();
    let context = context(&world);
    let push = |name: &str, attributes: &str| {
        let reference = world.reference(name);
        let metadata = world.onetag.work().join("metadata.json");
        let line = format!(
            "build {BOTH} -o type=image,name={reference},push=true{attributes} --metadata-file metadata.json {context}"
        );
        world.onetag.ok(&line);
        serde_json::from_slice::<Value>(&fs::read(metadata).expect("the file")).expect("JSON")
    };
    let first = |reference: &str| -> Manifest {
        let index: Index = raw(&world, reference);
        let repository = reference.split('@').next().unwrap_or(reference).rsplit_once(':').expect("a tag").0;
        raw(&world, &format!("{repository}@{}", index.manifests[0].digest))
    };
    let digest = push("by-digest", ",push-by-digest=true")["containerimage.digest"].as_str().expect("text").to_owned();
    world.onetag.line(&format!("imagetools inspect {}", world.reference("by-digest:latest"))).failure();
    let by_digest = format!("{}@{digest}", world.reference("by-digest"));
    assert_eq!(raw::<Index>(&world, &by_digest).manifests.len(), 2);
    for (compression, media_type) in [("zstd", "tar+zstd"), ("uncompressed", ".tar"), ("gzip", "tar+gzip")] {
        push("c:1", &format!(",compression={compression},compression-level=1,force-compression=true"));
        let manifest = first(&world.reference("c:1"));
        assert!(manifest.layers[0].media_type.ends_with(media_type), "{manifest:?}");
    }
    push("c:2", ",oci-mediatypes=false");
    assert_eq!(
        first(&world.reference("c:2")).layers[0].media_type,
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    );
    push("c:3", ",name-canonical=true,unpack=true");
    assert_eq!(raw::<Index>(&world, &world.reference("c:3")).manifests.len(), 2);
}

#[test]
fn what_a_build_prints_names_its_image() {
    let world = World::any();
    let context = context(&world);
    let one = format!("build -q --load --platform linux/amd64 {context}");
    let id = world.onetag.ok(&one).text().trim().to_owned();
    let inspect = |name: &str, format: &str| {
        world.onetag.run(["image", "inspect", "--format", format, name]).success().text().trim().to_owned()
    };
    assert_eq!(inspect(&id, "{{.Architecture}} {{.RepoTags}}"), "amd64 []");
    world.onetag.ok(&one.replace("--load", "--load -t named:1"));
    assert_eq!(inspect(&id, "{{.Architecture}} {{.RepoTags}}"), "amd64 [named:1]");
    let id = world.onetag.ok(&format!("build -q --load {BOTH} {context}")).text().trim().to_owned();
    world.onetag.ok(&format!("tag {id} later:1"));
    assert_eq!(raw::<Index>(&world, "store:later:1").manifests.len(), 2);
}

#[test]
fn what_cannot_be_exported_is_told_before_it_is_built() {
    let world = World::any();
    let context = context(&world);
    let id = world.onetag.file("id", "sha256:of-an-earlier-build");
    let refused = |arguments: &str| {
        let refused =
            world.onetag.line(&format!("build --progress plain --iidfile {} {arguments} {context}", id.display()));
        let refused = refused.code(1);
        assert!(!refused.stderr.contains("load build definition"), "{refused}");
        refused
    };
    refused("--push").says("tag is needed when pushing to registry").says("hint: -t REGISTRY/REPOSITORY:TAG");
    let docker = format!("{BOTH} -o type=docker,dest=d.tar");
    refused(&docker).says("does not currently support exporting manifest lists").says("hint: -o type=oci,dest=FILE");
    assert!(!id.exists(), "the file of an earlier build would pass for that of this one");
    // Of a flag with one value the last counts, as with Docker.
    let twice = format!("build --progress rawjson --progress plain --target no --target= {context}");
    world.onetag.ok(&twice).says("#1 [internal] load build definition");
}

#[test]
fn a_registry_that_is_not_there_is_told_with_what_to_type() {
    let world = World::any();
    let nowhere = "127.0.0.1:1/app";
    let context = world.context("from", &format!("FROM {nowhere}\n"), &[]);
    for line in [
        format!("run --rm {nowhere} true"),
        format!("pull {nowhere}"),
        format!("imagetools inspect {nowhere}"),
        format!("build {context}"),
    ] {
        let failed = world.onetag.line(&line).failure().says("cannot connect to 127.0.0.1:1");
        failed.says("hint: onetag registry serve --addr 127.0.0.1:1");
    }
}
