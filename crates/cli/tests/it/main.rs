//! The real binary, end to end, and what holds of the workspace as a whole.

mod arrows;
mod attestations;
mod bad_input;
mod caches;
mod checks;
mod clients;
mod contexts;
mod copies;
mod corpus;
mod crafted;
mod cross;
mod debian;
mod dockerfiles;
mod emulators;
mod faults;
mod hostile_indexes;
mod index_edits;
mod index_truth;
mod lesson;
mod llb;
mod login;
mod manifest_lists;
mod merges;
mod other_tools;
mod pin;
mod preflight;
mod release;
mod secured;
mod serve;
mod source_rules;
mod support;
#[path = "../../../../tests/support/vectors.rs"]
mod vectors_folder;
mod walkthrough;
mod web;
