//! Builds over real stores and an embedded registry.

mod caching;
mod editing;
mod exchanging;
mod failing;
mod publishing;
mod pulling;
mod reproducing;
mod running;
mod setup;
