//! Manifests and indexes as registries serve them, and references as users type them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_oci::{ManifestDocument, Reference};

fuzz_target!(|data: &[u8]| {
    if let Ok(document) = ManifestDocument::parse(data.to_vec(), None) {
        assert_eq!(document.bytes(), data);
        let _ = document.descriptor();
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = Reference::parse(text) {
        let again = Reference::parse(&reference.to_string());
        assert_eq!(again.ok(), Some(reference));
    }
});
