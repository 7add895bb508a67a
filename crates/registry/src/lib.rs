//! The OCI distribution protocol: client and server over shared wire types.
//!
//! The client blocks; its runtime starts with the first request that needs one. The server is asynchronous behind a blocking
//! [`server::Server::run`]. Neither reads the environment, the home directory or the terminal: whatever comes from there is an argument.
#![forbid(unsafe_code)]

pub mod server;
pub mod wire;
