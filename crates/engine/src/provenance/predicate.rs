//! The predicate: SLSA's document about one platform's image, in version 1 or 0.2, as BuildKit fills it in. Pure.

use std::time::SystemTime;

use onetag_dockerfile::export::rfc3339;
use onetag_oci::{Digest, Platform};
use serde_json::{Map, Value, json};

use super::options::{ProvenanceError, ProvenanceMode, ProvenanceOptions, ProvenanceVersion};
use super::sources::{Sources, arguments, ids, redacted};
use super::steps::{Steps, source_map};
use super::{Facts, VertexLayers};
use crate::build::BuildContext;

const BUILD_TYPE_1: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_02: &str = "https://mobyproject.org/buildkit@v1";
/// The compatibility version of BuildKit's format that this is.
const COMPATIBILITY: u32 = 30;

/// The parts that both versions put into different places.
struct Parts {
    materials: Vec<Value>,
    config_source: Map<String, Value>,
    parameters: Map<String, Value>,
    build_config: Option<Value>,
    is_complete: bool,
    has_request: bool,
    is_hermetic: bool,
    metadata: Map<String, Value>,
}

/// The predicate for the image at `position`.
///
/// # Errors
/// All sources have to be named, and some cannot be.
pub(crate) fn predicate(
    facts: &Facts<'_>,
    position: usize,
    options: &ProvenanceOptions,
    layers: &VertexLayers,
) -> Result<Value, ProvenanceError> {
    let sources = Sources::of(facts, position);
    if let (true, Some(folder)) = (options.complete_materials, sources.locals.first()) {
        return Err(ProvenanceError::Incomplete(folder.clone()));
    }
    let parts = parts(facts, position, &sources, options.mode, layers);
    Ok(match options.version {
        ProvenanceVersion::V1 => version_1(facts, parts, options),
        ProvenanceVersion::V02 => version_02(facts, parts, options, true),
    })
}

/// What a metadata file says of the provenance of the image at `position`: version 0.2, and without what only `max`
/// has.
pub(crate) fn recorded(facts: &Facts<'_>, position: usize, mode: ProvenanceMode, layers: &VertexLayers) -> Value {
    let options = facts.request.provenance.clone().unwrap_or_default();
    let sources = Sources::of(facts, position);
    let mut parts = parts(facts, position, &sources, options.mode, layers);
    if mode == ProvenanceMode::Min {
        parts.build_config = None;
    }
    version_02(facts, parts, &options, mode == ProvenanceMode::Max)
}

fn parts(facts: &Facts<'_>, position: usize, sources: &Sources, mode: ProvenanceMode, layers: &VertexLayers) -> Parts {
    let lowered = facts.lowered[position];
    let mut config_source = Map::new();
    if let BuildContext::Git(url) | BuildContext::Http(url) = &facts.request.context {
        let url = redacted(url);
        let digest = sources.digest_of(&url).cloned();
        config_source.insert("uri".to_owned(), json!(url));
        config_source.extend(digest.map(|digest| ("digest".to_owned(), digest)));
    }
    config_source.insert("path".to_owned(), json!(facts.dockerfile));
    let mut root = arguments(facts);
    let mut own = root.clone();
    own.retain(|name, _| !name.starts_with("vcs:"));
    let has_root = !root.is_empty();
    let mut has_request = true;
    if mode == ProvenanceMode::Min {
        let is_plain = |name: &String, _: &mut Value| !name.starts_with("build-arg:") && !name.starts_with("label:");
        has_request = own.len() == own.keys().filter(|name| is_plain(name, &mut Value::Null)).count();
        own.retain(is_plain);
        root.retain(is_plain);
    }
    let mut parameters = Map::new();
    let mut set = |name: &str, value: Value| drop(parameters.insert(name.to_owned(), value));
    set("frontend", json!("dockerfile.v0"));
    if !own.is_empty() {
        set("args", Value::Object(own));
    }
    if mode == ProvenanceMode::Max {
        for (name, list) in [("secrets", ids(&sources.secrets)), ("ssh", ids(&sources.ssh))] {
            if !list.is_empty() {
                set(name, Value::Array(list));
            }
        }
    }
    if !sources.locals.is_empty() {
        set("locals", sources.locals.iter().map(|name| json!({ "name": name })).collect());
    }
    if has_root {
        let request = if root.is_empty() { json!({}) } else { json!({ "args": root }) };
        set("root", json!({ "configSource": config_source, "request": request }));
    }
    set("compatibilityVersion", json!(COMPATIBILITY));
    let is_complete = sources.locals.is_empty();
    let mut metadata = Map::new();
    if !facts.request.vcs.is_empty() {
        let vcs: Map<String, Value> =
            facts.request.vcs.iter().map(|(name, value)| (name.clone(), json!(redacted(value)))).collect();
        metadata.insert("vcs".to_owned(), Value::Object(vcs));
    }
    let steps = (mode == ProvenanceMode::Max).then(|| Steps::of(lowered));
    if let Some(steps) = &steps {
        metadata.extend(source_map(lowered, steps).map(|source| ("source".to_owned(), source)));
        let layers = steps.layers(layers);
        if !layers.is_empty() {
            metadata.insert("layers".to_owned(), Value::Object(layers));
        }
    }
    Parts {
        materials: sources.materials.clone(),
        config_source,
        parameters,
        build_config: steps.map(|steps| steps.build_config()),
        is_complete,
        has_request,
        is_hermetic: is_complete && !sources.has_network,
        metadata,
    }
}

