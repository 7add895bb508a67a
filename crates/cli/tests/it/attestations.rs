//! Provenance, metadata files and annotations as users and programs read them.

use std::path::PathBuf;

use onetag_oci::{Digest, Index, Manifest};
use onetag_testkit::{Finished, require};
use serde_json::Value;

use crate::support::World;

const DOCKERFILE: &str = "ARG BASE\nFROM $BASE\nARG WHAT=x\nCOPY a /\nLABEL l=$WHAT\n";

struct App {
    world: World,
    base: String,
    context: String,
}

impl App {
    /// A base of two platforms in the registry, and a context that copies a file onto it.
    fn new() -> App {
        let world = World::any();
        let context = world.context("base", "FROM scratch\nCOPY f /\n", &[("f", "base")]);
        let base = world.reference("base:1");
        world.onetag.ok(&format!("build --platform linux/amd64,linux/arm64 --push -t {base} {context}"));
        let context = world.context("app", DOCKERFILE, &[("a", "one")]);
        App { world, base, context }
    }

    fn build(&self, rest: &str) -> Finished {
        self.world.onetag.ok(&format!("build --build-arg BASE={} {rest} {}", self.base, self.context))
    }

    fn raw(&self, reference: &str) -> Vec<u8> {
        self.world.onetag.ok(&format!("imagetools inspect --raw {reference}")).stdout
    }

    fn index(&self, reference: &str) -> Index {
        serde_json::from_slice(&self.raw(reference)).expect("an index")
    }

    fn provenance(&self, reference: &str) -> Value {
        let arguments = ["imagetools", "inspect", "--format", "{{json .Provenance}}", reference];
        let found = self.world.onetag.run(arguments).success();
        serde_json::from_slice(&found.stdout).expect("JSON")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.onetag.work().join(name)
    }

    fn metadata(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.file(name)).expect("the file")).expect("JSON")
    }
}

const BOTH: &str = "--platform linux/amd64,linux/arm64";

#[test]
fn provenance_is_in_the_index_as_buildkit_writes_it() {
    let app = App::new();
    let reference = app.world.reference("app:attested");
    app.build(&format!("{BOTH} --push -t {reference} --provenance=mode=min,builder-id=https://ci.example/1"));
    let index = app.index(&reference);
    assert_eq!(index.manifests.len(), 4);
    for (image, attestation) in index.manifests[..2].iter().zip(&index.manifests[2..]) {
        assert!(attestation.is_attestation());
        assert_eq!(attestation.annotations["vnd.docker.reference.digest"], image.digest.to_string());
        assert_eq!(attestation.platform.as_ref().unwrap().to_string(), "unknown/unknown");
        let repository = app.world.reference("app");
        let manifest: Manifest =
            serde_json::from_slice(&app.raw(&format!("{repository}@{}", attestation.digest))).expect("a manifest");
        assert_eq!(manifest.subject.as_ref().unwrap().digest, image.digest);
        assert_eq!(manifest.layers[0].media_type, "application/vnd.in-toto+json");
        assert_eq!(manifest.layers[0].annotations["in-toto.io/predicate-type"], "https://slsa.dev/provenance/v1");
    }
    let provenance = app.provenance(&reference);
    let predicate = &provenance["linux/arm64"]["SLSA"];
    assert_eq!(predicate["runDetails"]["builder"]["id"], "https://ci.example/1");
    let base: Digest = Digest::sha256(&app.raw(&app.base));
    let material = &predicate["buildDefinition"]["resolvedDependencies"][0];
    assert_eq!(material["digest"]["sha256"], base.encoded());
    let uri = material["uri"].as_str().unwrap();
    assert!(uri.starts_with("pkg:docker/") && uri.ends_with("/base@1?platform=linux%2Farm64"), "{uri}");
    let request = &predicate["buildDefinition"]["externalParameters"]["request"];
    assert!(request.get("args").is_none(), "arguments are for mode=max: {request}");
    assert_eq!(predicate["runDetails"]["metadata"]["buildkit_completeness"]["request"], false);
    // Attestations are no images of their own.
    app.world.onetag.ok(&format!("pull --all-platforms {reference}"));
    let listed = app.world.onetag.ok("images");
    assert!(!listed.text().contains("unknown"), "{listed}");
}

