//! Writing the result of a step as a layer, in one pass: archive, diff ID, compression, digest, blob.

mod diff;
mod known;
mod rewrite;

use std::io::{Read, Write};
use std::sync::Arc;

use onetag_oci::{Algorithm, Descriptor, DiffId, Digest};
use serde::{Deserialize, Serialize};

use crate::blobs::{BlobWriter, GrowingBlob};
use crate::database::RecordStorage;
use crate::deferred::StepBlob;
use crate::error::{At, Error, Result};
use crate::layer::{Compressed, Compression, CompressionOptions, Compressor, LayerError, TarWriter};
use crate::leases::Resource;
use crate::pipeline::{self, Formats};
use crate::stack::Stack;
use crate::steps::LayerId;
use crate::store::Store;
use crate::tree::MergedTree;
use diff::Upper;
use known::LayersBefore;

/// The namespace of finished exports in the database.
const MEMO: &str = "export";
/// Raised whenever the same tree would give other bytes.
const FORMAT: u32 = 2;
/// Bytes of a stream that are handed on at a time.
const BUFFER: usize = 256 << 10;

/// How a layer is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerOptions {
    /// Format and level.
    pub compression: CompressionOptions,
    /// Later modification times are set back to this one (seconds since 1970), as `rewrite-timestamp` asks.
    pub latest_mtime: Option<i64>,
}

/// A layer that was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportedLayer {
    /// The digest of the uncompressed archive.
    pub diff_id: DiffId,
    /// The blob, with the OCI media type of its compression.
    pub descriptor: Descriptor,
    /// Bytes of the uncompressed archive.
    pub uncompressed_size: u64,
    /// Entries of the archive; none where the step changed nothing.
    pub entries: u64,
}

impl Store {
    /// Writes a step's result as a layer blob. `below` is the stack that the step ran on: folders that it has alike
    /// and removals of what it lacks are left out. The same tree gives the same bytes on every machine; a layer
    /// written before is not written again as long as its blob is there.
    ///
    /// MUST NOT be called from a rayon task: compression runs on rayon's threads and is waited for here.
    ///
    /// # Errors
    /// [`Error::NotAStep`] for a layer of an image, which has a blob of its own.
    pub fn export_layer(&self, layer: &LayerId, below: &Stack, options: &LayerOptions) -> Result<ExportedLayer> {
        self.export_layer_while(layer, below, options, |_| {})
    }

    /// As [`Store::export_layer`]; `started` gets the blob as it begins to grow, for an upload at the same time. It
    /// is not called where the layer was written before.
    pub fn export_layer_while(
        &self,
        layer: &LayerId,
        below: &Stack,
        options: &LayerOptions,
        started: impl FnOnce(GrowingBlob),
    ) -> Result<ExportedLayer> {
        if let Some(known) = self.exported_layer(layer, &below.layers, options)? {
            return Ok(known);
        }
        let tree = MergedTree::open(&below.lowers, self.ownership())?;
        self.export_layer_over(layer, &below.layers, &tree, options, started)
    }

    /// A step's result as the layer that it was written as before, if that is still there. Nothing is read.
    pub fn exported_layer(
        &self,
        layer: &LayerId,
        below: &[LayerId],
        options: &LayerOptions,
    ) -> Result<Option<ExportedLayer>> {
        self.hold(&layer.resource())?;
        self.exported(&memo_key(layer, below, options))
    }

    /// As [`Store::export_layer_while`], on top of layers that are read as a tree ([`Store::view`]). A result that is
    /// held in memory is written from where its files are; from then on the blob keeps it.
    ///
    /// # Errors
    /// A file of the host is not what it was when the step was made.
    pub fn export_layer_over(
        &self,
        layer: &LayerId,
        below: &[LayerId],
        tree: &MergedTree,
        options: &LayerOptions,
        started: impl FnOnce(GrowingBlob),
    ) -> Result<ExportedLayer> {
        let LayerId::Step(step) = layer else {
            return Err(Error::NotAStep { layer: layer.to_string() });
        };
        self.hold(&layer.resource())?;
        let frozen = self.deferred().get(step).cloned();
        let root = frozen.as_ref().map(|frozen| frozen.metadata);
        let upper = match frozen {
            Some(frozen) => Upper::Frozen(frozen),
            None => {
                self.ensure_step_tree(step)?;
                Upper::Folder(Arc::new(crate::steps::open_tree(&self.layer_tree(layer)?)?))
            }
        };
        let mut archive = ArchiveWriter::new(self, options.compression)?;
        started(archive.growing.clone());
        let statistics =
            diff::write(&mut archive, upper, tree, self.ownership(), options.latest_mtime).map_err(|source| {
                match source {
                    LayerError::Changed { path } => Error::Changed { path },
                    source => Error::Export { path: self.step_path(step), source },
                }
            })?;
        let mut exported = archive.finish(self)?;
        exported.entries = statistics.entries;
        if let (Some(root), None) = (root, options.latest_mtime) {
            let blob = StepBlob::new(exported.diff_id.clone(), exported.descriptor.clone(), &root);
            self.put_step_blob(step, &blob)?;
        }
        self.remember(&memo_key(layer, below, options), &exported)?;
        Ok(exported)
    }

