//! Lock files: what is read is written, and read alike.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../crates/engine/src/pin/lock.rs"]
mod lock;

fuzz_target!(|content: &[u8]| {
    if let Ok(read) = lock::Lock::parse(content) {
        let written = read.to_bytes();
        assert_eq!(lock::Lock::parse(&written).unwrap(), read);
    }
});
