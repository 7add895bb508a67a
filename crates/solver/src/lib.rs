//! Scheduling of the build graph: merging, cache keys, cancellation and progress events.
#![forbid(unsafe_code)]
