//! The integration tests of the crate.
#![allow(missing_docs)]

mod corpus;
mod recorded;
mod vectors;
