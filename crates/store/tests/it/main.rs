//! The store from outside, on real folders.

mod archive;
mod blobs;
mod checksums;
mod collection;
mod copies;
mod damage;
mod layers;
mod mounted;
mod namespaces;
mod references;
mod snapshots;
