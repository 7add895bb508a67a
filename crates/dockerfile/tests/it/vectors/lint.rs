use std::error::Error;

use onetag_dockerfile::ignore;
use onetag_dockerfile::lint::{BaseImages, LintRequest, lint};
use onetag_oci::{ImageConfig, Platform, Reference};
use serde_json::{Value, json};

use super::{check_all, same, text, without_suggestion};

/// The images that the recordings were made with.
struct Simulated;

impl BaseImages for Simulated {
    fn config(&self, reference: &Reference, _: &Platform) -> Result<ImageConfig, Box<dyn Error + Send + Sync>> {
        let name = reference.to_string();
        if name.contains("does-not-exist") {
            return Err(format!("{name}: not found").into());
        }
        let architecture = if name.contains("only-arm64") { "arm64" } else { "amd64" };
        let mut config = json!({
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]},
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        });
        if name.contains("with-workdir") {
            config["config"]["WorkingDir"] = "/app".into();
        }
        if name.contains("with-env") {
            config["config"]["Env"] = json!(["PATH=/bin", "BASEVAR=1"]);
        }
        if name.contains("with-onbuild") {
            config["config"]["OnBuild"] = json!(["RUN true"]);
        }
        Ok(serde_json::from_value(config)?)
    }
}

#[test]
fn lint_vectors() {
    check_all("lint.json", check);
}

fn check(vector: &Value) -> Result<(), String> {
    let platform = vector["platform"].as_str().map(|platform| platform.parse::<Platform>().map_err(|e| e.to_string()));
    let build_args = vector["build_args"].as_object().into_iter().flatten();
    let request = LintRequest {
        build_args: build_args.map(|(name, value)| (name.clone(), text(value).to_owned())).collect(),
        target: vector["target"].as_str().map(str::to_owned),
        only_needed: false,
        target_platform: Some(platform.transpose()?.unwrap_or_else(|| Platform::linux("amd64"))),
        build_platforms: vec![Platform::linux("amd64")],
        ignore_patterns: ignore::read(text(&vector["dockerignore"]).as_bytes()),
        config: None,
    };
    let report = lint(text(&vector["dockerfile"]).as_bytes(), &request, &Simulated);
    let warnings: Vec<Value> = report
        .sorted()
        .into_iter()
        .map(|warning| {
            let lines = warning.lines[0];
            let name = warning.rule.map(|rule| rule.name);
            let mut value = json!({"rule": name, "line": lines.start, "message": warning.message});
            if lines.end != lines.start {
                value["end_line"] = lines.end.into();
            }
            value
        })
        .map(|warning| strip(&warning))
        .collect();
    let recorded: Vec<Value> = vector["warnings"].as_array().into_iter().flatten().map(strip).collect();
    same("warnings", warnings, recorded)?;
    let error = report.error.as_ref().map(|error| {
        let mut value = json!({"message": error.message});
        if let Some(line) = error.first_line() {
            value["line"] = line.into();
        }
        strip(&value)
    });
    let recorded = Some(&vector["error"]).filter(|error| !error.is_null()).map(strip);
    same("error", error, recorded)
}

/// Without the suggestion, which does not always come out the same.
fn strip(value: &Value) -> Value {
    let mut value = value.clone();
    value["message"] = without_suggestion(text(&value["message"])).into();
    value
}
