//! The scheduler over vertices that do nothing but count.

mod caching;
mod failing;
mod fakes;
mod merging;
mod planning;
mod random;
mod running;
mod sharing;
