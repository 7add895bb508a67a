//! Tests of the crate from outside.

mod recorded;
mod roundtrip;
