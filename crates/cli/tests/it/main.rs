//! The real binary, end to end, and what holds of the workspace as a whole.

mod arrows;
mod source_rules;
