//! What is pushed comes back.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};

use onetag_oci::{Algorithm, Digest, media_type};
use onetag_registry::{BlobSource, GrowingSource, Pushed};

use crate::support::{TestRegistry, client, describe, noise, push_index};

#[test]
fn blobs_come_back_and_are_stored_once() {
    let registry = TestRegistry::start();
    let client = client();
    let first = registry.reference("a/first");
    let second = registry.reference("second");
    for length in [0, 1, 1000, 65_536, 3_000_000] {
        let blob = noise(length, length as u64);
        let descriptor = describe(&blob, media_type::OCI_LAYER);
        assert!(!client.blob_exists(&first, &descriptor.digest).expect("asked"));
        assert_eq!(client.push_blob(&first, &descriptor, &blob, &[]).expect("pushed"), Pushed::Uploaded);
        assert_eq!(client.push_blob(&first, &descriptor, &blob, &[]).expect("pushed"), Pushed::Existed);
        let mounted = client.push_blob(&second, &descriptor, &blob, std::slice::from_ref(&first));
        assert_eq!(mounted.expect("pushed"), Pushed::Mounted);
        let mut fetched = Vec::new();
        client.fetch_blob(&second, &descriptor, &mut fetched).expect("fetched");
        assert_eq!(fetched, blob);
    }
    let absent = describe(b"absent", media_type::OCI_LAYER);
    let error = client.fetch_blob(&first, &absent, &mut Vec::new()).expect_err("absent");
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn sha512_is_a_digest_like_any_other() {
    let registry = TestRegistry::start();
    let client = client();
    let reference = registry.reference("a");
    let blob = noise(200_000, 7);
    let mut descriptor = describe(&blob, media_type::OCI_LAYER);
    descriptor.digest = Digest::of(Algorithm::Sha512, &blob);
    assert_eq!(client.push_blob(&reference, &descriptor, &blob, &[]).expect("pushed"), Pushed::Uploaded);
    let mut fetched = Vec::new();
    client.fetch_blob(&reference, &descriptor, &mut fetched).expect("fetched");
    assert_eq!(fetched, blob);
}

#[test]
fn indexes_come_back_byte_for_byte() {
    let registry = TestRegistry::start();
    let client = client();
    let reference = registry.reference("team/app:v1");
    let bytes = push_index(&client, &reference);
    let document = client.manifest(&reference).expect("manifest");
    assert_eq!(document.bytes(), bytes);
    assert_eq!(document.as_index().expect("index").manifests.len(), 2);
    let descriptor = client.resolve(&reference).expect("resolved");
    assert_eq!(descriptor.digest, Digest::sha256(&bytes));
    assert_eq!(descriptor.size, bytes.len() as u64);
    assert_eq!(descriptor.media_type, media_type::OCI_INDEX);
    let pinned = reference.without_tag().with_digest(descriptor.digest);
    assert_eq!(client.manifest(&pinned).expect("manifest").bytes(), bytes);
    assert_eq!(client.tags(&reference).expect("tags"), ["v1"]);
    assert_eq!(client.repositories(&registry.host()).expect("repositories"), ["team/app"]);
    client.delete_manifest(&reference).expect("deleted");
    assert!(client.manifest(&reference).expect_err("deleted").is_not_found());
    assert!(client.manifest(&pinned).is_ok());
}

#[test]
fn what_is_absent_is_named() {
    let registry = TestRegistry::start();
    let reference = registry.reference("absent:latest");
    let error = client().manifest(&reference).expect_err("absent");
    assert_eq!(error.to_string(), format!("{}/absent:latest: not found", registry.host()));
    let error = client().resolve(&reference).expect_err("absent");
    assert_eq!(error.to_string(), format!("{}/absent:latest: not found", registry.host()));
}

#[test]
fn no_registry_is_said_at_once() {
    let reference = onetag_oci::Reference::parse("127.0.0.1:1/a").expect("reference");
    let started = std::time::Instant::now();
    let error = client().resolve(&reference).expect_err("no registry");
    assert_eq!(error.to_string(), "cannot connect to 127.0.0.1:1");
    assert!(started.elapsed().as_secs() < 2);
}

/// A blob that has to be fetched before it can be pushed.
struct Elsewhere<'a> {
    client: &'a onetag_registry::Client,
    repository: onetag_oci::Reference,
    descriptor: onetag_oci::Descriptor,
}

