//! The Dockerfile front end: lexer, parser, linter and lowering to the build graph.
#![forbid(unsafe_code)]