    /// A layer's blob in another compression.
    pub fn recompress(&self, blob: &Digest, options: &CompressionOptions) -> Result<ExportedLayer> {
        let key = format!("recompress {FORMAT}\n{blob}\n{options:?}");
        if let Some(known) = self.exported(&key)? {
            return Ok(known);
        }
        let limits = self.limits();
        let mut archive = ArchiveWriter::new(self, *options)?;
        let copied =
            pipeline::decompress(self.open_blob(blob)?, Algorithm::Sha256, Formats::Layer, limits.ratio, |stream| {
                copy_stream(stream, &mut archive)
            });
        copied.map_err(|source| Error::Unpack { blob: blob.clone(), source })?;
        let exported = archive.finish(self)?;
        self.remember(&key, &exported)?;
        Ok(exported)
    }

    /// Makes one layer of a root file system's archive, whatever it is compressed with. The archive's bytes are
    /// kept, so that its diff ID is that of the file; it must be a valid layer.
    pub fn import_rootfs<R: Read + Send>(&self, archive: R, options: &CompressionOptions) -> Result<ExportedLayer> {
        let limits = self.limits();
        let mut writer = ArchiveWriter::new(self, *options)?;
        let mut entries = 0;
        let imported = pipeline::decompress(archive, Algorithm::Sha256, Formats::Archive, limits.ratio, |stream| {
            let mut tee = Tee { stream, writer: &mut writer };
            let mut reader = crate::layer::TarReader::new(&mut tee, limits.clone());
            while let Some(header) = reader.next_entry()? {
                crate::layer::validate_path(&header.path, limits)?;
                entries += 1;
            }
            reader.finish().map(drop)
        });
        imported.map_err(|source| Error::Import { source })?;
        let mut exported = writer.finish(self)?;
        exported.entries = entries;
        Ok(exported)
    }

    fn exported(&self, key: &str) -> Result<Option<ExportedLayer>> {
        let Some(value) = self.database().get(MEMO, key.as_bytes())? else { return Ok(None) };
        let Ok(known) = serde_json::from_slice::<ExportedLayer>(&value) else { return Ok(None) };
        self.hold(&Resource::Blob(known.descriptor.digest.clone()))?;
        let present = self.blob_size(&known.descriptor.digest) == Some(known.descriptor.size);
        Ok(present.then_some(known))
    }

    fn remember(&self, key: &str, exported: &ExportedLayer) -> Result<()> {
        let value = onetag_oci::go_json(exported);
        let resource = Resource::Blob(exported.descriptor.digest.clone());
        self.database().put(MEMO, key.as_bytes(), &value, &[resource])
    }
}

fn memo_key(layer: &LayerId, below: &[LayerId], options: &LayerOptions) -> String {
    let below: Vec<String> = below.iter().map(ToString::to_string).collect();
    let below = Digest::sha256(below.join("\n").as_bytes());
    let CompressionOptions { compression, .. } = options.compression;
    let level = options.compression.effective_level();
    format!("layer {FORMAT}\n{layer}\n{below}\n{compression:?} {level} {:?}", options.latest_mtime)
}

fn copy_stream(stream: &mut dyn Read, archive: &mut ArchiveWriter) -> Result<(), LayerError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = stream.read(&mut buffer).map_err(LayerError::Read)?;
        if length == 0 {
            return Ok(());
        }
        archive.write_all(&buffer[..length]).map_err(LayerError::Write)?;
    }
}

/// An archive on its way into a blob.
struct ArchiveWriter {
    compressor: Compressor<BlobWriter>,
    growing: GrowingBlob,
    options: CompressionOptions,
}

impl ArchiveWriter {
    fn new(store: &Store, options: CompressionOptions) -> Result<ArchiveWriter> {
        let blob = store.blob_writer()?;
        let growing = blob.growing();
        let mut compressor = Compressor::new(blob, options);
        if options.compression != Compression::None {
            compressor = compressor.with_known(Arc::new(LayersBefore::new(store, options)));
        }
        Ok(ArchiveWriter { compressor, growing, options })
    }

    fn finish(self, store: &Store) -> Result<ExportedLayer> {
        let Compressed { output, digest: diff_id, size, blocks } =
            self.compressor.finish().at("write blob in", store.root())?;
        let (digest, compressed_size) = output.finish(None, None)?;
        known::remember(store, &self.options, &digest, &blocks)?;
        let descriptor = Descriptor::new(self.options.media_type(), digest, compressed_size);
        Ok(ExportedLayer { diff_id: DiffId(diff_id), descriptor, uncompressed_size: size, entries: 0 })
    }
}

impl Write for ArchiveWriter {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.compressor.write(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes an archive's bytes on while they are read.
struct Tee<'a> {
    stream: &'a mut dyn Read,
    writer: &'a mut ArchiveWriter,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.writer.write_all(&buffer[..length])?;
        Ok(length)
    }
}

/// The writer that the differ uses.
type Output<'a> = TarWriter<&'a mut ArchiveWriter>;
