//! Client and server against each other, against misbehaving registries and against other programs.

mod round_trip;
mod support;
