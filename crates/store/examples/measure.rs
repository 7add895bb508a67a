//! Measures the ways that data takes through the store: `measure STORE LAYER.tar[.gz|.zst]` unpacks a layer, copies
//! it into a new one without a mount, writes that as gzip and zstd, and digests it.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use onetag_oci::{Compression, DiffId, Digest};
use onetag_store::checksum::{Selection, digest};
use onetag_store::copy::CopyRequest;
use onetag_store::layer::{CompressionOptions, Decompressor};
use onetag_store::tree::MergedTree;
use onetag_store::{LayerId, LayerOptions, Store};

type Failure = Box<dyn std::error::Error>;

fn timed<T>(what: &str, action: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let (start, before) = (Instant::now(), processor_seconds()?);
    let value = action()?;
    let (elapsed, busy) = (start.elapsed().as_secs_f64(), processor_seconds()? - before);
    writeln!(std::io::stdout(), "{what:<20} {elapsed:>8.3} s  {busy:>6.2} s of processor")?;
    Ok(value)
}

/// User and system time of this process so far.
fn processor_seconds() -> Result<f64, Failure> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(root), Some(layer)) = (arguments.next(), arguments.next()) else {
        return Err("usage: measure STORE LAYER".into());
    };
    let store = timed("open", || Ok(Store::open(Path::new(&root))?))?;
    let diff_id = timed("diff ID alone", || {
        let mut archive = Decompressor::new(std::fs::File::open(&layer)?, u64::MAX)?;
        let mut digester = onetag_oci::Digester::new(onetag_oci::Algorithm::Sha256);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match std::io::Read::read(&mut archive, &mut buffer)? {
                0 => return Ok(DiffId(digester.finish())),
                length => digester.update(&buffer[..length]),
            }
        }
    })?;
    let blob: Digest = timed("blob", || {
        let mut writer = store.blob_writer()?;
        std::io::copy(&mut std::fs::File::open(&layer)?, &mut writer)?;
        Ok(writer.finish(None, None)?.0)
    })?;
    timed("unpack", || Ok(store.ensure_layer(&diff_id, &blob, "")?))?;
    let stack = timed("stack", || Ok(store.stack(&[LayerId::Diff(diff_id)])?))?;
    let tree = MergedTree::open(&stack.lowers, store.ownership())?;
    timed("walk", || Ok(tree.walk(Path::new(""))?.count()))?;
    timed("digest", || Ok(digest(&tree, &Selection { path: "/".into(), ..Selection::default() })?))?;
    let empty = store.stack(&[])?;
    let step = timed("copy", || {
        let mut workspace = store.workspace(&empty)?;
        let request = CopyRequest {
            source: "/".into(),
            destination: "/".into(),
            copy_directory_contents: true,
            create_destination: true,
            ..CopyRequest::default()
        };
        workspace.copy(&tree, &request)?;
        Ok(workspace.commit()?)
    })?;
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let options = LayerOptions { compression: CompressionOptions { compression, level: None }, latest_mtime: None };
        let exported = timed(&format!("export {compression:?}"), || Ok(store.export_layer(&step, &empty, &options)?))?;
        writeln!(std::io::stdout(), "  {} -> {}", exported.uncompressed_size, exported.descriptor.size)?;
    }
    Ok(())
}
