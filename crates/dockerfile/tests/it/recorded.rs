//! Dockerfiles with what BuildKit made of them: every op, digest, name and image config is the same.

use std::fs;
use std::path::{Path, PathBuf};

use onetag_dockerfile::resolver::IgnoreFile;
use onetag_dockerfile::{
    LowerOptions, Lowered, NamedContext, ResolveError, ResolveOptions, ResolvedImage, Resolver, lower, parse,
};
use onetag_llb::{Definition, Graph, Op, OpKind, attribute};
use onetag_oci::{Digest, ImageConfig, Platform, Reference, go_json};

const INDEX: &str = "sha256:ab1753b0ce556fe217cf6c6782982d2f5ca75068d6aaa1eff0ccb473c82305fb";

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recorded/llb"))
}

/// Knows the base image of the recordings, and nothing else.
struct Busybox;

impl Resolver for Busybox {
    fn image_config(
        &self,
        reference: &Reference,
        platform: &Platform,
        _options: &ResolveOptions,
    ) -> Result<ResolvedImage, ResolveError> {
        assert_eq!(reference.to_string(), "localhost:5000/busybox:latest");
        let recorded = folder().join(format!("01-run/linux-{}.image.json", platform.architecture));
        let mut config: ImageConfig = serde_json::from_slice(&fs::read(recorded).unwrap()).unwrap();
        config.history.truncate(1);
        let config_bytes = go_json(&config);
        Ok(ResolvedImage { reference: reference.clone(), digest: INDEX.parse().unwrap(), config, config_bytes })
    }

    fn ignore_file(&self) -> Result<Option<IgnoreFile>, ResolveError> {
        Ok(None)
    }

    fn named_context(&self, _key: &str) -> Result<Option<NamedContext>, ResolveError> {
        Ok(None)
    }
}

fn lower_case(case: &Path, architecture: &str, unique: &str) -> Lowered {
    let (file, errors) = parse(&fs::read(case.join("Dockerfile")).unwrap());
    assert!(errors.is_empty(), "{errors:?}");
    let options = LowerOptions {
        build_platform: Platform::linux("amd64"),
        target_platform: Some(Platform::linux(architecture)),
        local_unique: unique.to_owned(),
        ..LowerOptions::default()
    };
    lower(&file, &options, &Busybox).unwrap_or_else(|error| panic!("{}: {error}", case.display()))
}

/// The identifier of the recording's build, which is random.
fn recorded_unique(definition: &Definition) -> String {
    let unique = |bytes: &Vec<u8>| match Op::decode(bytes).ok()?.kind {
        OpKind::Source(source) => source.attributes.get(attribute::LOCAL_UNIQUE).cloned(),
        _ => None,
    };
    definition.ops.iter().find_map(unique).unwrap_or_default()
}

/// Progress groups are random in the recordings.
fn without_group_ids(mut definition: Definition) -> Definition {
    for metadata in definition.metadata.values_mut() {
        if let Some(group) = &mut metadata.progress_group {
            group.id.clear();
        }
    }
    definition.source = None;
    definition
}

fn cases() -> Vec<(PathBuf, &'static str)> {
    let mut cases: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert_eq!(cases.len(), 12);
    cases.into_iter().flat_map(|case| [(case.clone(), "amd64"), (case, "arm64")]).collect()
}

#[test]
fn ops_digests_and_names_are_buildkits() {
    for (case, architecture) in cases() {
        let recorded = fs::read(case.join(format!("linux-{architecture}.llb.pb"))).unwrap();
        let recorded = Definition::decode(&recorded).unwrap();
        let lowered = lower_case(&case, architecture, &recorded_unique(&recorded));
        let ours = lowered.graph.definition(&lowered.result.unwrap());
        let described = |definition: &Definition| {
            let graph = Graph::from_definition(&definition.encode()).unwrap();
            String::from_utf8(graph.to_json_lines()).unwrap()
        };
        let (ours, recorded) = (without_group_ids(ours), without_group_ids(recorded));
        assert_eq!(described(&ours), described(&recorded), "{} {architecture}", case.display());
        assert_eq!(ours, recorded, "{} {architecture}", case.display());
    }
}

#[test]
fn image_configs_are_buildkits() {
    for (case, architecture) in cases() {
        let recorded = fs::read(case.join(format!("linux-{architecture}.image.json"))).unwrap();
        let recorded: serde_json::Value = serde_json::from_slice(&recorded).unwrap();
        let ours = serde_json::to_value(lower_case(&case, architecture, "x").image).unwrap();
        assert_eq!(without_null(ours), without_null(recorded), "{} {architecture}", case.display());
    }
}

/// Go writes an empty list of diff IDs as null.
fn without_null(mut config: serde_json::Value) -> serde_json::Value {
    let diff_ids = &mut config["rootfs"]["diff_ids"];
    if diff_ids.is_null() {
        *diff_ids = serde_json::json!([]);
    }
    config
}

#[test]
fn a_stage_that_reads_no_target_argument_is_one_vertex() {
    let case = folder().join("05-neutral-stage");
    let (file, _) = parse(&fs::read(case.join("Dockerfile")).unwrap());
    let lowered: Vec<Lowered> = ["amd64", "arm64"]
        .map(|architecture| {
            let options = LowerOptions {
                build_platform: Platform::linux("amd64"),
                target_platform: Some(Platform::linux(architecture)),
                multi_platform: true,
                ..LowerOptions::default()
            };
            lower(&file, &options, &Busybox).unwrap()
        })
        .into();
    let merged = Graph::merge(lowered.iter().map(|lowered| &lowered.graph));
    let named = |text: &str| merged.vertices().iter().filter(|vertex| vertex.name().contains(text)).count();
    assert_eq!(named("RUN tar cf"), 1);
    assert_eq!(named("load build context"), 1);
    assert_eq!(named("COPY --from=assets"), 2);
    let step = merged.vertices().iter().find(|vertex| vertex.name().contains("RUN tar")).unwrap();
    assert_eq!(step.name(), "[linux/amd64 assets 3/3] RUN tar cf /web.tar /web");
    let digest: &Digest = &step.digest;
    assert_eq!(merged.source_ranges(digest).len(), 1);
    assert_eq!(merged.source_ranges(digest)[0].start.line, 3);
}
