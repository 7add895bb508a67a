//! The sandbox, tried for real: as whoever runs the tests, and again as an ordinary user with subordinate ids and as one with a single id.

mod again;
mod attacks;
mod ending;
mod foreign;
mod host;
mod limits;
mod networks;
mod running;
mod support;
