//! The config of an exported image: history brought in line with the layers, diff IDs, created time.
//!
//! Pure, and as BuildKit's image exporter does it, so that equal builds give equal configs.

use std::collections::BTreeMap;
use std::time::SystemTime;

use jiff::Timestamp;
use onetag_oci::{DiffId, History, ImageConfig, go_json};
use serde_json::{Value, json};

/// What history calls layers that no instruction accounts for.
const UNACCOUNTED_COMMENT: &str = "buildkit.exporter.image.v0";

/// A layer of the result, as far as history needs to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerRecord {
    /// What made it; for layers that history does not mention.
    pub description: String,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
}

/// What an exported config is made of.
#[derive(Clone, Debug, Default)]
pub struct ConfigPlan<'a> {
    /// Diff IDs of all layers, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// What made the layers, one for each diff ID.
    pub layers: Vec<LayerRecord>,
    /// SOURCE_DATE_EPOCH in seconds since 1970: nothing of this build is younger.
    pub epoch: Option<i64>,
    /// The config of the image that was built upon; what it says keeps its times.
    pub base: Option<&'a ImageConfig>,
    /// Inline cache: the name of the member that holds it, and what it says.
    pub inline_cache: Option<(&'static str, Value)>,
}

/// Why a config cannot be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The config names no operating system.
    #[error("invalid image config for export: missing os")]
    MissingOs,
    /// The config names no architecture.
    #[error("invalid image config for export: missing architecture")]
    MissingArchitecture,
}

/// The bytes of the config to export: `image` with history, layers and times filled in, members sorted by name.
///
/// # Errors
/// The config names no platform.
pub fn config(image: &ImageConfig, plan: &ConfigPlan<'_>) -> Result<Vec<u8>, ExportError> {
    if image.os.is_empty() {
        return Err(ExportError::MissingOs);
    }
    if image.architecture.is_empty() {
        return Err(ExportError::MissingArchitecture);
    }
    let mut history = normalize_history(image.history.clone(), &plan.layers);
    if let Some(epoch) = plan.epoch {
        clamp_history(&mut history, epoch, plan.base.map_or(&[], |base| base.history.as_slice()));
    }
    let members = serde_json::to_value(image).unwrap_or_default();
    let mut members: BTreeMap<String, Value> = match members {
        Value::Object(members) => members.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    members.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": null_if_empty(&plan.diff_ids) }));
    let created = match (&image.created, plan.epoch) {
        (Some(created), Some(epoch)) if is_after(created, epoch) => Some(rfc3339_seconds(epoch)),
        (Some(created), _) => Some(created.clone()),
        (None, _) => history.iter().rev().find_map(|entry| entry.created.clone()),
    };
    members.insert("created".to_owned(), json!(created));
    members.insert("history".to_owned(), null_if_empty(&history));
    if let Some((member, cache)) = &plan.inline_cache {
        members.insert((*member).to_owned(), cache.clone());
    }
    Ok(go_json(&members))
}

/// Brings history in line with the layers: as many entries with a layer as there are layers, and a time for every
/// entry.
pub fn normalize_history(mut history: Vec<History>, layers: &[LayerRecord]) -> Vec<History> {
    let mut seen = 0;
    for entry in &mut history {
        // A base may claim more layers than it has.
        entry.empty_layer |= seen >= layers.len();
        seen += usize::from(!entry.empty_layer);
    }
    for layer in layers.get(seen..).unwrap_or_default() {
        history.push(History {
            created: layer.created.clone(),
            created_by: Some(layer.description.clone()).filter(|text| !text.is_empty()),
            comment: Some(UNACCOUNTED_COMMENT.to_owned()),
            ..History::default()
        });
    }
    let with_layer = history.iter_mut().filter(|entry| !entry.empty_layer);
    for (entry, layer) in with_layer.zip(layers) {
        if entry.created.is_none() {
            entry.created.clone_from(&layer.created);
        }
    }
    fill_times(&mut history);
    history
}

/// Entries without a time get the one of the layer before, the first ones that of the first new layer.
fn fill_times(history: &mut [History]) {
    let mut created: Option<String> = None;
    let mut has_gap = false;
    for entry in history.iter() {
        match &entry.created {
            Some(time) => {
                created = Some(time.clone());
                if has_gap {
                    break;
                }
            }
            None => has_gap = true,
        }
    }
    let mut has_gap = false;
    for entry in history {
        match &entry.created {
            Some(time) if has_gap => created = Some(time.clone()),
            Some(_) => {}
            None => {
                has_gap = true;
                entry.created.clone_from(&created);
            }
        }
    }
}

/// No entry is younger than the epoch, but for those that stand unchanged in the base.
fn clamp_history(history: &mut [History], epoch: i64, base: &[History]) {
    let inherited = history.iter().zip(base).take_while(|(entry, base)| entry == base).count();
    for entry in &mut history[inherited..] {
        if entry.created.as_deref().is_none_or(|created| is_after(created, epoch)) {
            entry.created = Some(rfc3339_seconds(epoch));
        }
    }
}

fn is_after(time: &str, epoch: i64) -> bool {
    match (time.parse::<Timestamp>(), Timestamp::from_second(epoch)) {
        (Ok(time), Ok(epoch)) => time > epoch,
        _ => false,
    }
}

fn null_if_empty<T: serde::Serialize>(list: &[T]) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

/// A time as Go writes it in UTC: RFC 3339, with as many digits of the second as it has.
pub fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).unwrap_or_default().to_string()
}

