//! The Dockerfile front end: lexer, parser, linter and lowering to the build graph.
#![forbid(unsafe_code)]

pub mod flags;
pub mod instruction;
pub mod shell;
pub mod span;
pub mod suggest;
pub mod values;
