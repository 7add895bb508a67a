//! Client and server against each other, against misbehaving registries and against other programs.

mod authorization;
mod compatibility;
mod documented;
mod durability;
mod edges;
mod faults;
mod parts;
mod programs;
mod round_trip;
mod scripted;
mod specification;
mod support;
mod tls;
