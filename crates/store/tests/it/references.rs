//! Names in the layout's index.

use onetag_oci::{Descriptor, media_type};
use onetag_store::{REF_NAME, Store};

fn descriptor(store: &Store, content: &[u8]) -> Descriptor {
    let digest = store.put_document(content).unwrap();
    Descriptor::new(media_type::OCI_INDEX, digest, content.len() as u64)
}

#[test]
fn names_are_set_moved_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (first, second) = (descriptor(&store, b"1"), descriptor(&store, b"2"));
    assert_eq!(store.reference("docker.io/library/app:latest").unwrap(), None);
    store.set_reference("docker.io/library/app:latest", first.clone()).unwrap();
    store.set_reference("docker.io/library/app:v1", first.clone()).unwrap();
    store.set_reference("docker.io/library/app:latest", second.clone()).unwrap();
    let names = [("docker.io/library/app:latest".to_owned(), second), ("docker.io/library/app:v1".to_owned(), first)];
    assert_eq!(Store::open(folder.path()).unwrap().references().unwrap(), names);
    assert!(store.remove_reference("docker.io/library/app:v1").unwrap());
    assert!(!store.remove_reference("docker.io/library/app:v1").unwrap());
    assert_eq!(store.references().unwrap().len(), 1);
}

#[test]
fn the_store_is_an_image_layout() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.set_reference("docker.io/library/app:latest", descriptor(&store, b"1")).unwrap();
    let layout = std::fs::read_to_string(folder.path().join("oci-layout")).unwrap();
    assert_eq!(layout, r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["annotations"][REF_NAME], "docker.io/library/app:latest");
}

#[test]
fn skopeo_reads_the_store_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let name = "docker.io/library/app:latest";
    let (blobs, _) = crate::collection::image(&store, name, crate::archive::Archive::new().file("a", b"a"));
    let layout = format!("oci:{}:{name}", folder.path().display());
    let inspected = std::process::Command::new("skopeo").args(["inspect", "--raw", &layout]).output();
    let Ok(inspected) = inspected else { return eprintln!("skipped: skopeo is not installed") };
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
    assert_eq!(onetag_oci::Digest::sha256(&inspected.stdout), blobs[0]);
}

#[test]
fn entries_of_other_tools_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let foreign = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"x-other":[1]}]}"#;
    std::fs::write(folder.path().join("index.json"), foreign).unwrap();
    store.set_reference("docker.io/library/app:latest", descriptor(&store, b"1")).unwrap();
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["x-other"][0], 1);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
}

#[test]
fn opening_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("oci-layout"), b"{\"imageLayoutVersion\":\"9.0.0\"}").unwrap();
    assert!(Store::open(folder.path()).is_err());
}

#[test]
fn threads_and_handles_do_not_lose_names() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let descriptor = descriptor(&store, b"1");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = Store::open(folder.path()).unwrap();
            let descriptor = descriptor.clone();
            scope.spawn(move || {
                for number in 0..20 {
                    store.set_reference(&format!("docker.io/t/{thread}:{number}"), descriptor.clone()).unwrap();
                }
            });
        }
    });
    assert_eq!(store.references().unwrap().len(), 160);
}
