//! Records of builds: what reads back is what was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_engine::index::BuildRecord;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = BuildRecord::parse(bytes) {
        let again = BuildRecord::parse(&record.to_json()).expect("what was written reads back");
        assert_eq!(again, record);
    }
});
