//! Builds over real stores and an embedded registry.

mod caching;
mod failing;
mod publishing;
mod reproducing;
mod running;
mod setup;
