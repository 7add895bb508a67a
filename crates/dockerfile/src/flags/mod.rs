//! Syntaxes inside flag values that the Dockerfile shares with the command line.

pub mod csv;
