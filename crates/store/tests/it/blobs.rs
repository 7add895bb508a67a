//! Blobs: verified, atomic, readable while they grow.

use std::io::{Read, Write};

use onetag_oci::{Descriptor, Digest, media_type};
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

#[test]
fn blobs_of_a_batch_get_their_names_together() {
    let folder = tempfile::tempdir().unwrap();
    let (store, other) = (Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap());
    let batch = store.batch();
    let digests: Vec<Digest> =
        (0..40).map(|number: u8| store.put_document(&vec![number; 10 + usize::from(number)]).unwrap()).collect();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(&[7; 17]).unwrap();
    assert_eq!(writer.finish(None, None).unwrap().0, digests[7], "the same once more");
    for (number, digest) in digests.iter().enumerate() {
        assert_eq!(store.blob_size(digest), Some(10 + number as u64));
        assert_eq!(store.read_blob(digest, 100).unwrap().len(), 10 + number);
        assert!(!other.has_blob(digest) && !store.blob_path(digest).exists(), "nobody else relies on it yet");
    }
    batch.close().unwrap();
    assert!(digests.iter().all(|digest| other.has_blob(digest) && store.has_blob(digest)));
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    let after = store.put_document(b"after").unwrap();
    assert!(other.has_blob(&after), "a closed batch defers nothing");
}

#[test]
fn a_name_settles_what_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let (store, other) = (Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap());
    let batch = store.batch();
    let layer = store.put_document(b"layer").unwrap();
    let index = store.put_document(b"{}").unwrap();
    store.set_reference("a", Descriptor::new(media_type::OCI_INDEX, index.clone(), 2)).unwrap();
    assert!(other.has_blob(&layer) && other.has_blob(&index));
    let late = store.put_document(b"late").unwrap();
    assert!(!other.has_blob(&late));
    // Given up, as where a later output failed: what is made stays for the next build.
    drop(batch);
    assert!(other.has_blob(&late));
}

#[test]
fn threads_settle_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let batch = store.batch();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..30 {
                    // Two threads at a time make the same blobs.
                    let digest = store.put_document(&[thread / 2, number]).unwrap();
                    if number % 10 == 0 {
                        store.settle().unwrap();
                    }
                    assert_eq!(store.read_blob(&digest, 2).unwrap(), [thread / 2, number]);
                }
            });
        }
    });
    batch.close().unwrap();
    assert_eq!(store.blobs().unwrap().len(), 60);
}
