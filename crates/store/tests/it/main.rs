//! The store from outside, on real folders.

mod archive;
mod blobs;
mod layers;
mod references;
