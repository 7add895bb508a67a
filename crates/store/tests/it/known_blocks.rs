//! Layers that are a little different from earlier ones.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use onetag_store::layer::{Compression, CompressionOptions, Decompressor};
use onetag_store::{ExportedLayer, LayerOptions, RecordStorage, Store};

/// Of each file the number of its content and its size.
type Files = Vec<(u8, usize)>;

fn files() -> Files {
    (0..400).map(|number| ((number % 251) as u8, 30_000 + number * 7919 % 9_000)).collect()
}

fn write(path: &Path, number: u8, size: usize) {
    let content: Vec<u8> = (0..size).map(|position| ((position * (usize::from(number) + 3)) >> 5) as u8).collect();
    std::fs::write(path, content).unwrap();
    std::fs::File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1_500_000_000)).unwrap();
}

fn export(store: &Store, files: &Files, compression: Compression) -> ExportedLayer {
    let below = store.stack(&[]).unwrap();
    let upper = store.new_upper(&below).unwrap();
    for (position, &(number, size)) in files.iter().enumerate() {
        write(&upper.upper().join(format!("file-{position}")), number, size);
    }
    let layer = upper.commit().unwrap();
    let options = LayerOptions { compression: CompressionOptions { compression, level: None }, latest_mtime: None };
    store.export_layer(&layer, &below, &options).unwrap()
}

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn blob(store: &Store, layer: &ExportedLayer) -> Vec<u8> {
    store.read_blob(&layer.descriptor.digest, 1 << 30).unwrap()
}

#[test]
fn a_changed_layer_has_the_bytes_that_a_new_one_has() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let (_folder, store) = open();
        let mut files = files();
        export(&store, &files, compression);
        files[90] = (77, 64_000);
        files.remove(300);
        let changed = export(&store, &files, compression);
        let (_other, fresh) = open();
        assert_eq!(changed, export(&fresh, &files, compression));
    }
}

/// Says of a layer that it is made of these blocks, as the record of another one does.
fn exchange(store: &Store, layer: &ExportedLayer, forged: &[u8], blocks: &[u8]) {
    let records = store.database().list("layer-blocks").unwrap();
    let record =
        records.iter().find(|record| record.key.ends_with(layer.descriptor.digest.as_str().as_bytes())).unwrap();
    let mut writer = store.blob_writer().unwrap();
    std::io::Write::write_all(&mut writer, forged).unwrap();
    let (digest, _) = writer.finish(None, None).unwrap();
    let text = String::from_utf8(record.key.clone()).unwrap();
    let key = text.replace(layer.descriptor.digest.as_str(), digest.as_str());
    store.database().remove("layer-blocks", &record.key).unwrap();
    store.database().put("layer-blocks", key.as_bytes(), blocks, &[]).unwrap();
}

#[test]
fn blocks_are_copied_from_the_layer_before() {
    let (_folder, store) = open();
    let files = files();
    let layer = export(&store, &files, Compression::Gzip);
    let records = store.database().list("layer-blocks").unwrap();
    let [record] = &records[..] else { panic!("{records:?}") };
    let entries: Vec<u32> =
        record.value.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let lengths: Vec<usize> = entries.chunks_exact(3).map(|entry| entry[2] as usize).collect();
    let bytes = blob(&store, &layer);
    assert_eq!(lengths.iter().sum::<usize>(), bytes.len());
    // The same blocks, with another operating system in their gzip headers: so it shows where they come from.
    let mut forged = bytes.clone();
    let mut position = 0;
    for length in &lengths {
        forged[position + 9] = 3;
        position += length;
    }
    exchange(&store, &layer, &forged, &record.value);
    let again = export(&store, &files, Compression::Gzip);
    assert_eq!(again.diff_id, layer.diff_id);
    let expected = [&bytes[..lengths[0]], &forged[lengths[0]..]].concat();
    assert!(blob(&store, &again) == expected, "all but the first block are taken from the layer before");
}

#[test]
fn what_is_damaged_is_made_again() {
    let files = files();
    let (_fresh_folder, fresh) = open();
    let expected = export(&fresh, &files, Compression::Gzip);
    for damage in [0, 1, 2, 3] {
        let (_folder, store) = open();
        let layer = export(&store, &files, Compression::Gzip);
        let record = store.database().list("layer-blocks").unwrap().remove(0);
        let path = store.blob_path(&layer.descriptor.digest);
        match damage {
            // A bit of each block in the blob, whose length stays.
            0 => {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                for position in (0..layer.descriptor.size).step_by(10_000) {
                    file.write_all_at(b"\x55", position).unwrap();
                }
            }
            1 => std::fs::remove_file(&path).unwrap(),
            2 => store.database().put("layer-blocks", &record.key, &record.value[..7], &[]).unwrap(),
            _ => {
                let mut value = record.value.clone();
                value.chunks_exact_mut(12).for_each(|entry| entry[8] ^= 1);
                store.database().put("layer-blocks", &record.key, &value, &[]).unwrap();
            }
        }
        if damage == 0 {
            // The damaged blob would be taken for the new one.
            let bytes = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            exchange(&store, &layer, &bytes, &record.value);
        }
        let again = export(&store, &files, Compression::Gzip);
        assert_eq!(again, expected, "damage {damage}");
        let mut archive = Vec::new();
        let blob = store.open_blob(&again.descriptor.digest).unwrap();
        std::io::Read::read_to_end(&mut Decompressor::new(blob, 1000).unwrap(), &mut archive).unwrap();
        assert_eq!(again.diff_id.0, onetag_oci::Digest::sha256(&archive));
    }
}
