//! Documents as registries send them: what is kept, what is refused.

use onetag_oci::{
    DEFAULT_DOCUMENT_LIMIT, Descriptor, Digest, Document, DocumentError, ImageConfig, Index, Manifest,
    ManifestDocument, Platform, go_json, media_type,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(value: &Value, announced: Option<&str>) -> Result<ManifestDocument, DocumentError> {
    ManifestDocument::parse(value.to_string().into_bytes(), announced)
}

fn descriptor() -> Value {
    json!({"mediaType": media_type::OCI_CONFIG, "digest": Digest::sha256(b"c").to_string(), "size": 1})
}

#[test]
fn exact_bytes_and_their_digest_are_kept() {
    let bytes = b"{\n\t\"manifests\" : null , \"schemaVersion\":2,\"x\":1.50}\n".to_vec();
    let document: Document<Index> = Document::parse(bytes.clone()).unwrap();
    assert_eq!(document.bytes(), bytes);
    assert_eq!(document.digest(), &Digest::sha256(&bytes));
    assert!(document.manifests.is_empty());
    assert!(document.extra.contains_key("x"));
}

#[test]
fn a_manifest_in_gos_order_and_form() {
    let mut layer = Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256(b"l"), 7);
    layer.annotations.insert("b".into(), "<2>".into());
    layer.annotations.insert("a".into(), "1".into());
    let config = Descriptor::new(media_type::OCI_CONFIG, Digest::sha256(b"c"), 3);
    let document = Document::from_value(Manifest::new(config, vec![layer]));
    let expected = format!(
        concat!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":3}},"#,
            r#""layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":7,"#,
            r#""annotations":{{"a":"1","b":"\u003c2\u003e"}}}}]}}"#
        ),
        Digest::sha256(b"c"),
        Digest::sha256(b"l"),
    );
    assert_eq!(String::from_utf8(document.bytes().to_vec()).unwrap(), expected);
    assert_eq!(ManifestDocument::parse(expected.into_bytes(), None).unwrap().digest(), document.digest());
}

#[test]
fn kinds_are_told_apart_by_content() {
    let index = json!({"schemaVersion": 2, "manifests": []});
    let manifest = json!({"schemaVersion": 2, "config": descriptor(), "layers": []});
    assert!(parse(&index, None).unwrap().as_index().is_some());
    assert!(parse(&manifest, None).unwrap().as_manifest().is_some());
    let announced = parse(&manifest, Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"));
    assert_eq!(announced.unwrap().media_type(), media_type::DOCKER_MANIFEST);
    assert_eq!(parse(&index, Some("text/plain")).unwrap().media_type(), media_type::OCI_INDEX);
    let bare = json!({"schemaVersion": 2});
    assert!(matches!(parse(&bare, None), Err(DocumentError::Unknown { .. })));
    let absent_config = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST});
    assert!(matches!(parse(&absent_config, None), Err(DocumentError::Json { .. })));
}

#[test]
fn contradictions_are_refused() {
    let both = json!({"schemaVersion": 2, "manifests": [], "config": descriptor(), "layers": []});
    assert!(matches!(parse(&both, None), Err(DocumentError::Ambiguous { .. })));
    let mislabelled = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "config": descriptor()});
    assert!(matches!(parse(&mislabelled, None), Err(DocumentError::Ambiguous { .. })));
    let index = json!({"schemaVersion": 2, "manifests": []});
    assert!(matches!(parse(&index, Some(media_type::OCI_MANIFEST)), Err(DocumentError::MediaType { .. })));
    let other = json!({"schemaVersion": 2, "mediaType": "application/x", "manifests": []});
    assert!(matches!(parse(&other, None), Err(DocumentError::Unknown { .. })));
}

