//! Typed instructions, errors with their excerpts, and triggers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_dockerfile::instruction::Command;
use onetag_dockerfile::{MAX_ERRORS, parse, parse_trigger};
use onetag_fuzz::bounded;

fuzz_target!(|text: &[u8]| bounded(text.len(), || read(text)));

fn read(text: &[u8]) {
    let (file, errors) = parse(text);
    assert!(errors.len() <= MAX_ERRORS);
    for error in errors.iter().take(5) {
        let _ = error.excerpt("Dockerfile", &file.source);
        let _ = error.underline(&file.source);
    }
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        if let Command::Onbuild(trigger) = &instruction.command {
            let _ = parse_trigger(trigger, instruction.lines);
        }
    }
}
