//! The Dockerfile front end: lexer, parser, linter and lowering to the build graph.
//!
//! Nothing here touches files, the network or the environment; what has to be known of images and
//! of the build context comes in as arguments.
#![forbid(unsafe_code)]

pub mod call;
pub mod chmod;
pub mod diagnostic;
pub mod export;
mod file;
pub mod flags;
pub mod git;
pub mod ignore;
pub mod images;
pub mod instruction;
pub mod lint;
pub mod lower;
pub mod parser;
pub mod ports;
pub mod redact;
pub mod resolver;
pub mod shell;
mod signal;
pub mod span;
pub mod suggest;
pub mod values;

pub use file::{Dockerfile, MAX_ERRORS, parse, parse_trigger};
pub use lower::{
    DockerfileError, DockerfileErrorKind, LowerOptions, Lowered, MainContext, NoCache, lower, lower_context,
    lower_download, lower_source, mistakes,
};
pub use resolver::{NamedContext, ResolveError, ResolveOptions, ResolvedImage, Resolver};
