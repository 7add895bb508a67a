//! Every syntax of a flag's value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_dockerfile::chmod::Mode;
use onetag_dockerfile::flags::csv;
use onetag_dockerfile::git::GitReference;
use onetag_dockerfile::instruction::Mount;
use onetag_dockerfile::lint::LintConfig;
use onetag_dockerfile::{ports, values};
use onetag_oci::Platform;
use onetag_fuzz::bounded;

#[allow(dead_code, unused_imports)]
#[path = "../../crates/engine/src/flags/mod.rs"]
mod flags;

fuzz_target!(|text: &str| bounded(text.len(), || read(text)));

fn read(text: &str) {
    let values = [text];
    let host = Platform::linux("amd64");
    let _ = csv::split(text);
    let _ = Mount::parse::<()>(text, &mut |word| Ok(word.to_owned()));
    let _ = Mount::parse_from(text);
    let _ = GitReference::parse(text);
    let _ = LintConfig::parse(text);
    let _ = ports::parse(text);
    let _ = values::parse_size(text);
    let _ = values::parse_duration(text);
    let clean = values::clean_path(text);
    assert_eq!(values::clean_path(&clean), clean);
    if let Ok(mode) = Mode::parse(text) {
        assert!(mode.apply(0o644, false) <= 0o7777);
    }
    for output in flags::parse_outputs(&values).unwrap_or_default() {
        let _ = output.to_string();
    }
    for entry in flags::parse_cache(&values).unwrap_or_default() {
        let _ = entry.to_string();
    }
    let _ = flags::parse_secrets(&values);
    let _ = flags::parse_ssh(&values);
    let _ = flags::parse_contexts(&values);
    let _ = flags::parse_platforms(&values, &host);
    let _ = flags::attestation_map(&flags::parse_attestations(&values).unwrap_or_default());
    let _ = flags::parse_annotations(&values, &host);
    let _ = flags::parse_ulimit(text);
    let _ = flags::parse_call(text);
    let _ = flags::parse_allow(&values);
}