/// Seconds since 1970 as Go writes them in UTC.
pub fn rfc3339_seconds(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use onetag_oci::{Digest, Platform};

    fn entry(created: Option<&str>, empty_layer: bool) -> History {
        let created = created.map(str::to_owned);
        History { created, created_by: Some("step".into()), empty_layer, ..History::default() }
    }

    fn layer(created: &str) -> LayerRecord {
        LayerRecord { description: "made".into(), created: Some(created.into()) }
    }

    fn times(history: &[History]) -> Vec<&str> {
        history.iter().map(|entry| entry.created.as_deref().unwrap_or("-")).collect()
    }

    const OLD: &str = "2020-01-01T00:00:00Z";
    const NEW: &str = "2024-01-01T00:00:00Z";
    const NEWER: &str = "2024-01-01T00:00:05Z";

    #[test]
    fn entries_get_the_times_of_their_layers() {
        let history = vec![entry(Some(OLD), false), entry(None, true), entry(None, false), entry(None, true)];
        let history = normalize_history(history, &[layer(OLD), layer(NEW)]);
        assert_eq!(times(&history), [OLD, NEW, NEW, NEW], "the first metadata is as old as the first new layer");
        let history = vec![entry(Some(OLD), false), entry(None, false), entry(None, true), entry(None, false)];
        let history = normalize_history(history, &[layer(OLD), layer(NEW), layer(NEWER)]);
        assert_eq!(times(&history), [OLD, NEW, NEWER, NEWER]);
        let history = normalize_history(vec![entry(Some(OLD), false), entry(None, true)], &[layer(NEW)]);
        assert_eq!(times(&history), [OLD, OLD], "without a new layer the base's time");
    }

    #[test]
    fn layers_and_history_are_made_to_agree() {
        let history = normalize_history(vec![entry(Some(OLD), false)], &[layer(OLD), layer(NEW)]);
        assert_eq!(history.len(), 2);
        assert_eq!(history[1].comment.as_deref(), Some(UNACCOUNTED_COMMENT));
        assert_eq!(history[1].created_by.as_deref(), Some("made"));
        let history = normalize_history(vec![entry(Some(OLD), false), entry(Some(OLD), false)], &[layer(OLD)]);
        assert_eq!(history.iter().map(|entry| entry.empty_layer).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn configs_are_sorted_and_complete() {
        let mut image = ImageConfig::new(&Platform::linux("arm64"));
        image.history = vec![entry(None, false)];
        let diff_id = DiffId(Digest::sha256(b"layer"));
        let plan = ConfigPlan { diff_ids: vec![diff_id.clone()], layers: vec![layer(NEW)], ..ConfigPlan::default() };
        let text = String::from_utf8(config(&image, &plan).unwrap()).unwrap();
        let expected = format!(
            r#"{{"architecture":"arm64","config":{{}},"created":"{NEW}","history":[{{"created":"{NEW}","created_by":"step"}}],"os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        assert_eq!(text, expected);
        let empty = ImageConfig::new(&Platform::linux("amd64"));
        let text = String::from_utf8(config(&empty, &ConfigPlan::default()).unwrap()).unwrap();
        assert!(text.contains(r#""created":null,"history":null"#), "{text}");
        assert!(text.contains(r#""diff_ids":null"#), "{text}");
    }

    #[test]
    fn the_epoch_bounds_what_is_new() {
        let mut base = ImageConfig::new(&Platform::linux("amd64"));
        base.history = vec![entry(Some(NEW), false)];
        let mut image = base.clone();
        image.history.push(entry(None, false));
        let plan = ConfigPlan {
            diff_ids: Vec::new(),
            layers: vec![layer(NEW), layer(NEWER)],
            epoch: Some(1_600_000_000),
            base: Some(&base),
            inline_cache: None,
        };
        let value: Value = serde_json::from_slice(&config(&image, &plan).unwrap()).unwrap();
        assert_eq!(value["history"][0]["created"], NEW);
        assert_eq!(value["history"][1]["created"], "2020-09-13T12:26:40Z");
        assert_eq!(value["created"], "2020-09-13T12:26:40Z");
    }

    #[test]
    fn a_config_needs_a_platform() {
        let error = config(&ImageConfig::default(), &ConfigPlan::default()).unwrap_err();
        assert_eq!(error, ExportError::MissingOs);
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_500);
        assert_eq!(rfc3339(time), "1970-01-01T00:00:01.5Z");
        assert_eq!(rfc3339_seconds(0), "1970-01-01T00:00:00Z");
    }
}
