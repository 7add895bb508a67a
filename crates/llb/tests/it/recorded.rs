//! Definitions recorded from BuildKit: every op, digest and JSON line comes back byte for byte.

use std::fs;
use std::path::PathBuf;

use onetag_llb::{Builder, Definition, Graph, Op};
use onetag_oci::Digest;

fn recorded(extension: &str) -> Vec<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recorded/llb"));
    let mut found = Vec::new();
    for case in fs::read_dir(&root).expect("recorded definitions").map(|entry| entry.unwrap().path()) {
        for file in fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path()) {
            if file.to_string_lossy().ends_with(extension) {
                found.push(file);
            }
        }
    }
    found.sort();
    assert_eq!(found.len(), 24, "two platforms of twelve cases");
    found
}

#[test]
fn ops_are_encoded_as_they_were_recorded() {
    for file in recorded(".llb.pb") {
        let definition = Definition::decode(&fs::read(&file).unwrap()).unwrap();
        let (_, ops) = definition.ops.split_last().unwrap();
        for bytes in ops {
            let op = Op::decode(bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert_eq!(op.encode(), *bytes, "{}", file.display());
            assert!(definition.metadata.contains_key(&op.digest()), "{}", file.display());
        }
    }
}

#[test]
fn definitions_hold_the_recorded_messages() {
    for file in recorded(".llb.pb") {
        let bytes = fs::read(&file).unwrap();
        let graph = Graph::from_definition(&bytes).unwrap();
        let recorded = Definition::decode(&bytes).unwrap();
        let again = graph.definition(&graph.roots()[0]);
        assert_eq!(again.ops, recorded.ops, "{}", file.display());
        assert_eq!(again.metadata, recorded.metadata, "{}", file.display());
        // Go writes map entries in random order; as many bytes in another order are the same message.
        let encoded = recorded.encode();
        assert_eq!(encoded.len(), bytes.len(), "{}", file.display());
        assert_eq!(Definition::decode(&encoded).unwrap(), recorded, "{}", file.display());
    }
}

#[test]
fn json_lines_are_those_recorded() {
    for file in recorded(".llb.pb") {
        let graph = Graph::from_definition(&fs::read(&file).unwrap()).unwrap();
        let expected = fs::read_to_string(file.with_extension("json")).unwrap();
        assert_eq!(String::from_utf8(graph.to_json_lines()).unwrap(), expected, "{}", file.display());
    }
}

#[test]
fn equal_vertices_of_two_platforms_are_one() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recorded/llb/04-cross"));
    let read = |name: &str| Graph::from_definition(&fs::read(root.join(name)).unwrap()).unwrap();
    let (amd64, arm64) = (read("linux-amd64.llb.pb"), read("linux-arm64.llb.pb"));
    let merged = Graph::merge([&amd64, &arm64]);
    assert_eq!(merged.len(), amd64.len() + arm64.len() - 1, "the base of the build platform is shared");
    assert_eq!(merged.roots().len(), 2);
    assert_eq!(merged.definition(&merged.roots()[1]).ops, arm64.definition(&arm64.roots()[0]).ops);
}

#[test]
fn a_definition_whose_op_lacks_its_input_is_refused() {
    let file = &recorded(".llb.pb")[0];
    let mut definition = Definition::decode(&fs::read(file).unwrap()).unwrap();
    definition.ops.remove(0);
    let error = Graph::from_definition(&definition.encode()).unwrap_err();
    assert!(error.to_string().contains("not before it"), "{error}");
}

#[test]
fn unknown_fields_are_refused() {
    let file = &recorded(".llb.pb")[0];
    let definition = Definition::decode(&fs::read(file).unwrap()).unwrap();
    let mut bytes = definition.ops[0].clone();
    bytes.extend_from_slice(&[0xf8, 0x07, 0x01]);
    let error = Op::decode(&bytes).unwrap_err();
    assert!(error.to_string().contains(&Digest::sha256(&bytes).to_string()), "{error}");
}

#[test]
fn an_empty_definition_is_an_empty_graph() {
    let graph = Graph::from_definition(&[]).unwrap();
    assert!(graph.is_empty());
    assert_eq!(graph.to_definition(), Vec::<u8>::new());
    assert!(Builder::default().finish(Vec::new(), Vec::new()).unwrap().roots().is_empty());
}
