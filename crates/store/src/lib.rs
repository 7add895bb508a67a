//! The local store: blobs, references, unpacked layers, leases and collection.
//!
//! [`Store`] draws the layout on disk. What is there:
//!
//! - content by digest ([`BlobWriter`], [`GrowingBlob`]) and names of images, an OCI image layout;
//! - layers unpacked each on its own ([`LayerDirectory`]), results of build steps ([`Upper`]) and stacks of both
//!   ([`Stack`]), which can be mounted with overlayfs or read without a mount ([`tree::MergedTree`]);
//! - layers written as archives in one pass ([`ExportedLayer`]);
//! - results of steps that only copy, held in memory until somebody needs their files ([`copy::DeferredCopy`]);
//! - copying between trees and changing a stack without a mount ([`copy`]), digests of parts of trees ([`checksum`]);
//! - records that can be made again ([`RecordStorage`]).
//!
//! The store reads no environment and prints nothing. Blobs and references survive a crash of the machine once
//! the call that made them has returned; trees are believed only in the boot that wrote them until they are synced.
#![forbid(unsafe_code)]

mod batch;
mod blobs;
mod check;
mod claims;
mod collect;
mod database;
mod deferred;
mod error;
mod export;
mod files;
mod layers;
mod leases;
mod materialize;
mod path_serde;
mod pipeline;
mod record;
mod references;
mod scratch;
mod snapshot;
mod stack;
mod state;
mod steps;
mod store;
mod sweeper;
mod whiteout;

pub mod checksum;
pub mod copy;
pub mod layer;
pub mod tree;

pub use batch::Batch;
pub use blobs::{BlobWriter, GrowingBlob, GrowingReader};
pub use check::{CheckReport, Damage, Fetch, Finding};
pub use claims::WorkClaim;
pub use collect::{PruneOptions, PruneReport, Usage, UsageKind};
pub use database::{Database, Record, RecordStorage};
pub use error::{Error, Result};
pub use export::{ExportedLayer, LayerOptions};
pub use layers::LayerDirectory;
pub use leases::{Lease, Resource};
pub use references::{IMAGE_NAME, REF_NAME};
pub use scratch::Scratch;
pub use snapshot::CopySnapshot;
pub use stack::{MAX_LOWERS, Stack};
pub use state::StoreState;
pub use steps::{LayerId, StepId, Upper};
pub use store::Store;
