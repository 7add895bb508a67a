//! Checks of a Dockerfile: BuildKit's rules, and rules of our own for multi-platform work.

mod rules;

pub use rules::{RULES, Rule};
