//! The store from outside, on real folders.

mod archive;
mod archives;
mod blobs;
mod checksums;
mod collection;
mod copies;
mod crashes;
mod damage;
mod deferred;
mod known_blocks;
mod layers;
mod mounted;
mod namespaces;
mod processes;
mod references;
mod snapshots;
