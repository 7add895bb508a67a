//! The onetag command.
#![forbid(unsafe_code)]
fn main() {}
