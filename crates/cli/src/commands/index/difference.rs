//! What a change of an index makes different, as people and as programs read it.

use onetag_engine::index::edit::{Change, Difference, EditRequest, Edited};
use serde_json::{Value, json};

use crate::commands::pull::short;

/// Lines for people.
pub(super) fn text(request: &EditRequest, edited: &Edited) -> String {
    let (before, after) = (edited.before.document.digest(), edited.after.document.digest());
    let mut out = format!("{}\n", request.target);
    if edited.is_unchanged() {
        return out + &format!("  unchanged: {before}\n");
    }
    out += &format!("  {before}\n  -> {after}\n");
    for change in &edited.changes {
        out += &line(change);
    }
    out
}

fn line(change: &Change) -> String {
    match change {
        Change::Added { platform, digest, from } => format!("  + {platform}  {} from {from}\n", short(digest)),
        Change::Replaced { platform, before, after, from } => {
            format!("  ~ {platform}  {} -> {} from {from}\n", short(before), short(after))
        }
        Change::Removed { platform, digest } => format!("  - {platform}  {}\n", short(digest)),
        Change::Changed { platform, before, after, differences } => {
            format!("  ~ {platform}  {} -> {}\n{}", short(before), short(after), lines(differences))
        }
        Change::Entry { platform, differences } => format!("  ~ entry of {platform}\n{}", lines(differences)),
        Change::Index { differences } => format!("  ~ index\n{}", lines(differences)),
        Change::AttestationDropped { platform, digest } => {
            format!("  - attestation of {platform}  {}: it is about the image before\n", short(digest))
        }
    }
}

fn lines(differences: &[Difference]) -> String {
    let line = |difference: &Difference| {
        let name = match &difference.key {
            Some(key) => format!("{} {key}", difference.what),
            None => difference.what.clone(),
        };
        match (&difference.before, &difference.after) {
            (None, Some(after)) => format!("      + {name}: {after}\n"),
            (Some(before), None) => format!("      - {name}: {before}\n"),
            (before, after) => format!(
                "      ~ {name}: {} -> {}\n",
                before.as_deref().unwrap_or_default(),
                after.as_deref().unwrap_or_default()
            ),
        }
    };
    differences.iter().map(line).collect()
}

/// The same for programs.
pub(super) fn json(request: &EditRequest, edited: &Edited) -> Value {
    json!({
        "name": request.target.to_string(),
        "before": edited.before.document.digest(),
        "after": edited.after.document.digest(),
        "changes": edited.changes,
    })
}
