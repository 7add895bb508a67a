use onetag_dockerfile::ignore::{PatternError, Patterns, read};
use serde_json::Value;

use super::{check_all, same, strings, text};

#[test]
fn dockerignore_vectors() {
    check_all("dockerignore.json", |vector| match text(&vector["kind"]) {
        "read" => same("patterns", read(text(&vector["content"]).as_bytes()), strings(&vector["patterns"])),
        "match" => check_match(vector),
        kind => Err(format!("unknown kind {kind}")),
    });
}

fn check_match(vector: &Value) -> Result<(), String> {
    let path = text(&vector["path"]);
    let matched = Patterns::new(strings(&vector["patterns"]))
        .and_then(|patterns| Ok((patterns.matches(path)?, walk(&patterns, path)?)));
    match matched {
        Ok((ignored, by_walk)) => {
            same("error", None, vector["error"].as_str())?;
            same("ignored", Some(ignored), vector["ignored"].as_bool())?;
            same("by walk", by_walk, vector["ignored_by_walk"].as_bool().unwrap_or(ignored))
        }
        Err(error) => same("error", Some(error.to_string().as_str()), vector["error"].as_str()),
    }
}

/// The verdict of a walk from the top down to the path.
fn walk(patterns: &Patterns, path: &str) -> Result<bool, PatternError> {
    let mut parent = None;
    for (end, _) in path.match_indices('/').filter(|(end, _)| *end > 0) {
        parent = Some(patterns.matches_below(&path[..end], parent.as_ref())?.1);
    }
    Ok(patterns.matches_below(path, parent.as_ref())?.0)
}
