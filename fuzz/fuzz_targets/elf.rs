//! Programs as images hold them: whatever the bytes, and however they are cut, reading them ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_oci::elf::{Program, Window, loader};

fuzz_target!(|data: &[u8]| {
    let whole = Program::parse(&Window::whole(data));
    let split = data.first().map_or(0, |first| usize::from(*first) * 16).min(data.len());
    let ends = Program::parse(&Window::ends(&data[..split], &data[split..], split as u64));
    if let (Some(whole), Some(ends)) = (&whole, &ends) {
        assert_eq!(whole.header.architecture(), ends.header.architecture());
        let _ = whole.header.machine_name();
    }
    let _ = loader(data);
});
