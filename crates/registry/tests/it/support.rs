//! Registries in temporary folders, and what to put into them.

use std::time::Duration;

use onetag_oci::{Descriptor, Digest, Document, Index, Manifest, Platform, Reference, media_type};
use onetag_registry::client::RetryPolicy;
use onetag_registry::server::{Options, Running, Server};
use onetag_registry::{Client, ClientOptions};

/// A registry that lives as long as this.
pub struct TestRegistry {
    pub folder: tempfile::TempDir,
    running: Running,
}

impl TestRegistry {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub fn start_with(configure: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut options = Options::new(folder.path());
        options.address.set_port(0);
        configure(&mut options);
        let running = Server::bind(&options).expect("registry").spawn();
        TestRegistry { folder, running }
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.running.address()
    }

    pub fn host(&self) -> String {
        self.running.address().to_string()
    }

    pub fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.host())).expect("reference")
    }
}

/// Options that do not let failing tests wait.
pub fn quick() -> ClientOptions {
    ClientOptions {
        retry: RetryPolicy {
            first_delay: Duration::from_millis(5),
            longest_delay: Duration::from_millis(20),
            ..RetryPolicy::default()
        },
        stall: Duration::from_secs(2),
        ..ClientOptions::default()
    }
}

pub fn client() -> Client {
    Client::new(quick())
}

/// Bytes that do not repeat, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn describe(bytes: &[u8], media_type: &str) -> Descriptor {
    Descriptor::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
}

/// Pushes an image of one layer; gives its manifest's descriptor.
pub fn push_image(client: &Client, reference: &Reference, layer: &[u8], platform: &Platform) -> Descriptor {
    let config = format!(
        r#"{{"architecture":"{}","os":"{}","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        platform.architecture,
        platform.os,
        Digest::sha256(layer)
    )
    .into_bytes();
    let config_descriptor = describe(&config, media_type::OCI_CONFIG);
    let layer_descriptor = describe(layer, media_type::OCI_LAYER);
    client.push_blob(reference, &config_descriptor, &config, &[]).expect("config");
    client.push_blob(reference, &layer_descriptor, &layer.to_vec(), &[]).expect("layer");
    let mut manifest = Manifest::new(config_descriptor, vec![layer_descriptor]);
    manifest.media_type = Some(media_type::OCI_MANIFEST.to_owned());
    let manifest = Document::from_value(manifest);
    client.push_manifest(reference, manifest.bytes(), media_type::OCI_MANIFEST).expect("manifest");
    describe(manifest.bytes(), media_type::OCI_MANIFEST).with_platform(platform.clone())
}

/// Pushes an index of two platforms; gives its exact bytes.
pub fn push_index(client: &Client, reference: &Reference) -> Vec<u8> {
    let untagged = reference.without_tag();
    let children = ["amd64", "arm64"].map(|architecture| {
        let layer = noise(100_000, architecture.len() as u64 + u64::from(architecture.as_bytes()[1]));
        let child =
            push_image(client, &untagged.with_tag("child").expect("tag"), &layer, &Platform::linux(architecture));
        client.delete_manifest(&untagged.with_tag("child").expect("tag")).expect("untag");
        child
    });
    let mut index = Index::new(children.to_vec());
    index.media_type = Some(media_type::OCI_INDEX.to_owned());
    let index = Document::from_value(index);
    client.push_manifest(reference, index.bytes(), media_type::OCI_INDEX).expect("index");
    index.bytes().to_vec()
}
