//! Layers as registries hold them, read as `onetag check` does: reading ends, and what was read can be asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_engine::check::LayerContents;
use onetag_oci::Algorithm;

fuzz_target!(|data: &[u8]| {
    if let Ok(layer) = LayerContents::read(data, Algorithm::Sha256) {
        for (path, program) in layer.elf_files() {
            assert!(!path.is_empty());
            let _ = program.header.machine_name();
        }
    }
});
