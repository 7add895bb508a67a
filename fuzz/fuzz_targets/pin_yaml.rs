//! Image fields of YAML, and what becomes of the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unused_imports)]
#[path = "."]
mod pin {
    #[path = "../../crates/engine/src/pin/occurrence.rs"]
    pub mod occurrence;
    #[path = "../../crates/engine/src/pin/yaml/mod.rs"]
    mod yaml;

    pub fn occurrences(content: &[u8]) -> Vec<occurrence::Occurrence> {
        yaml::occurrences(content).unwrap_or_default()
    }
}

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fuzz_target!(|content: &[u8]| {
    for found in pin::occurrences(content) {
        let (Ok(reference), Ok(site)) = (found.reference, found.site) else { continue };
        let mut pinned = content.to_vec();
        pinned.splice(site.clone(), DIGEST.bytes());
        let expected = reference.with_digest(DIGEST[1..].parse().unwrap());
        // One place may be several images; each of them is there still.
        let again = pin::occurrences(&pinned);
        let same = again.iter().find(|again| again.site.as_ref().is_ok_and(|again| again.start == site.start));
        assert_eq!(same.and_then(|same| same.reference.clone().ok()), Some(expected));
    }
});
