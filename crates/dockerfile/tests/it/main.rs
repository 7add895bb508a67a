//! The integration tests of the crate.
#![allow(missing_docs)]

mod recorded;
mod vectors;
