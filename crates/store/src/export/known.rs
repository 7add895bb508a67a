//! Which blocks the layers that were written before are made of.
//!
//! A layer whose content is a little different from an earlier one's shares most of its blocks with it
//! ([`crate::layer`] cuts archives so); they are copied from the blob in place of being compressed again. One record a
//! layer:
//! ```text
//! key:    "FORMAT COMPRESSION LEVEL DIGEST"
//! value:  per block: CRC-32 of the content u32, bytes of content u32, bytes in the blob u32, all little-endian
//! ```
//! Nothing here is believed: whoever gets a block looks whether it expands to what it is to be.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use onetag_oci::Digest;

use super::FORMAT;
use crate::database::RecordStorage;
use crate::error::Result;
use crate::layer::{Block, BlockKey, CompressionOptions, KnownBlocks, at_least};
use crate::leases::Resource;
use crate::store::Store;

const NAMESPACE: &str = "layer-blocks";
const ENTRY_BYTES: usize = 12;
/// Layers of fewer blocks are made again as fast as they are looked up.
const LEAST_BLOCKS: usize = 4;
/// So many blocks are looked at, those of the layers used last: a terabyte's.
const MOST_BLOCKS: usize = 1 << 20;

/// More than any block has.
const MOST_COMPRESSED_BYTES: u32 = 16 << 20;

/// The blocks of earlier layers of the same compression.
pub(super) struct LayersBefore {
    store: Store,
    prefix: String,
    table: OnceLock<Table>,
}

#[derive(Default)]
struct Table {
    layers: Vec<Layer>,
    places: HashMap<BlockKey, Place>,
}

/// An earlier layer.
struct Layer {
    digest: Digest,
    /// The blob once it was needed; none where it cannot be opened.
    file: Mutex<Option<Option<Arc<File>>>>,
}

/// Where a block is.
struct Place {
    layer: usize,
    position: u64,
    length: u32,
}

impl LayersBefore {
    /// Reads nothing before the first block is looked for.
    pub fn new(store: &Store, options: CompressionOptions) -> LayersBefore {
        LayersBefore { store: store.clone(), prefix: prefix(&options), table: OnceLock::new() }
    }

    /// What the records say; a layer whose record or blob is not as it should be is passed over.
    fn load(&self) -> Table {
        let mut records = self.store.database().list(NAMESPACE).unwrap_or_default();
        records.sort_by_key(|record| std::cmp::Reverse(record.used));
        let mut table = Table::default();
        for record in records {
            let Some(digest) = record.key.strip_prefix(self.prefix.as_bytes()) else { continue };
            let Some(digest) = std::str::from_utf8(digest).ok().and_then(|text| text.parse::<Digest>().ok()) else {
                continue;
            };
            if table.places.len() + record.value.len() / ENTRY_BYTES > MOST_BLOCKS {
                break;
            }
            let size: u64 = blocks(&record.value).map(|block| u64::from(block.compressed)).sum();
            let is_small = blocks(&record.value).all(|block| block.compressed <= MOST_COMPRESSED_BYTES);
            if is_small && self.store.blob_size(&digest) == Some(size) {
                table.add(digest, &record.value);
            }
        }
        table
    }
}

impl Table {
    fn add(&mut self, digest: Digest, value: &[u8]) {
        let layer = self.layers.len();
        self.layers.push(Layer { digest, file: Mutex::default() });
        let mut position = 0;
        for block in blocks(value) {
            let length = block.compressed;
            self.places.entry(block.key).or_insert(Place { layer, position, length });
            position += u64::from(length);
        }
    }
}

impl Layer {
    /// The blob, opened once.
    fn open(&self, store: &Store) -> Option<Arc<File>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.get_or_insert_with(|| store.open_blob(&self.digest).ok().map(Arc::new)).clone()
    }
}

impl KnownBlocks for LayersBefore {
    fn find(&self, key: BlockKey, output: &mut Vec<u8>) -> Option<usize> {
        let table = self.table.get_or_init(|| self.load());
        let place = table.places.get(&key)?;
        let layer = table.layers.get(place.layer)?;
        let file = layer.open(&self.store)?;
        let length = usize::try_from(place.length).ok()?;
        at_least(output, length);
        file.read_exact_at(&mut output[..length], place.position).ok()?;
        Some(length)
    }
}

/// Notes what a layer is made of, as long as its blob is there. The blob MUST be held.
pub(super) fn remember(store: &Store, options: &CompressionOptions, digest: &Digest, blocks: &[Block]) -> Result<()> {
    if blocks.len() < LEAST_BLOCKS {
        return Ok(());
    }
    let mut value = Vec::with_capacity(blocks.len() * ENTRY_BYTES);
    for block in blocks {
        for number in [block.key.crc, block.key.length, block.compressed] {
            value.extend(number.to_le_bytes());
        }
    }
    let key = format!("{}{digest}", prefix(options));
    store.database().put(NAMESPACE, key.as_bytes(), &value, &[Resource::Blob(digest.clone())])
}

fn prefix(options: &CompressionOptions) -> String {
    format!("{FORMAT} {:?} {} ", options.compression, options.effective_level())
}

fn blocks(value: &[u8]) -> impl Iterator<Item = Block> {
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    value.chunks_exact(ENTRY_BYTES).map(move |entry| Block {
        key: BlockKey { crc: number(entry), length: number(&entry[4..]) },
        compressed: number(&entry[8..]),
    })
}
