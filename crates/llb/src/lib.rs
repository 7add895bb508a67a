//! The build graph: typed vertices and operations, encoded to BuildKit's exact bytes.
#![forbid(unsafe_code)]
