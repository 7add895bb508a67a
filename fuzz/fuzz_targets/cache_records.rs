//! Records of caches that others wrote.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_engine::cache::document::Table;

fuzz_target!(|data: &[u8]| {
    let Ok(table) = Table::parse(data) else { return };
    let again = Table::parse(&table.to_bytes());
    assert_eq!(again.ok().as_ref(), Some(&table));
    let mut merged = table.clone();
    merged.merge(&table);
    assert_eq!(merged, table);
    merged.trim(20_000);
    let _ = merged.blobs();
});
