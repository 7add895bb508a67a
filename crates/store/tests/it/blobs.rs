//! Blobs: verified, atomic, readable while they grow.

use std::io::{Read, Write};

use onetag_oci::Digest;
use onetag_store::{Error, Store};

#[test]
fn a_blob_is_verified_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"hello").unwrap();
    let (digest, size) = writer.finish(None, Some(5)).unwrap();
    assert_eq!(digest, Digest::sha256(b"hello"));
    assert_eq!((size, store.blob_size(&digest)), (5, Some(5)));
    assert_eq!(store.read_blob(&digest, 5).unwrap(), b"hello");
    assert!(matches!(store.read_blob(&digest, 4), Err(Error::TooLarge { .. })));
    assert_eq!(store.put_document(b"hello").unwrap(), digest);
}

#[test]
fn what_was_not_promised_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let expected = Digest::sha256(b"other");
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"hello").unwrap();
    assert!(matches!(writer.finish(Some(&expected), None), Err(Error::DigestMismatch { .. })));
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"hello").unwrap();
    assert!(matches!(writer.finish(None, Some(4)), Err(Error::SizeMismatch { .. })));
    assert!(store.blobs().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_damaged_blob_is_not_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let digest = store.put_document(b"hello").unwrap();
    std::fs::write(store.blob_path(&digest), b"jello").unwrap();
    assert!(matches!(store.read_blob(&digest, 100), Err(Error::DigestMismatch { .. })));
}

#[test]
fn a_growing_blob_is_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut writer = store.blob_writer().unwrap();
    let growing = writer.growing();
    let reader = std::thread::spawn(move || {
        let mut content = Vec::new();
        growing.reader(2).read_to_end(&mut content).unwrap();
        (content, growing.wait())
    });
    for piece in [&b"abc"[..], b"def", b"ghi"] {
        writer.write_all(piece).unwrap();
        std::thread::yield_now();
    }
    let (digest, size) = writer.finish(None, None).unwrap();
    assert_eq!(reader.join().unwrap(), (b"cdefghi".to_vec(), Some((digest, size))));
}

#[test]
fn readers_hear_of_an_abandoned_blob() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"abc").unwrap();
    let growing = writer.growing();
    drop(writer);
    assert!(growing.reader(0).read_to_end(&mut Vec::new()).is_err());
    assert_eq!(growing.wait(), None);
}
