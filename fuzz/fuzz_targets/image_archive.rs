//! Image archives, OCI's and Docker's: any file gives an image or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_engine::content::{Contents, Location};
use onetag_engine::{Engine, EngineOptions};

fuzz_target!(|bytes: &[u8]| {
    let folder = std::env::temp_dir().join(format!("onetag-fuzz-archive.{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let file = folder.join("image.tar");
    std::fs::write(&file, bytes).expect("a temporary file");
    for kind in ["oci-archive", "docker-archive"] {
        // an engine keeps an archive open, so that each file needs its own
        let engine = Engine::open(EngineOptions { root: folder.join("root"), ..EngineOptions::default() });
        let location = Location::parse(&format!("{kind}:{}", file.display())).expect("a place");
        let _ = Contents::new(&engine).find(&location);
    }
});
