//! The product without a terminal: build, pull, push, run and index operations as library calls.
#![forbid(unsafe_code)]
