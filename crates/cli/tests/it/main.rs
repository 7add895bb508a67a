//! The real binary, end to end, and what holds of the workspace as a whole.

mod arrows;
mod attestations;
mod bad_input;
mod caches;
mod checks;
mod clients;
mod copies;
mod corpus;
mod cross;
mod debian;
mod emulators;
mod faults;
mod index_edits;
mod lesson;
mod login;
mod manifest_lists;
mod merges;
mod pin;
mod release;
mod secured;
mod serve;
mod source_rules;
mod support;
mod walkthrough;
