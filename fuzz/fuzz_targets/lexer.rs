//! Raw instructions: every span lies inside the file, and reading ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_dockerfile::parser::{Parser, detect_syntax, find_directive};
use onetag_fuzz::bounded;

fuzz_target!(|text: &str| bounded(text.len(), || read(text)));

fn read(text: &str) {
    let lines = text.split('\n').count() as u32 + 1;
    for node in Parser::new(text).flatten() {
        assert!(node.lines.start >= 1 && node.lines.end <= lines);
        for word in node.flags.iter().chain(&node.args).chain([&node.keyword]) {
            let span = node.word_span(word);
            assert!(span.start <= span.end && span.end.line <= lines);
        }
    }
    let _ = detect_syntax(text);
    let _ = find_directive(text, "check");
}
