use std::collections::BTreeMap;

use onetag_oci::Platform;
use serde_json::{Value, json};

use super::*;

#[path = "../../../../tests/support/vectors.rs"]
mod vectors;

/// The kinds that the Dockerfile's own parsers are tested with.
const ELSEWHERE: [&str; 2] = ["csv", "run_mount"];

#[test]
fn build_flags_vectors() {
    let mut failures = Vec::new();
    for vector in vectors::load("flags.json") {
        let kind = vector["kind"].as_str().unwrap_or_default();
        if ELSEWHERE.contains(&kind) {
            continue;
        }
        let expected = if vector["error"].is_string() {
            None
        } else {
            let keys = ["out", "deduped", "map", "canonical", "local_delete"];
            Some(keys.iter().filter_map(|key| Some(((*key).to_owned(), vector.get(*key)?.clone()))).collect())
        };
        let ours = evaluate(kind, &vector).ok();
        if ours != expected {
            failures.push(format!("{vector}\n    ours: {ours:?}"));
        }
    }
    assert!(failures.is_empty(), "{} vectors differ:\n{}", failures.len(), failures.join("\n"));
}

type Fields = BTreeMap<String, Value>;

fn evaluate(kind: &str, vector: &Value) -> Result<Fields> {
    let values: Vec<String> =
        vector["in"].as_array().into_iter().flatten().map(|value| value.as_str().unwrap_or_default().into()).collect();
    let one = values.first().map_or("", String::as_str);
    let host = Platform::linux("amd64");
    let out = |value: Value| Fields::from([("out".to_owned(), value)]);
    Ok(match kind {
        "output" => out(parse_outputs(&values)?.iter().map(output).collect()),
        "cache" => out(parse_cache(&values)?
            .iter()
            .map(|entry| json!({"type": entry.kind, "attrs": entry.attributes, "string": entry.to_string()}))
            .collect()),
        "secret" => out(parse_secrets(&values)?
            .iter()
            .map(|secret| json!({"id": secret.id, "src": secret.path, "env": secret.variable}))
            .collect()),
        "ssh" => out(parse_ssh(&values)?.iter().map(|entry| json!({"id": entry.id, "paths": entry.paths})).collect()),
        "build_context" => out(json!(parse_contexts(&values)?)),
        "platform" => {
            let platforms = parse_platforms(&values, &host)?;
            let deduplicated = deduplicate_platforms(&platforms).iter().map(ToString::to_string).collect();
            let mut fields = out(platforms.iter().map(platform).collect());
            fields.insert("deduped".to_owned(), deduplicated);
            fields
        }
        "attest" => {
            let attestations = parse_attestations(&values)?;
            let mut fields = out(attestations.iter().map(attestation).collect());
            fields.insert("map".to_owned(), json!(attestation_map(&attestations)));
            fields
        }
        "provenance" | "sbom" => {
            let canonical = canonical_attestation(kind, one);
            let attestations = if canonical.is_empty() { Vec::new() } else { parse_attestations(&[&canonical])? };
            let mut fields = out(attestations.iter().map(attestation).collect());
            fields.insert("canonical".to_owned(), canonical.into());
            fields
        }
        "annotation" => {
            let mut annotations = parse_annotations(&values, &host)?;
            annotations.sort_by_key(annotation_name);
            out(annotations.iter().map(annotation).collect())
        }
        "ulimit" => out(values
            .iter()
            .map(|value| Ok(Value::from(parse_ulimit(value)?.to_string())))
            .collect::<Result<Value>>()?),
        "bytes" => out(parse_bytes(one)?.into()),
        "call" => out(parse_call(one)?.map_or(
            Value::Null,
            |call| json!({"name": call.name, "format": call.format, "ignorestatus": call.ignore_status}),
        )),
        "allow" => {
            let allowed = parse_allow(&values)?;
            let mut fields = out(json!(allowed.entitlements));
            fields.insert("local_delete".to_owned(), allowed.local_delete.into());
            fields
        }
        kind => panic!("unknown kind {kind}"),
    })
}

fn output(output: &Output) -> Value {
    let mut value = json!({"type": output.kind, "attrs": output.attributes, "string": output.to_string()});
    if !output.destination.is_empty() {
        value["dest"] = output.destination.clone().into();
    }
    value
}

fn platform(platform: &Platform) -> Value {
    let mut value = json!({"os": platform.os, "arch": platform.architecture});
    for (name, text) in [("variant", &platform.variant), ("os_version", &platform.os_version)] {
        if let Some(text) = text {
            value[name] = text.clone().into();
        }
    }
    if !platform.os_features.is_empty() {
        value["os_features"] = platform.os_features.clone().into();
    }
    value
}

fn attestation(attestation: &Attestation) -> Value {
    json!({"type": attestation.kind, "disabled": attestation.disabled, "attrs": attestation.attributes})
}

fn annotation(annotation: &Annotation) -> Value {
    let mut value = json!({"key": annotation.key, "value": annotation.value});
    if let Some(target) = annotation.target {
        value["type"] = target.as_str().into();
    }
    if let Some(platform) = &annotation.platform {
        value["platform"] = platform.format_all().into();
    }
    value
}

/// The name that an annotation has as an attribute of an output.
fn annotation_name(annotation: &Annotation) -> String {
    let target = annotation.target.map(|target| format!("-{}", target.as_str())).unwrap_or_default();
    let platform = annotation.platform.as_ref().map(|platform| format!("[{}]", platform.format_all()));
    format!("annotation{target}{}.{}", platform.unwrap_or_default(), annotation.key)
}