/// When the build began and ended, and a name of this run. A build that has to be the same each time says none of it.
struct Run {
    started: Option<String>,
    finished: Option<String>,
    invocation: Option<String>,
}

impl Run {
    fn of(facts: &Facts<'_>) -> Self {
        if facts.lowered.iter().any(|lowered| lowered.epoch.is_some()) {
            return Self { started: None, finished: None, invocation: None };
        }
        let nanoseconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let seed = format!("{} {} {}", nanoseconds(facts.started), nanoseconds(facts.finished), std::process::id());
        Self {
            started: Some(rfc3339(facts.started)),
            finished: Some(rfc3339(facts.finished)),
            invocation: Digest::sha256(seed.as_bytes()).encoded().get(..25).map(str::to_owned),
        }
    }
}

fn host() -> String {
    Platform::host().normalize().to_string()
}

/// The front end that the parameters were meant for.
fn front_end() -> String {
    format!("onetag-{}", env!("CARGO_PKG_VERSION"))
}

fn version_1(facts: &Facts<'_>, parts: Parts, options: &ProvenanceOptions) -> Value {
    let run = Run::of(facts);
    let mut internal = Map::new();
    internal.extend(parts.build_config.map(|config| ("buildConfig".to_owned(), config)));
    internal.insert("builderPlatform".to_owned(), json!(host()));
    internal.insert("dockerfileVersion".to_owned(), json!(front_end()));
    let mut metadata = Map::new();
    let times = [("invocationId", run.invocation), ("startedOn", run.started), ("finishedOn", run.finished)];
    metadata.extend(times.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))));
    metadata.insert("buildkit_metadata".to_owned(), Value::Object(parts.metadata));
    if parts.is_hermetic {
        metadata.insert("buildkit_hermetic".to_owned(), json!(true));
    }
    let completeness = json!({ "request": parts.has_request, "resolvedDependencies": parts.is_complete });
    metadata.insert("buildkit_completeness".to_owned(), completeness);
    if options.reproducible {
        metadata.insert("buildkit_reproducible".to_owned(), json!(true));
    }
    let mut definition = Map::new();
    definition.insert("buildType".to_owned(), json!(BUILD_TYPE_1));
    if !parts.materials.is_empty() {
        definition.insert("resolvedDependencies".to_owned(), Value::Array(parts.materials));
    }
    let external = json!({ "configSource": parts.config_source, "request": parts.parameters });
    definition.insert("externalParameters".to_owned(), external);
    definition.insert("internalParameters".to_owned(), Value::Object(internal));
    json!({
        "buildDefinition": definition,
        "runDetails": { "builder": { "id": options.builder_id }, "metadata": metadata },
    })
}

fn version_02(facts: &Facts<'_>, parts: Parts, options: &ProvenanceOptions, with_metadata: bool) -> Value {
    let run = Run::of(facts);
    let mut predicate = Map::new();
    predicate.insert("builder".to_owned(), json!({ "id": options.builder_id }));
    predicate.insert("buildType".to_owned(), json!(BUILD_TYPE_02));
    if !parts.materials.is_empty() {
        predicate.insert("materials".to_owned(), Value::Array(parts.materials));
    }
    let mut config_source = parts.config_source;
    if let Some(path) = config_source.shift_remove("path") {
        config_source.insert("entryPoint".to_owned(), path);
    }
    let invocation = json!({
        "configSource": config_source,
        "parameters": parts.parameters,
        "environment": { "dockerfileVersion": front_end(), "platform": host() },
    });
    predicate.insert("invocation".to_owned(), invocation);
    predicate.extend(parts.build_config.map(|config| ("buildConfig".to_owned(), config)));
    if with_metadata {
        let mut metadata = Map::new();
        let times =
            [("buildInvocationID", run.invocation), ("buildStartedOn", run.started), ("buildFinishedOn", run.finished)];
        metadata.extend(times.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))));
        let completeness =
            json!({ "parameters": parts.has_request, "environment": true, "materials": parts.is_complete });
        metadata.insert("completeness".to_owned(), completeness);
        metadata.insert("reproducible".to_owned(), json!(options.reproducible));
        metadata.insert(format!("{BUILD_TYPE_02}#metadata"), Value::Object(parts.metadata));
        if parts.is_hermetic {
            metadata.insert(format!("{BUILD_TYPE_02}#hermetic"), json!(true));
        }
        predicate.insert("metadata".to_owned(), Value::Object(metadata));
    }
    Value::Object(predicate)
}
