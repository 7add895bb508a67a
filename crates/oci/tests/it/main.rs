//! The recorded answers of Go's libraries, and documents as registries send them.

mod documents;
mod vectors;
#[path = "../../../../tests/support/vectors.rs"]
mod vectors_folder;
