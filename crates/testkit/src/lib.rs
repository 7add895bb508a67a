//! Fixture images, a misbehaving registry and a harness for the command line; for tests only.
#![forbid(unsafe_code)]
