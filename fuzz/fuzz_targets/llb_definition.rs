//! Build graphs from outside.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_llb::Graph;
use onetag_fuzz::bounded;

fuzz_target!(|bytes: &[u8]| bounded(bytes.len(), || read(bytes)));

fn read(bytes: &[u8]) {
    if let Ok(graph) = Graph::from_definition(bytes) {
        let _ = graph.to_definition();
    }
}
