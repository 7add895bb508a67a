//! A layer's archive written anew: in another compression, with bounded times.

use std::path::Path;

use onetag_oci::{Algorithm, Digest};

use super::{ArchiveWriter, ExportedLayer, FORMAT, LayerOptions};
use crate::error::{Error, Result};
use crate::layer::{self, EntryHeader, EntryKind, Header, LayerError, TarReader, TarWriter};
use crate::pipeline::{self, Formats};
use crate::store::Store;

/// Zero bytes written at a time for a hole.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Store {
    /// A layer's blob as [`Store::export_layer`] would have written it with these options. The blob MUST be one that
    /// it wrote without a bound on times; of others the bytes may differ from what they were beyond what is asked for.
    ///
    /// # Errors
    /// The blob is not there, or no layer.
    pub fn rewrite_layer(&self, blob: &Digest, options: &LayerOptions) -> Result<ExportedLayer> {
        let Some(latest) = options.latest_mtime else {
            return self.recompress(blob, &options.compression);
        };
        let compression = options.compression;
        let key = format!("rewrite {FORMAT}\n{blob}\n{compression:?} {} {latest}", compression.effective_level());
        if let Some(known) = self.exported(&key)? {
            return Ok(known);
        }
        let limits = self.limits();
        let mut archive = ArchiveWriter::new(self, compression)?;
        let mut entries = 0;
        let copied =
            pipeline::decompress(self.open_blob(blob)?, Algorithm::Sha256, Formats::Layer, limits.ratio, |stream| {
                let mut reader = TarReader::new(stream, limits.clone());
                let mut writer = TarWriter::new(&mut archive);
                while let Some(header) = reader.next_entry()? {
                    layer::validate_path(&header.path, limits)?;
                    writer.header(&bounded(&header, latest)).map_err(LayerError::Write)?;
                    copy_content(&mut reader, &mut writer, header.size)?;
                    entries += 1;
                }
                writer.finish().map_err(LayerError::Write)?;
                reader.finish().map(drop)
            });
        copied.map_err(|source| Error::Unpack { blob: blob.clone(), source })?;
        let mut exported = archive.finish(self)?;
        exported.entries = entries;
        self.remember(&key, &exported)?;
        Ok(exported)
    }
}

/// An entry no later than `latest`. Marks of removal have no time of their own and get that one.
fn bounded(header: &Header, latest: i64) -> EntryHeader<'_> {
    let name = header.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let is_mark = header.kind == EntryKind::File && name.starts_with(layer::WHITEOUT_PREFIX);
    EntryHeader {
        kind: header.kind,
        path: &header.path,
        link: &header.link,
        mode: header.mode,
        uid: header.uid,
        gid: header.gid,
        size: header.size,
        mtime: if is_mark { latest.max(0) } else { header.mtime.0.min(latest) },
        device: header.device,
        xattrs: &header.xattrs,
    }
}

fn copy_content<R: std::io::Read>(
    reader: &mut TarReader<R>,
    writer: &mut super::Output<'_>,
    size: u64,
) -> std::result::Result<(), LayerError> {
    let mut written = 0;
    while let Some((position, data)) = reader.next_data()? {
        let length = data.len() as u64;
        if position < written || position.saturating_add(length) > size {
            return Err(LayerError::Changed { path: Path::new("archive").to_owned() });
        }
        fill(writer, position - written)?;
        writer.data(data).map_err(LayerError::Write)?;
        written = position + length;
    }
    fill(writer, size - written)?;
    writer.pad(size).map_err(LayerError::Write)
}

fn fill(writer: &mut super::Output<'_>, mut length: u64) -> std::result::Result<(), LayerError> {
    while length > 0 {
        let part = usize::try_from(length).map_or(ZEROS.len(), |length| length.min(ZEROS.len()));
        writer.data(&ZEROS[..part]).map_err(LayerError::Write)?;
        length -= part as u64;
    }
    Ok(())
}
