//! The OCI distribution protocol: client and server over shared wire types.
//!
//! The client blocks; its runtime starts with the first request that needs one. The server is asynchronous behind a blocking
//! [`server::Server::run`]. Neither reads the environment, the home directory or the terminal: whatever comes from there is an argument.
#![forbid(unsafe_code)]

pub mod client;
pub mod content;
pub mod credential;
pub mod error;
pub mod server;
mod tls;
pub mod wire;

pub use client::{Client, ClientOptions, Pushed};
pub use content::{BlobSink, BlobSource, GrowingSource};
pub use credential::{Credential, CredentialProvider};
pub use error::{Error, Result};
