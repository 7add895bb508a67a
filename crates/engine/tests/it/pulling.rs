//! What a pull asks the registry for.

use onetag_engine::progress::Cancellation;
use onetag_engine::pull::{PlatformSelection, pull};
use onetag_oci::{DiffId, Digest, Platform};
use onetag_testkit::fault::{Fault, Rule};

use crate::setup::{Setup, small, text};

const BOTH: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// How often each path that ends in a digest was got.
fn counts(setup: &Setup) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for request in setup.requests().into_iter().filter(|request| request.method == "GET") {
        *counts.entry(request.path).or_default() += 1;
    }
    counts
}

#[test]
fn every_document_and_blob_is_asked_for_once() {
    let setup = Setup::new();
    let image = small(&BOTH);
    setup.publish(&image, "app:1");
    let reference = setup.reference("app:1");
    let pull = |platform: &str, unpack| {
        let selection = PlatformSelection::These(vec![platform.parse::<Platform>().unwrap()]);
        let cancel = Cancellation::new();
        pull(&setup.engine, &reference, &selection, unpack, &cancel, &|_| {}).unwrap();
    };
    setup.requests();
    for (platform, unpack) in [(BOTH[0], true), (BOTH[1], false)] {
        pull(platform, unpack);
        let counts = counts(&setup);
        let of = |digest: &Digest| -> usize {
            counts.iter().filter(|(path, _)| path.ends_with(digest.as_str())).map(|(_, count)| count).sum()
        };
        let image = image.images.iter().find(|image| image.platform == platform.parse().unwrap()).unwrap();
        assert_eq!(image.blobs().map(|(digest, _)| of(&digest)), [1; 3], "{counts:#?}");
        assert!(counts.values().all(|count| *count == 1), "{counts:#?}");
    }
    // nothing is left to be asked for but the index
    pull(BOTH[1], true);
    let counts = counts(&setup);
    assert!(counts.keys().all(|path| path.contains("/manifests/")), "{counts:#?}");
}

#[test]
fn wrong_content_is_asked_for_once_more_and_then_an_error() {
    let setup = Setup::new();
    let image = small(&BOTH[..1]);
    setup.publish(&image, "app:1");
    let reference = setup.reference("app:1");
    let layer = Digest::sha256(&image.images[0].layer);
    for unpack in [false, true] {
        let engine = setup.another(&format!("store-{unpack}"));
        let pull = || pull(&engine, &reference, &PlatformSelection::All, unpack, &Cancellation::new(), &|_| {});
        let asked = || setup.requests().iter().filter(|request| request.path.ends_with(layer.as_str())).count();
        let path = format!("/blobs/{layer}");
        asked();
        setup.registry.add(Rule::always("GET", &path, Fault::WrongByte));
        let error = text(&pull().unwrap_err());
        assert!(error.contains("digest") && error.contains(layer.as_str()), "{error}");
        assert_eq!(asked(), 2, "no more and no less");
        setup.registry.add(Rule::once("GET", &path, Fault::WrongByte));
        pull().unwrap();
        assert_eq!(asked(), 2, "once more");
        let store = engine.store().unwrap();
        assert!(store.has_blob(&layer));
        assert_eq!(store.unpacked_layer(&DiffId(layer.clone())).is_some(), unpack);
    }
}
