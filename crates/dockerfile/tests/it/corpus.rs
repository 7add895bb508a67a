//! The conformance corpus, as far as it can be judged without building: image configs, history, and the errors that
//! show before anything is executed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use onetag_dockerfile::resolver::IgnoreFile;
use onetag_dockerfile::{
    LowerOptions, Lowered, NamedContext, NoCache, ResolveError, ResolveOptions, ResolvedImage, Resolver, lower, parse,
};
use onetag_oci::{Digest, ImageConfig, Index, Manifest, Platform, Reference, only, select};
use serde_json::{Value, json};

const REGISTRY: &str = "localhost:5000";

fn corpus() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/corpus"))
}

/// The images of the corpus, and the named contexts of one case.
struct Bases<'a> {
    blobs: &'a HashMap<String, Vec<u8>>,
    contexts: BTreeMap<String, NamedContext>,
    ignore: Option<Vec<u8>>,
}

fn read_blobs() -> HashMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(fs::File::open(corpus().join("busybox.oci.tar")).unwrap());
    let mut blobs = HashMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().trim_start_matches("./").to_owned();
        // Configs, manifests and indexes are small; layers are not needed.
        if entry.size() < 64 << 10 {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            blobs.insert(name, bytes);
        }
    }
    blobs
}

impl Bases<'_> {
    fn blob(&self, digest: &Digest) -> &[u8] {
        &self.blobs[&format!("blobs/sha256/{}", digest.encoded())]
    }
}

impl Resolver for Bases<'_> {
    fn image_config(
        &self,
        reference: &Reference,
        platform: &Platform,
        _options: &ResolveOptions,
    ) -> Result<ResolvedImage, ResolveError> {
        let index: Index = serde_json::from_slice(&self.blobs["index.json"]).unwrap();
        let wanted = format!("{}:{}", reference.path(), reference.tag().unwrap_or("latest"));
        let named = |annotations: &BTreeMap<String, String>| {
            annotations.get("org.opencontainers.image.ref.name").is_some_and(|name| *name == wanted)
        };
        let found = index.manifests.iter().find(|descriptor| named(&descriptor.annotations));
        let top = found.ok_or_else(|| ResolveError::new(format!("{reference}: not found")))?;
        let mut digest = top.digest.clone();
        if top.media_type.contains("index") {
            let index: Index = serde_json::from_slice(self.blob(&digest)).unwrap();
            let chosen = select(&only(platform), &index.manifests, |descriptor| descriptor.platform.as_ref());
            let chosen = chosen.ok_or_else(|| ResolveError::new("no match for platform in manifest"))?;
            digest = index.manifests[chosen].digest.clone();
        }
        let manifest: Manifest = serde_json::from_slice(self.blob(&digest)).unwrap();
        let config_bytes = self.blob(&manifest.config.digest).to_vec();
        let config: ImageConfig = serde_json::from_slice(&config_bytes).unwrap();
        Ok(ResolvedImage { reference: reference.clone(), digest: top.digest.clone(), config, config_bytes })
    }

    fn ignore_file(&self) -> Result<Option<IgnoreFile>, ResolveError> {
        Ok(self.ignore.clone().map(|content| IgnoreFile { name: ".dockerignore".into(), content }))
    }

    fn named_context(&self, key: &str) -> Result<Option<NamedContext>, ResolveError> {
        Ok(self.contexts.get(key).cloned())
    }
}

