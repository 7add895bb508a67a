//! The integration tests of the crate.
#![allow(missing_docs)]

mod corpus;
mod lowering;
mod recorded;
mod vectors;
