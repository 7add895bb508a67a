//! Ignore files and the paths they are asked about.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_dockerfile::ignore::{Patterns, read};
use onetag_fuzz::bounded;

fuzz_target!(|input: (&[u8], &str)| bounded(input.0.len() + input.1.len(), || ask(input.0, input.1)));

fn ask(file: &[u8], path: &str) {
    let Ok(patterns) = Patterns::new(read(file)) else { return };
    let _ = patterns.matches(path);
    let mut parent = None;
    for (end, _) in path.match_indices('/').take(20) {
        parent = patterns.matches_below(&path[..end], parent.as_ref()).ok().map(|(_, matches)| matches);
    }
    let _ = patterns.matches_below(path, parent.as_ref());
}