#[test]
fn schema_1_is_refused_by_name() {
    let schema1 = json!({"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []});
    for announced in [None, Some(media_type::DOCKER_SCHEMA1_SIGNED)] {
        let error = parse(&schema1, announced).unwrap_err();
        assert!(error.to_string().contains("schema 1"), "{error}");
    }
}

#[test]
fn size_and_nesting_are_bounded() {
    let large = vec![b' '; DEFAULT_DOCUMENT_LIMIT + 1];
    assert!(matches!(Document::<Index>::parse(large), Err(DocumentError::TooLarge { .. })));
    let deep = format!("{{\"schemaVersion\":2,\"manifests\":[],\"x\":{}", "[".repeat(1 << 20));
    assert!(matches!(ManifestDocument::parse(deep.into_bytes(), None), Err(DocumentError::Json { .. })));
    let negative = json!({"schemaVersion": 2, "manifests": [{"mediaType": "x", "digest": Digest::sha256(b"").to_string(), "size": -1}]});
    assert!(matches!(parse(&negative, None), Err(DocumentError::Json { .. })));
}

#[test]
fn a_config_as_docker_writes_it_keeps_everything() {
    let text = concat!(
        r#"{"architecture":"arm64","config":{"Hostname":"","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin"],"#,
        r#""Cmd":["sh"],"Entrypoint":null,"Volumes":null,"OnBuild":null,"Labels":{"a":"b"}},"#,
        r#""container":"abc","created":"2026-01-01T00:00:00Z","history":[{"created":"x","empty_layer":true,"n":1}],"#,
        r#""os":"linux","rootfs":{"type":"layers","diff_ids":[]},"variant":"v8"}"#
    );
    let config: Document<ImageConfig> = Document::parse(text.into()).unwrap();
    assert_eq!(config.platform(), Platform::linux("arm64").with_variant("v8"));
    assert_eq!(config.config.entrypoint, None);
    assert_eq!(config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
    assert_eq!(config.config.extra["Hostname"], "");
    let written: Value = serde_json::from_slice(&go_json(config.value())).unwrap();
    assert_eq!(written["container"], "abc");
    assert_eq!(written["config"]["Hostname"], "");
    assert_eq!(written["history"][0]["n"], 1);
}

#[test]
fn a_config_stands_in_the_order_that_the_frontend_writes() {
    let recorded = concat!(
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["#,
        r#""sha256:face395a8bbf4669a2ef4757fd5014e34e8e3d7ece086bfd6784234a197e1db2"]},"#,
        r#""history":[{"created":"0001-01-01T00:00:00Z"},{"created_by":"RUN /bin/sh -c echo hello \u003e /hello # buildkit","#,
        r#""comment":"buildkit.dockerfile.v0"}],"config":{"User":"10:20","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin"],"#,
        r#""Cmd":["sh"],"WorkingDir":"/w/x","Labels":{"a":"b"},"ArgsEscaped":true}}"#
    );
    let config: Document<ImageConfig> = Document::parse(recorded.into()).unwrap();
    assert_eq!(String::from_utf8(go_json(config.value())).unwrap(), recorded);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z<&]{1,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn unknown_members_survive(
        top in proptest::collection::btree_map("x-[a-z]{1,5}", any_json(), 0..4),
        inner in proptest::collection::btree_map("x-[a-z]{1,5}", any_json(), 0..4),
    ) {
        let mut manifest = json!({"schemaVersion": 2, "config": descriptor(), "layers": [descriptor()]});
        for (key, value) in &top {
            manifest[key] = value.clone();
        }
        for (key, value) in &inner {
            manifest["layers"][0][key] = value.clone();
        }
        let document: Document<Manifest> = Document::parse(manifest.to_string().into_bytes()).unwrap();
        let written = Document::from_value(document.value().clone());
        prop_assert_eq!(&serde_json::from_slice::<Value>(written.bytes()).unwrap(), &manifest);
        let again: Document<Manifest> = Document::parse(written.bytes().to_vec()).unwrap();
        prop_assert_eq!(again, written);
    }

    #[test]
    fn any_bytes_parse_or_fail_without_panic(bytes: Vec<u8>, json in any_json()) {
        let _ = ManifestDocument::parse(bytes, None);
        let _ = ManifestDocument::parse(json.to_string().into_bytes(), Some(media_type::OCI_INDEX));
    }
}
