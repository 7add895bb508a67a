//! The integration tests of the crate.
#![allow(missing_docs)]

mod corpus;
mod errors;
mod fuzzed;
mod lowering;
mod recorded;
mod rules;
mod vectors;
