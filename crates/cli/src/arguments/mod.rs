//! What all commands' arguments have in common: Docker's flags that are not ours, Go's way of writing booleans,
//! Docker's commands that are refused by name.

mod booleans;
mod foreign;
mod host;
mod refused;

pub use booleans::{go_bool, with_go_booleans};
pub use foreign::{Flag, FlagTable, Foreign, Treatment};
pub use host::{parse_host, parse_size};
pub use refused::{refusal, with_refused_commands};
