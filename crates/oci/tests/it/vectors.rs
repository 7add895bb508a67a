//! Every vector of digests, references, platforms and diff IDs, with all failures listed at once.

use onetag_oci::{
    ChainId, DiffId, Digest, Platform, PlatformMatcher, Reference, exact, only, only_strict, order, parse_any,
    parse_docker_ref, select,
};
use serde_json::{Value, json};

use crate::vectors_folder::load;

/// Collects differences, so that one run shows them all.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn expect(&mut self, vector: &Value, what: &str, expected: &Value, found: &Value) {
        if expected != found {
            self.0.push(format!("{what}: expected {expected}, found {found}\n  {vector}"));
        }
    }
}

impl Drop for Differences {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{} differences:\n{}", self.0.len(), self.0.join("\n"));
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Whether exactly the vectors with an error fail, and what the others give.
fn outcome<T, E>(result: Result<T, E>, show: impl Fn(T) -> Value) -> Value {
    result.map_or(Value::Null, show)
}

#[test]
fn digests_vectors() {
    let mut differences = Differences::default();
    for vector in load("digests.json") {
        let parsed = text(&vector["in"]).parse::<Digest>();
        if let (Err(error), Value::String(expected)) = (&parsed, &vector["error"]) {
            differences.expect(&vector, "error", &json!(expected), &json!(error.to_string()));
        }
        differences.expect(&vector, "valid", &vector["valid"], &json!(parsed.is_ok()));
        if let Ok(digest) = parsed {
            differences.expect(&vector, "algorithm", &vector["algorithm"], &json!(digest.algorithm().name()));
            differences.expect(&vector, "encoded", &vector["encoded"], &json!(digest.encoded()));
        }
    }
}

#[test]
fn references_vectors() {
    let mut differences = Differences::default();
    for vector in load("references.json") {
        let input = text(&vector["in"]);
        let parsed = Reference::parse(input);
        let named = outcome(parsed.clone(), |reference| {
            let mut named = serde_json::Map::new();
            let mut put = |key: &str, value: &str| {
                if !value.is_empty() || key == "domain" {
                    named.insert(key.to_owned(), json!(value));
                }
            };
            put("domain", reference.domain());
            put("path", reference.path());
            put("tag", reference.tag().unwrap_or_default());
            put("digest", reference.digest().map(Digest::as_str).unwrap_or_default());
            put("string", &reference.to_string());
            put("familiar", &reference.familiar());
            put("familiar_name", &reference.familiar_name());
            Value::Object(named)
        });
        differences.expect(&vector, "named", &vector["named"], &named);
        if let (Err(error), Value::String(expected)) = (&parsed, &vector["error"]) {
            differences.expect(&vector, "error", &json!(expected), &json!(error.to_string()));
        }
        let with_tag = outcome(parsed, |reference| json!(reference.with_default_tag().to_string()));
        differences.expect(&vector, "tag_name_only", &vector["tag_name_only"], &with_tag);
        let docker_ref = outcome(parse_docker_ref(input), |reference| json!(reference.to_string()));
        differences.expect(&vector, "docker_ref", &vector["docker_ref"], &docker_ref);
        let any = parse_any(input);
        differences.expect(&vector, "any", &vector["any"], &outcome(any.clone(), |any| json!(any.to_string())));
        let familiar = outcome(any, |any| json!(any.familiar()));
        differences.expect(&vector, "any_familiar", &vector["any_familiar"], &familiar);
    }
}

fn platform(value: &Value) -> Platform {
    let field = |name: &str| value[name].as_str().unwrap_or_default();
    let mut platform = Platform::new(field("os"), field("arch")).with_variant(field("variant"));
    platform.os_version = Some(field("os_version").to_owned()).filter(|version| !version.is_empty());
    for feature in value["os_features"].as_array().into_iter().flatten() {
        platform.os_features.push(text(feature).to_owned());
    }
    platform
}

fn compare_parse(vector: &Value, differences: &mut Differences) {
    let host = Platform::linux("amd64");
    let parsed = Platform::parse_on(text(&vector["in"]), &host);
    differences.expect(vector, "parses", &json!(vector["error"].is_null()), &json!(parsed.is_ok()));
    let Ok(parsed) = parsed else { return };
    let normalized = parsed.normalize();
    differences.expect(vector, "format", &vector["format"], &json!(parsed.to_string()));
    differences.expect(vector, "format_all", &vector["format_all"], &json!(parsed.format_all()));
    let normalized_text = json!(normalized.format_all());
    differences.expect(vector, "format_all_normalized", &vector["format_all_normalized"], &normalized_text);
    compare_platform(vector, "out", &parsed, differences);
    compare_platform(vector, "normalized", &normalized, differences);
}

fn compare_platform(vector: &Value, field: &str, found: &Platform, differences: &mut Differences) {
    let expected = platform(&vector[field]);
    if expected != *found {
        differences.expect(vector, field, &json!(expected), &json!(found));
    }
}

fn compare_select(vector: &Value, differences: &mut Differences) {
    let requested = platform(&vector["requested"]);
    let entries: Vec<Option<Platform>> = vector["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| (!entry.is_null()).then(|| platform(entry)))
        .collect();
    for (name, matcher) in [("only", only(&requested)), ("only_strict", only_strict(&requested))] {
        let chosen = select(&matcher, &entries, |entry| entry.as_ref());
        differences.expect(vector, name, &vector[name], &json!(chosen));
        let sorted = order(&matcher, &entries, |entry| entry.as_ref());
        differences.expect(vector, name, &vector[format!("{name}_order")], &json!(sorted));
    }
    let matcher = exact(&requested);
    let matched: Vec<Option<bool>> =
        entries.iter().map(|entry| entry.as_ref().map(|entry| matcher.matches(entry))).collect();
    differences.expect(vector, "exact", &vector["exact"], &json!(matched));
}

#[test]
fn platforms_vectors() {
    let mut differences = Differences::default();
    for vector in load("platforms.json") {
        match text(&vector["kind"]) {
            "parse" => compare_parse(&vector, &mut differences),
            "normalize" => {
                let raw = platform(&vector["in"]);
                differences.expect(&vector, "format", &vector["format"], &json!(raw.to_string()));
                differences.expect(&vector, "format_all", &vector["format_all"], &json!(raw.format_all()));
                compare_platform(&vector, "out", &raw.normalize(), &mut differences);
            }
            "select" => compare_select(&vector, &mut differences),
            unknown => panic!("unknown kind {unknown:?}"),
        }
    }
}

#[test]
fn diffids_vectors() {
    let mut differences = Differences::default();
    for vector in load("diffids.json") {
        let diff_ids: Vec<DiffId> = serde_json::from_value(vector["diff_ids"].clone()).expect("diff IDs");
        let chain_ids: Vec<ChainId> =
            (1..=diff_ids.len()).filter_map(|count| ChainId::of(&diff_ids[..count])).collect();
        differences.expect(&vector, "chain_ids", &vector["chain_ids"], &json!(chain_ids));
        let whole = ChainId::of(&diff_ids).map(|chain_id| chain_id.to_string()).unwrap_or_default();
        differences.expect(&vector, "chain_id", &vector["chain_id"], &json!(whole));
    }
}
