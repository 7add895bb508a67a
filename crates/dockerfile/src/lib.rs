//! The Dockerfile front end: lexer, parser, linter and lowering to the build graph.
//!
//! Nothing here touches files, the network or the environment; what has to be known of images and
//! of the build context comes in as arguments.
#![forbid(unsafe_code)]

pub mod diagnostic;
mod file;
pub mod flags;
pub mod instruction;
pub mod lint;
pub mod parser;
pub mod shell;
pub mod span;
pub mod suggest;
pub mod values;

pub use file::{Dockerfile, MAX_ERRORS, parse, parse_trigger};
