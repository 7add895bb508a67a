//! Ignore files and the paths they are asked about.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_dockerfile::ignore::{Patterns, read};

fuzz_target!(|input: (&[u8], &str)| {
    let (file, path) = input;
    let Ok(patterns) = Patterns::new(read(file)) else { return };
    let _ = patterns.matches(path);
    let mut parent = None;
    for (end, _) in path.match_indices('/').take(20) {
        parent = patterns.matches_below(&path[..end], parent.as_ref()).ok().map(|(_, matches)| matches);
    }
    let _ = patterns.matches_below(path, parent.as_ref());
});
