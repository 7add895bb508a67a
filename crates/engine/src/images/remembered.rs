//! The list of images as it was worked out last, for as long as neither names nor blobs come or go.
//!
//! To list a thousand images means to read thousands of documents. The record in `cache.db` holds what came of it
//! beside a digest over that and over the state of the store, so that a record of another state, a damaged one and one
//! of another form are all the same as none.

use onetag_oci::Digest;
use onetag_store::{RecordStorage, Store, StoreState};

use super::list::ImageSummary;

/// Where the record is; the number is that of its form.
const NAMESPACE: &str = "images/1";
const KEY: &[u8] = b"list";
/// A list of names of fewer bytes is worked out faster than a database is opened.
const WORTH_BYTES: u64 = 16 << 10;

/// The list that was kept of this state.
pub(super) fn recall(store: &Store, state: &StoreState) -> Option<Vec<ImageSummary>> {
    if state.index_bytes() < WORTH_BYTES {
        return None;
    }
    // a database that cannot be read is as good as an empty one
    let record = store.database().get(NAMESPACE, KEY).ok()??;
    let (digest, content) = record.split_at_checked(digest_of(state, b"").as_str().len())?;
    (digest_of(state, content).as_str().as_bytes() == digest).then(|| serde_json::from_slice(content).ok())?
}

/// Keeps a list that was worked out while the store was in this state, and still is.
pub(super) fn keep(store: &Store, state: &StoreState, list: &[ImageSummary]) {
    let is_kept = state.index_bytes() >= WORTH_BYTES && state.is_settled();
    if !is_kept || !store.state().is_ok_and(|now| now == *state) {
        return;
    }
    let Ok(content) = serde_json::to_vec(list) else { return };
    let record = [digest_of(state, &content).as_str().as_bytes(), &content].concat();
    // a store that takes no records works the list out each time
    let _ = store.database().put(NAMESPACE, KEY, &record, &[]);
}

fn digest_of(state: &StoreState, content: &[u8]) -> Digest {
    Digest::sha256(&[state.mark().as_bytes(), content].concat())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use onetag_oci::{Descriptor, Document, ImageConfig, Manifest, Platform, media_type};
    use onetag_store::{RecordStorage, Store};

    use super::super::{list, remove};
    use super::{KEY, NAMESPACE, recall};

    const COUNT: usize = 100;

    /// A store of small images that changed some time ago.
    fn store(root: &std::path::Path) -> Store {
        let store = Store::open(root).unwrap();
        for number in 0..COUNT {
            let mut config = ImageConfig::new(&Platform::linux("amd64"));
            config.created = Some(format!("2026-01-01T00:00:{:02}Z", number % 60));
            let config = Document::from_value(config);
            store.put_document(config.bytes()).unwrap();
            let config = Descriptor::new(media_type::OCI_CONFIG, config.digest().clone(), config.size());
            let layer = Descriptor::new(media_type::OCI_LAYER, store.put_document(b"layer").unwrap(), 5);
            let mut manifest = Manifest::new(config, vec![layer]);
            manifest.annotations.insert("number".to_owned(), number.to_string());
            let manifest = Document::from_value(manifest);
            store.put_document(manifest.bytes()).unwrap();
            let descriptor = Descriptor::new(media_type::OCI_MANIFEST, manifest.digest().clone(), manifest.size());
            store.set_reference(&format!("docker.io/library/app:{number}"), descriptor).unwrap();
        }
        settle(&store);
        store
    }

    /// Waits until the last change is long enough ago for the times of the folders to tell of another.
    fn settle(store: &Store) {
        while !store.state().unwrap().is_settled() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_known(store: &Store) -> bool {
        recall(store, &store.state().unwrap()).is_some()
    }

    #[test]
    fn a_list_is_kept_until_a_name_or_a_blob_comes_or_goes() {
        let place = tempfile::tempdir().unwrap();
        let store = store(place.path());
        let worked_out = list(&store).unwrap();
        assert_eq!(worked_out.len(), COUNT);
        assert!(is_known(&store));
        assert_eq!(list(&store).unwrap(), worked_out, "recalled");

        remove(&store, "app:7", &[], false).unwrap();
        assert!(!is_known(&store));
        assert_eq!(list(&store).unwrap().len(), COUNT - 1);
        assert!(!is_known(&store), "what changed just now vouches for nothing");
        settle(&store);
        list(&store).unwrap();
        assert!(is_known(&store));

        let doomed = &list(&store).unwrap()[3];
        std::fs::remove_file(store.blob_path(&doomed.digest)).unwrap();
        let now = list(&store).unwrap();
        assert!(!now[3].platforms[0].is_here);
        assert_eq!(now[3].names, doomed.names);
    }

    #[test]
    fn a_damaged_record_is_worked_out_anew() {
        let place = tempfile::tempdir().unwrap();
        let store = store(place.path());
        let worked_out = list(&store).unwrap();
        let record = store.database().get(NAMESPACE, KEY).unwrap().unwrap();
        let text = String::from_utf8(record.clone()).unwrap();
        let other = text.replacen("amd64", "arm64", 1);
        for damaged in [&record[..record.len() / 2], b"", other.as_bytes()] {
            store.database().put(NAMESPACE, KEY, damaged, &[]).unwrap();
            assert!(!is_known(&store));
            assert_eq!(list(&store).unwrap(), worked_out);
            assert!(is_known(&store), "kept again");
        }
    }
}
