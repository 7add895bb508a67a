//! Fixture images, a misbehaving registry and a harness for the command line; for tests only.
//!
//! What a machine cannot run is skipped by name and cause with [`require!`]; with `ONETAG_REQUIRE=all` a skip is a
//! failure. Everything that is made lies in temporary folders and disappears with its value.
#![forbid(unsafe_code)]

pub mod fault;
pub mod fixture;
pub mod folder;
mod harness;
pub mod host;
mod process;
pub mod registry;
mod requirement;
pub mod screen;
mod serve;
mod terminal;
pub mod user;

pub use harness::{Onetag, Staged};
pub use process::{Finished, Running};
pub use requirement::{is_required, skip};
pub use serve::Served;
pub use terminal::Terminal;