struct Case {
    path: PathBuf,
    name: String,
    about: Value,
    expected: Value,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = fs::read_dir(corpus().join("cases"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let json = |name: &str| serde_json::from_slice(&fs::read(path.join(name)).unwrap()).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            Case { name, about: json("case.json"), expected: json("expected.json"), path }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(cases.len(), 259);
    cases
}

/// The options and contexts that a case's flags stand for.
fn options(case: &Case) -> (LowerOptions, BTreeMap<String, NamedContext>) {
    let mut options = LowerOptions { build_platform: Platform::linux("amd64"), ..LowerOptions::default() };
    let mut contexts = BTreeMap::new();
    let flags: Vec<String> = case.about["flags"].as_array().into_iter().flatten().map(text).collect();
    let mut flags = flags.iter().map(|flag| flag.replace("{registry}", REGISTRY)).peekable();
    while let Some(flag) = flags.next() {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None if flags.peek().is_some_and(|next| !next.starts_with('-')) => (flag, flags.next().unwrap()),
            None => (flag, String::new()),
        };
        let (key, rest) = value.split_once('=').unwrap_or((&value, ""));
        match name.as_str() {
            "--build-arg" => drop(options.build_args.insert(key.into(), rest.into())),
            "--label" => drop(options.labels.insert(key.into(), rest.into())),
            "--target" => options.target = Some(value),
            "--no-cache" => options.no_cache = NoCache::Always,
            "--no-cache-filter" => options.no_cache = NoCache::Stages(vec![value]),
            "--build-context" => drop(contexts.insert(key.into(), context(key, rest))),
            _ => {}
        }
    }
    (options, contexts)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn context(name: &str, value: &str) -> NamedContext {
    match value.split_once("://") {
        Some(("docker-image", reference)) => NamedContext::Image(reference.into()),
        Some(("oci-layout", _)) => NamedContext::Image(format!("{REGISTRY}/absent")),
        _ => NamedContext::Local { name: name.into(), ignore: None },
    }
}

/// An error as the terminal shows it: the chain of causes, and the first line it is about.
type Failure = (String, Option<u32>);

fn lower_case(case: &Case, platform: &str, blobs: &HashMap<String, Vec<u8>>) -> Result<Lowered, Failure> {
    let dockerfile = fs::read_to_string(case.path.join("Dockerfile")).unwrap();
    let dockerfile = dockerfile.replace("@REGISTRY@", REGISTRY).replace("@HTTP@", "127.0.0.1:1");
    let (file, errors) = parse(dockerfile.as_bytes());
    if let Some(error) = errors.first() {
        return Err((error.message.clone(), error.first_line()));
    }
    let (mut options, contexts) = options(case);
    let platform: Platform = platform.parse().map_err(|error| (format!("platform: {error}"), None))?;
    options.target_platform = Some(platform.normalize());
    let ignore = fs::read(case.path.join("context/.dockerignore")).ok();
    lower(&file, &options, &Bases { blobs, contexts, ignore }).map_err(|error| {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        (message, error.lines.last().map(|lines| lines.start))
    })
}

fn history(image: &ImageConfig) -> Value {
    let entry = |entry: &onetag_oci::History| {
        let created_by = entry.created_by.as_deref().unwrap_or_default();
        let created_by = created_by.strip_suffix(" # buildkit").unwrap_or(created_by).replace(REGISTRY, "@REGISTRY@");
        match entry.empty_layer {
            true => json!({ "created_by": created_by.replace("127.0.0.1:1", "@HTTP@"), "empty_layer": true }),
            false => json!({ "created_by": created_by.replace("127.0.0.1:1", "@HTTP@") }),
        }
    };
    image.history.iter().map(entry).collect()
}

fn platforms(case: &Case) -> Vec<String> {
    match case.about["platforms"].as_array() {
        Some(list) if !list.is_empty() => list.iter().map(text).collect(),
        _ => vec!["linux/amd64".into()],
    }
}

/// Cases whose answer needs more than the Dockerfile: images that another build of the case makes.
fn needs_a_build(case: &Case) -> bool {
    case.about.get("prebuild").is_some()
}

#[test]
fn configs_and_histories_are_those_of_buildkit() {
    let blobs = read_blobs();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in cases().iter().filter(|case| case.expected.get("platforms").is_some() && !needs_a_build(case)) {
        for platform in platforms(case) {
            let normalized = platform.parse::<Platform>().unwrap().normalize();
            let key = if normalized.architecture == "arm" && normalized.variant.is_none() {
                format!("{normalized}/v7")
            } else {
                normalized.to_string()
            };
            let Some(expected) = case.expected["platforms"].get(&key) else { continue };
            match lower_case(case, &platform, &blobs) {
                Err(error) => wrong.push(format!("{} {platform}: {error:?}", case.name)),
                Ok(lowered) => {
                    compared += 1;
                    compare(case, &platform, &lowered.image, expected, &mut wrong);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 190, "{compared} results were compared");
}

fn compare(case: &Case, platform: &str, image: &ImageConfig, expected: &Value, wrong: &mut Vec<String>) {
    let mut expected_history = expected["history"].clone();
    for entry in expected_history.as_array_mut().into_iter().flatten() {
        entry.as_object_mut().unwrap().remove("created");
    }
    let ours = history(image);
    if ours != expected_history {
        wrong.push(format!("{} {platform} history:\n  {ours}\n  {expected_history}", case.name));
    }
    let ours = serde_json::to_value(image).unwrap();
    for member in ["architecture", "os", "variant", "author"] {
        if ours[member] != expected["config"][member] {
            wrong.push(format!("{} {platform} {member}: {} {}", case.name, ours[member], expected["config"][member]));
        }
    }
    let ours = replaced(ours["config"].clone());
    if ours != expected["config"]["config"] {
        wrong.push(format!("{} {platform}:\n  {ours}\n  {}", case.name, expected["config"]["config"]));
    }
}

fn replaced(config: Value) -> Value {
    serde_json::from_str(&config.to_string().replace(REGISTRY, "@REGISTRY@")).unwrap()
}

/// Errors that only the execution shows.
const WHEN_EXECUTED: [&str; 16] = [
    "err-07-", "err-104-", "err-105-", "err-19-", "err-21-", "err-22-", "err-50-", "err-56-", "err-63-", "err-64-",
    "err-78-", "err-83-", "err-62-", "onbuild-", "copy-", "add-",
];

#[test]
fn errors_have_buildkits_phrases_and_lines() {
    let blobs = read_blobs();
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|case| case.expected.get("error").is_some()) {
        let failures: Vec<Failure> =
            platforms(case).iter().filter_map(|platform| lower_case(case, platform, &blobs).err()).collect();
        let Some((message, line)) = failures.first() else {
            if !WHEN_EXECUTED.iter().any(|prefix| case.name.starts_with(prefix)) {
                wrong.push(format!("{}: no error", case.name));
            }
            continue;
        };
        let expected = &case.expected["error"];
        let message = message.replace(REGISTRY, "@REGISTRY@");
        for phrase in expected["contains"].as_array().unwrap().iter().map(text) {
            if !message.to_lowercase().contains(&phrase.to_lowercase()) {
                wrong.push(format!("{}: `{phrase}` is not in `{message}`", case.name));
            }
        }
        if expected["line"].as_u64().is_some_and(|expected| Some(expected) != line.map(u64::from)) {
            wrong.push(format!("{}: line {line:?}, not {}: {message}", case.name, expected["line"]));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_is_complete() {
    let exists = |name: &str| Path::new(&corpus().join(name)).exists();
    assert!(["busybox.oci.tar", "run.py", "README.md", "NOTICE"].iter().all(|name| exists(name)));
}
