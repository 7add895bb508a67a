//! What registries and their clients say in headers, paths, queries and bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_registry::wire::{challenge, errors, link, name, query, range};

fuzz_target!(|data: &[u8]| {
    let _ = errors::parse(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    for challenge in challenge::parse(text) {
        let _ = challenge.parameter("realm");
    }
    let _ = link::next(text);
    let _ = query::parse(text);
    assert_eq!(query::decode(&query::encode(text)).as_deref(), Some(text));
    let size = data.len() as u64;
    if let range::Requested::Part { first, last } = range::parse_request(text, size) {
        assert!(first <= last && last < size);
    }
    let _ = (range::parse_chunk(text), range::parse_received(text), range::parse_content(text));
    if let Ok(name) = name::RepositoryName::parse(text) {
        assert!(name.as_str().split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '_'])));
    }
    let _ = name::Tag::parse(text);
});