#[test]
fn the_whole_provenance_tells_of_steps_layers_and_lines_and_of_no_secret() {
    let app = App::new();
    let reference = app.world.reference("app:max");
    app.world.onetag.file("token", "S3CR3T");
    let secret = format!("--secret id=token,src={}", app.file("token").display());
    app.build(&format!("--platform linux/amd64 --push -t {reference} --build-arg WHAT=y --provenance true {secret}"));
    let predicate = &app.provenance(&reference)["SLSA"];
    let definition = &predicate["buildDefinition"];
    assert_eq!(definition["externalParameters"]["request"]["args"]["build-arg:WHAT"], "y");
    let steps = definition["internalParameters"]["buildConfig"]["llbDefinition"].as_array().unwrap();
    assert_eq!(steps.len(), 4, "base, context, copy, result: {steps:#?}");
    let metadata = &predicate["runDetails"]["metadata"]["buildkit_metadata"];
    assert_eq!(metadata["source"]["infos"][0]["filename"], "Dockerfile");
    assert!(metadata["source"]["locations"].as_object().is_some_and(|places| !places.is_empty()), "{metadata}");
    let layers = metadata["layers"].as_object().unwrap();
    assert_eq!(layers.len(), 2, "of the base and of the copy: {layers:#?}");
    assert!(!predicate.to_string().contains("S3CR3T"));
    // The same in the older format.
    let old = app.world.reference("app:old");
    app.build(&format!("--platform linux/amd64 --push -t {old} --attest type=provenance,mode=min,version=v0.2"));
    let predicate = &app.provenance(&old)["SLSA"];
    assert_eq!(predicate["buildType"], "https://mobyproject.org/buildkit@v1");
    assert_eq!(predicate["metadata"]["completeness"]["environment"], true);
}

#[test]
fn referrers_leave_the_index_alone() {
    let app = App::new();
    let (plain, beside) = (app.world.reference("app:plain"), app.world.reference("app:beside"));
    app.build(&format!("{BOTH} --push -t {plain}"));
    app.build(&format!("{BOTH} --push -t {beside} --provenance=true --attest-as referrers"));
    assert_eq!(app.raw(&plain), app.raw(&beside));
    let curl = require!(some onetag_testkit::folder::program("curl"), "curl is not installed");
    for image in &app.index(&plain).manifests {
        let url = format!("-s http://{}/v2/app/referrers/{}", app.world.registry.name(), image.digest);
        let referrers = app.world.onetag.run_program(&curl, &url).success();
        let referrers: Index = serde_json::from_slice(&referrers.stdout).expect("an index");
        assert_eq!(referrers.manifests.len(), 1);
        assert_eq!(referrers.manifests[0].artifact_type.as_deref(), Some("application/vnd.in-toto+json"));
    }
}

#[test]
fn a_reproducible_build_is_so_with_its_provenance() {
    let app = App::new();
    let build = |name: &str| {
        let reference = app.world.reference("app:epoch");
        let output = format!("type=registry,name={reference},rewrite-timestamp=true");
        let metadata = app.file(name).display().to_string();
        app.build(&format!(
            "{BOTH} --no-cache -o {output} --build-arg SOURCE_DATE_EPOCH=1000 --provenance=true --metadata-file {metadata}"
        ));
        app.metadata(name)["containerimage.digest"].clone()
    };
    assert_eq!(build("one"), build("two"));
}

