//! The integration tests of the crate.
#![allow(missing_docs)]

mod corpus;
mod errors;
mod lowering;
mod recorded;
mod vectors;
