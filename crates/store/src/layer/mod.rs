//! Layers as tar archives: applying them to a folder and writing them from one.
//!
//! On disk a layer has overlayfs's form, the one that a mount with `userxattr` reads:
//!
//! ```text
//! character device 0/0            the name is removed from the layers below   (archive: `.wh.NAME`)
//! user.overlay.opaque=y           nothing of the folder below shows through    (archive: `.wh..wh..opq`)
//! ```
//!
//! Where no such device can be made, an empty file stands for it: `user.overlay.whiteout` on the file,
//! `user.overlay.opaque=x` on its folder.
//!
//! Extended attributes of overlayfs in an archive or in a step's result are dropped: they would let an image
//! reach outside its own tree.

mod apply;
mod block;
mod compress;
mod cut;
mod decompress;
mod error;
mod header;
mod limits;
mod ownership;
mod pax;
mod reader;
mod sparse;
mod target;
mod writer;
mod xattr;

pub use apply::{Applied, SkippedNode, UnresolvedLink, Whiteouts, apply};
pub(crate) use block::{BlockKey, KnownBlocks, at_least};
pub(crate) use compress::Block;
pub use compress::{Compressed, Compression, CompressionOptions, Compressor};
pub use decompress::{Decompressor, detect};
pub(crate) use error::InLayer;
pub use error::LayerError;
pub use header::{EntryKind, Header};
pub use limits::Limits;
pub use ownership::Ownership;
pub use reader::TarReader;
pub use target::validate_path;
pub use writer::{EntryHeader, TarWriter};
pub use xattr::read_all as read_xattrs;

pub(crate) use xattr::{
    OPAQUE, get as get_xattr, is_opaque, read_all_by_path as read_xattrs_by_path, set_all as set_xattrs,
};

/// The prefix of a whiteout's name in an archive.
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name that makes its folder opaque in an archive.
pub(crate) const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
/// The prefix of names that belong to AUFS itself and mean nothing in an image.
pub(crate) const AUFS_PREFIX: &[u8] = b".wh..wh.";
