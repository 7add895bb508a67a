use proptest::prelude::*;

use super::*;

fn digest(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

fn layer(name: &str) -> Arc<CacheLayer> {
    let blob = CacheBlob { media_type: media_type::OCI_LAYER_GZIP.to_owned(), digest: digest(name), size: 7 };
    let step = CacheStep { created: "2026-01-01T00:00:00Z".to_owned(), description: format!("RUN {name}"), level: 6 };
    Arc::new(CacheLayer { diff_id: DiffId(digest(&format!("diff {name}"))), step: Some(step), blob: Some(blob) })
}

fn base(name: &str) -> Arc<CacheLayer> {
    Arc::new(CacheLayer { diff_id: DiffId(digest(name)), step: None, blob: None })
}

fn entry(key: &str, layers: &[Arc<CacheLayer>], day: u64) -> (Digest, Entry) {
    (digest(key), Entry { identity: digest(key), outputs: Some(vec![layers.to_vec()]), day })
}

fn table(records: &[(Digest, Entry)]) -> Table {
    Table { records: records.iter().cloned().collect(), aliases: BTreeMap::new() }
}

#[test]
fn what_is_written_is_read() {
    let mut table =
        table(&[entry("a", &[base("b"), layer("1")], 3), entry("b", &[base("b"), layer("1"), layer("2")], 4)]);
    table.records.insert(digest("c"), Entry { identity: digest("other"), outputs: None, day: 4 });
    table.aliases.insert(digest("fast"), (digest("a"), 4));
    let bytes = table.to_bytes();
    assert_eq!(Table::parse(&bytes).unwrap(), table);
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.matches(digest("1").as_str()).count(), 1, "layers are written once: {text}");
    assert_eq!(table.blobs().len(), 2);
}

#[test]
fn writers_of_different_steps_add_up_in_any_order() {
    let (one, two) = (table(&[entry("a", &[layer("1")], 3)]), table(&[entry("b", &[layer("2")], 4)]));
    let (mut ab, mut ba) = (one.clone(), two.clone());
    ab.merge(&two);
    ba.merge(&one);
    assert_eq!(ab, ba);
    assert_eq!(ab.to_bytes(), ba.to_bytes());
    assert_eq!(ab.records.len(), 2);
    let before = ab.clone();
    ab.merge(&two);
    assert_eq!(ab, before, "what is known changes nothing");
}

#[test]
fn of_two_results_of_one_step_the_present_one_stays_unless_it_was_renewed() {
    let mut ours = table(&[entry("a", &[layer("1")], 3)]);
    ours.merge(&table(&[entry("a", &[layer("2")], 5)]));
    assert_eq!(
        (&ours.records[&digest("a")].outputs, ours.records[&digest("a")].day),
        (&Some(vec![vec![layer("1")]]), 5)
    );
    let renewed = Entry { identity: digest("new"), outputs: Some(vec![vec![layer("2")]]), day: 5 };
    ours.merge(&table(&[(digest("a"), renewed.clone())]));
    assert_eq!(ours.records[&digest("a")], renewed);
}

#[test]
fn what_nobody_confirms_goes_after_a_month() {
    let mut table = table(&[entry("old", &[layer("1")], 100), entry("new", &[layer("2")], 130)]);
    table.trim(130);
    assert_eq!(table.records.len(), 2);
    table.trim(131);
    assert_eq!(table.records.keys().collect::<Vec<_>>(), [&digest("new")]);
}

#[test]
fn hostile_documents_are_refused() {
    let refused = |text: &str| Table::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(refused("[]").contains("no document"));
    assert!(refused(r#"{"version":2}"#).contains("version 2"));
    let key = digest("a");
    let missing = refused(&format!(r#"{{"version":1,"records":[{{"key":"{key}","outputs":[[0]]}}]}}"#));
    assert!(missing.contains("layer number 0"), "{missing}");
    let outputs = "[],".repeat(OUTPUT_LIMIT + 1);
    let outputs = outputs.trim_end_matches(',');
    let many = refused(&format!(r#"{{"version":1,"records":[{{"key":"{key}","outputs":[{outputs}]}}]}}"#));
    assert!(many.contains("outputs of one record"), "{many}");
    let blob = format!(r#"{{"mediaType":"text/plain","digest":"{key}","size":1}}"#);
    let layer = format!(r#"{{"diffId":"{key}","step":{{"created":"","description":"","level":1}},"blob":{blob}}}"#);
    let not_a_layer = refused(&format!(r#"{{"version":1,"layers":[{layer}]}}"#));
    assert!(not_a_layer.contains("no layer"), "{not_a_layer}");
}

proptest! {
    #[test]
    fn no_input_panics(text in ".*", version in 0_u32..3, number in 0_usize..4) {
        let _ = Table::parse(text.as_bytes());
        let key = digest("a");
        let layer = format!(r#"{{"diffId":"{key}"}}"#);
        let document = format!(
            r#"{{"version":{version},"layers":[{layer}],"records":[{{"key":"{key}","outputs":[[{number}]]}}]}}"#
        );
        prop_assert_eq!(Table::parse(document.as_bytes()).is_ok(), version == 1 && number == 0);
    }
}