impl BlobSource for Elsewhere<'_> {
    fn open(&self, offset_bytes: u64) -> std::io::Result<Box<dyn Read + Send>> {
        let mut fetched = Vec::new();
        self.client.fetch_blob(&self.repository, &self.descriptor, &mut fetched).map_err(std::io::Error::other)?;
        fetched.open(offset_bytes)
    }

    fn size(&self) -> u64 {
        self.descriptor.size
    }
}

#[test]
fn sources_may_use_the_client_that_reads_them() {
    let (from, to) = (TestRegistry::start(), TestRegistry::start());
    let client = client();
    let blob = noise(200_000, 12);
    let descriptor = describe(&blob, media_type::OCI_LAYER);
    client.push_blob(&from.reference("a"), &descriptor, &blob, &[]).expect("pushed");
    let source = Elsewhere { client: &client, repository: from.reference("a"), descriptor: descriptor.clone() };
    assert_eq!(client.push_blob(&to.reference("b"), &descriptor, &source, &[]).expect("pushed"), Pushed::Uploaded);
    let mut fetched = Vec::new();
    client.fetch_blob(&to.reference("b"), &descriptor, &mut fetched).expect("fetched");
    assert_eq!(fetched, blob);
}

/// A blob that another thread is writing.
#[derive(Default)]
struct Growing {
    state: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Growing {
    fn add(&self, bytes: &[u8]) {
        self.state.lock().expect("lock").0.extend_from_slice(bytes);
        self.changed.notify_all();
    }

    fn complete(&self) {
        self.state.lock().expect("lock").1 = true;
        self.changed.notify_all();
    }
}

struct GrowingReader {
    growing: Arc<Growing>,
    offset: usize,
}

impl Read for GrowingReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut state = self.growing.state.lock().expect("lock");
        while state.0.len() == self.offset && !state.1 {
            state = self.growing.changed.wait(state).expect("lock");
        }
        let count = buffer.len().min(state.0.len() - self.offset);
        buffer[..count].copy_from_slice(&state.0[self.offset..self.offset + count]);
        self.offset += count;
        Ok(count)
    }
}

struct GrowingBlob(Arc<Growing>);

impl GrowingSource for GrowingBlob {
    fn open(&self, offset_bytes: u64) -> std::io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(GrowingReader { growing: self.0.clone(), offset: usize::try_from(offset_bytes).expect("offset") }))
    }

    fn finish(&self) -> std::io::Result<(Digest, u64)> {
        let mut state = self.0.state.lock().expect("lock");
        while !state.1 {
            state = self.0.changed.wait(state).expect("lock");
        }
        Ok((Digest::sha256(&state.0), state.0.len() as u64))
    }
}

#[test]
fn a_growing_blob_is_uploaded_while_it_grows() {
    let registry = TestRegistry::start();
    let client = client();
    let reference = registry.reference("growing");
    let growing = Arc::new(Growing::default());
    let writer = growing.clone();
    let blob = noise(2_500_000, 3);
    let content = blob.clone();
    let thread = std::thread::spawn(move || {
        for chunk in content.chunks(100_000) {
            writer.add(chunk);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        writer.complete();
    });
    let (digest, size) = client.push_growing(&reference, &GrowingBlob(growing)).expect("pushed");
    thread.join().expect("writer");
    assert_eq!((digest, size), (Digest::sha256(&blob), blob.len() as u64));
    let mut fetched = Vec::new();
    client.fetch_blob(&reference, &describe(&blob, media_type::OCI_LAYER), &mut fetched).expect("fetched");
    assert_eq!(fetched, blob);
}
