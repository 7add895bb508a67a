//! Scheduling of the build graph: merging of equal vertices, cache keys, cancellation and progress events.
//!
//! A [`Graph`] holds the vertices of all platforms at once. [`Solver::solve`] brings the wanted outputs into being with
//! as little work as the cache allows:
//!
//! 1. Vertices of equal digest are one vertex; the graph is built that way.
//! 2. Every vertex gets a *cache key* from its definition and from what its inputs are: their identity, or, for inputs
//!    of which an operation only reads content (the source of a copy), the digest of that content. A *fast* key made of
//!    identities alone leads to the cache key without the content where an earlier solve has seen the pair.
//! 3. A vertex whose cache key equals that of another one of the same solve shares it, whatever their digests.
//! 4. What is found in the cache is not executed, and neither is anything that only it would have needed. What another
//!    solve over the same cache is making is waited for and then found.
//! 5. The rest runs in parallel on blocking threads, limited by [`Class`]; the first failure cancels what runs, unless
//!    the solve keeps going.
//!
//! [`Solver::plan`] tells what a solve would do, as far as that can be known without executing anything.
//!
//! This crate knows no file, container or network: operations come from a [`Worker`], memory from a [`CacheStorage`].
//!
//! # Identity
//!
//! The identity of a result is the cache key under which it was first made. A vertex that is executed although the
//! cache has a record (its [`Vertex::ignore_cache`] is set) gets a new identity, kept in the record: what depends on it
//! is then looked up by the new one, so an old result that was made from other input is never taken for it.

#![forbid(unsafe_code)]

mod cache;
mod cancel;
mod error;
mod event;
mod graph;
mod op;
mod scheduler;

pub use cache::{CacheRecord, CacheStorage, Claim, MemoryCache};
pub use cancel::{CancelGuard, Cancellation};
pub use error::{GraphError, OpError, SolveError};
pub use event::{Event, LogStream, Status, VertexInfo};
pub use graph::{Graph, Vertex};
pub use onetag_llb::Edge;
pub use op::{Class, ExecContext, Kind, Op, Worker};
pub use scheduler::{Expectation, Plan, PlannedVertex, SolveOutcome, SolveRecord, Solver, SolverOptions};