#[test]
fn the_metadata_of_every_output() {
    let app = App::new();
    let metadata = |output: &str, rest: &str| {
        app.build(&format!(
            "{output} {rest} --metadata-file {} --iidfile {}",
            app.file("m").display(),
            app.file("i").display()
        ));
        let id = std::fs::read_to_string(app.file("i")).unwrap_or_default();
        let _ = std::fs::remove_file(app.file("i"));
        (app.metadata("m"), id)
    };
    let reference = app.world.reference("app:m");
    let (index, id) = metadata(&format!("--push -t {reference}"), BOTH);
    assert_eq!(index["containerimage.digest"], id);
    assert_eq!(index["image.name"], reference);
    assert!(index.get("containerimage.config.digest").is_none());
    let of_platform = &index["buildx.build.provenance/linux/amd64"];
    assert_eq!(of_platform["invocation"]["parameters"]["args"]["build-arg:BASE"], app.base);
    assert_eq!(of_platform["invocation"]["parameters"]["root"]["configSource"]["path"], "Dockerfile");
    assert!(of_platform.get("metadata").is_none());
    let one = "--platform linux/arm64";
    for output in ["--load -t local:m".to_owned(), format!("-o type=oci,dest={}", app.file("o.tar").display())] {
        let (single, id) = metadata(&output, one);
        assert_eq!(single["containerimage.config.digest"], id, "{output}");
        assert_eq!(single["containerimage.descriptor"]["platform"]["architecture"], "arm64");
        assert_eq!(single["buildx.build.provenance"]["builder"]["id"], "");
    }
    let (files, id) = metadata(&format!("-o {}", app.file("files").display()), one);
    assert!(files["buildx.build.ref"].as_str().unwrap().starts_with("default/default0/") && id.is_empty(), "{files}");
    assert!(files.get("containerimage.digest").is_none());
    let keys: Vec<&String> = index.as_object().unwrap().keys().collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

#[test]
fn annotations_go_where_they_are_put() {
    let app = App::new();
    let reference = app.world.reference("app:annotated");
    app.build(&format!(
        "{BOTH} --push -t {reference} --annotation index:on=index --annotation manifest[linux/arm64]:on=manifest \
         --annotation manifest-descriptor:on=descriptor --annotation plain=all --provenance=true"
    ));
    let index = app.index(&reference);
    assert_eq!(index.annotations["on"], "index");
    assert_eq!(index.manifests[0].annotations["on"], "descriptor");
    assert!(index.manifests[2].is_attestation() && !index.manifests[2].annotations.contains_key("on"));
    let manifest = |position: usize| -> Manifest {
        let repository = app.world.reference("app");
        serde_json::from_slice(&app.raw(&format!("{repository}@{}", index.manifests[position].digest))).expect("JSON")
    };
    assert_eq!(manifest(0).annotations.get("on"), None);
    assert_eq!(manifest(1).annotations["on"], "manifest");
    assert_eq!((manifest(0).annotations["plain"].as_str(), manifest(1).annotations["plain"].as_str()), ("all", "all"));
    let layout = app.file("layout.tar").display().to_string();
    app.build(&format!("{BOTH} -o type=oci,dest={layout} --annotation index-descriptor:on=layout"));
    let listing = app.world.onetag.run_program("tar", &format!("xOf {layout} index.json")).success();
    let top: Index = serde_json::from_slice(&listing.stdout).expect("an index");
    assert_eq!(top.manifests[0].annotations["on"], "layout");
    // the store is a layout, too: the name carries what is said of the index, and the index what is said of manifests
    app.build(&format!(
        "{BOTH} --load -t annotated:1 --annotation index-descriptor:on=name --annotation index:on=index \
         --annotation manifest-descriptor[linux/arm64]:on=descriptor"
    ));
    let names = std::fs::read(app.world.onetag.root().join("index.json")).expect("a store");
    let names: Index = serde_json::from_slice(&names).expect("an index");
    let is_named = |entry: &&onetag_oci::Descriptor| {
        entry.annotations["io.containerd.image.name"] == "docker.io/library/annotated:1"
    };
    assert_eq!(names.manifests.iter().find(is_named).expect("a name").annotations["on"], "name");
    let loaded = app.index("store:annotated:1");
    assert_eq!(loaded.annotations["on"], "index");
    assert_eq!(loaded.manifests[0].annotations.get("on"), None);
    assert_eq!(loaded.manifests[1].annotations["on"], "descriptor");
    app.world.onetag.ok("save -o annotated.tar annotated:1");
    let listing = app.world.onetag.run_program("tar", "xOf annotated.tar index.json").success();
    let saved: Index = serde_json::from_slice(&listing.stdout).expect("an index");
    assert_eq!(saved.manifests[0].annotations["on"], "name");
    let refuse = |rest: &str| {
        let line = format!("build --build-arg BASE={} {rest} {}", app.base, app.context);
        let refused = app.world.onetag.line(&line);
        assert!(!refused.status.success(), "{refused}");
        refused.stderr
    };
    let one = format!("--platform linux/amd64 --push -t {reference}");
    assert!(refuse(&format!("{one} --annotation index:a=b")).contains("index annotations not supported"));
    assert!(refuse(&format!("{one} --annotation manifest[linux/s390x]:a=b")).contains("no platform linux/s390x"));
    let docker_types = format!("{BOTH} -o type=registry,name={reference},oci-mediatypes=false");
    assert!(refuse(&format!("{docker_types} --annotation index:a=b")).contains("oci-mediatypes=false"));
    assert!(refuse(&format!("{docker_types} --provenance true")).contains("cannot export attestations"));
    assert!(refuse("--sbom true").contains("SBOM attestations are not supported"));
}

#[test]
fn files_have_their_statement_beside_them() {
    let app = App::new();
    let build = |rest: &str| app.build(&format!("{BOTH} {rest}"));
    build("--provenance mode=min -o out");
    for platform in ["amd64", "arm64"] {
        let folder = app.file(&format!("out/linux_{platform}"));
        let statement: Value = serde_json::from_slice(&std::fs::read(folder.join("provenance.json")).unwrap()).unwrap();
        let named = |name: &str, content: &str| serde_json::json!({ "name": name, "digest": { "sha256": Digest::sha256(content.as_bytes()).encoded() } });
        assert_eq!(statement["subject"], serde_json::json!([named("a", "one"), named("f", "base")]), "{platform}");
        assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
        assert!(statement["predicate"]["buildDefinition"].is_object());
    }
    build("--provenance mode=min -o type=local,dest=flat,platform-split=false,attestation-prefix=x.");
    for name in ["x.provenance.linux_amd64.json", "x.provenance.linux_arm64.json", "a"] {
        assert!(app.file("flat").join(name).exists(), "{name}");
    }
    app.build("--provenance mode=min --platform linux/amd64 -o type=tar,dest=one.tar");
    let mut archive = tar::Archive::new(std::fs::File::open(app.file("one.tar")).unwrap());
    let names: Vec<PathBuf> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(names, ["a", "f", "provenance.json"].map(PathBuf::from));
    build("-o plain");
    assert!(!app.file("plain/linux_amd64/provenance.json").exists(), "nobody asked for it");
}
