//! Every fault at every single request of a pull and of a push: success after a repetition or one precise error, within a bounded
//! time, with no wrong byte accepted, no partial tag, and no credential in anybody else's log.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onetag_oci::{Digest, Reference, media_type};
use onetag_registry::credential::{Credential, CredentialError, CredentialProvider};
use onetag_registry::{BlobSource, Client, ClientOptions, Error, GrowingSource};

use crate::scripted::{Answer, Asked, Reaction, Scripted, forward};
use crate::support::{TestRegistry, describe, noise, push_index, quick};

const STALL: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Reset,
    Truncated,
    Stall,
    NewChallenge,
    ForeignChallenge,
    TooMany,
    Status(u16),
    WrongBytes,
    TooShort,
    TooLong,
    Redirect,
    NoLocation,
    ForeignLocation,
    EndlessPages,
    Huge,
    Compressed,
    Garbage,
}

const FAULTS: [Fault; 20] = [
    Fault::Reset,
    Fault::Truncated,
    Fault::Stall,
    Fault::NewChallenge,
    Fault::ForeignChallenge,
    Fault::TooMany,
    Fault::Status(500),
    Fault::Status(502),
    Fault::Status(503),
    Fault::Status(404),
    Fault::WrongBytes,
    Fault::TooShort,
    Fault::TooLong,
    Fault::Redirect,
    Fault::NoLocation,
    Fault::ForeignLocation,
    Fault::EndlessPages,
    Fault::Huge,
    Fault::Compressed,
    Fault::Garbage,
];

struct Secret;

impl CredentialProvider for Secret {
    fn credential(&self, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(Some(Credential::Basic { username: "ann".into(), password: "hunter2".into() }))
    }
}

/// A registry with a password behind a proxy that misbehaves at one request, or at all from one on.
struct Rig {
    registry: TestRegistry,
    proxy: Scripted,
    attacker: Arc<Scripted>,
    plan: Arc<Mutex<Option<(Fault, usize, bool)>>>,
    seen: Arc<AtomicUsize>,
}

impl Rig {
    fn start() -> Self {
        let htpasswd = tempfile::NamedTempFile::new().expect("file");
        // The hash of "hunter2" at the lowest cost.
        let line = format!("ann:{}\n", bcrypt::hash("hunter2", 4).expect("hash"));
        std::fs::write(htpasswd.path(), line).expect("written");
        let path = htpasswd.into_temp_path().keep().expect("kept");
        let registry = TestRegistry::start_with(|options| options.htpasswd = Some(path.clone()));
        let attacker = Arc::new(Scripted::start(|_| Answer::new(404).react()));
        let plan: Arc<Mutex<Option<(Fault, usize, bool)>>> = Arc::default();
        let seen = Arc::new(AtomicUsize::new(0));
        let upstream = registry.address();
        let (planned, count, elsewhere) = (plan.clone(), seen.clone(), attacker.clone());
        let proxy = Scripted::start(move |asked| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let plan = *planned.lock().expect("plan");
            match plan {
                Some((fault, at, forever)) if number == at || forever && number > at => {
                    misbehave(fault, asked, forward(upstream, asked), &elsewhere.host())
                }
                _ => forward(upstream, asked).react(),
            }
        });
        Rig { registry, proxy, attacker, plan, seen }
    }

    fn client(&self) -> Client {
        let options = ClientOptions { credentials: Arc::new(Secret), stall: STALL, ..quick() };
        Client::new(options)
    }

    fn through_proxy(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.proxy.host())).expect("reference")
    }

    fn set(&self, plan: Option<(Fault, usize, bool)>) {
        *self.plan.lock().expect("plan") = plan;
        self.seen.store(0, Ordering::SeqCst);
    }

    fn assert_no_secret_told(&self, context: &str) {
        // Which token service gets the credentials is the registry's own word; what it may not say is tested elsewhere.
        for asked in self.attacker.asked().iter().filter(|asked| !asked.target.starts_with("/token")) {
            assert_eq!(asked.header("authorization"), None, "{context}: credentials sent elsewhere: {asked:?}");
            assert!(!String::from_utf8_lossy(&asked.body).contains("hunter2"), "{context}");
            assert!(!asked.target.contains("hunter2"), "{context}");
        }
    }
}

fn misbehave(fault: Fault, asked: &Asked, mut answer: Answer, elsewhere: &str) -> Reaction {
    match fault {
        Fault::Reset => Reaction::Close,
        Fault::Truncated => {
            let mut bytes = answer.bytes(&asked.method);
            bytes.truncate(bytes.len() - answer.body.len() / 2 - usize::from(answer.body.is_empty()));
            Reaction::Raw(bytes)
        }
        Fault::Stall => Reaction::Stall(STALL * 8),
        Fault::NewChallenge => Answer::new(401).with("www-authenticate", "Basic realm=\"other\"").react(),
        Fault::ForeignChallenge => {
            let challenge = format!("Bearer realm=\"http://{elsewhere}/token\",service=\"x\"");
            Answer::new(401).with("www-authenticate", &challenge).react()
        }
        Fault::TooMany => Answer::new(429).with("retry-after", "0").react(),
        Fault::Status(status) => Answer::new(status).body("oops").react(),
        Fault::WrongBytes => {
            if let Some(byte) = answer.body.last_mut() {
                *byte ^= 1;
            }
            answer.react()
        }
        Fault::TooShort | Fault::TooLong => {
            let length = answer.body.len();
            if fault == Fault::TooShort {
                answer.body.truncate(length.saturating_sub(7));
            } else {
                answer.body.extend_from_slice(b"and more");
            }
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
            answer.react()
        }
        Fault::Redirect => Answer::new(307).with("location", &format!("http://{elsewhere}{}", asked.target)).react(),
        Fault::NoLocation => {
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("location"));
            answer.react()
        }
        Fault::ForeignLocation => {
            for (name, value) in &mut answer.headers {
                if name.eq_ignore_ascii_case("location") {
                    *value = format!("http://{elsewhere}{value}");
                }
            }
            answer.react()
        }
        Fault::EndlessPages => answer.with("link", "<?again>; rel=\"next\"").react(),
        Fault::Huge => {
            answer.body = vec![b' '; 5 * 1024 * 1024];
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
            answer.react()
        }
        Fault::Compressed => answer.with("content-encoding", "gzip").react(),
        Fault::Garbage => Reaction::Raw(b"\x16\x03\x01 not http at all \r\n\r\n".to_vec()),
    }
}

/// Pulls an index with everything in it.
fn pull(client: &Client, reference: &Reference) -> Result<Vec<Vec<u8>>, Error> {
    let mut all = Vec::new();
    let document = client.manifest(reference)?;
    all.push(document.bytes().to_vec());
    for child in &document.as_index().map(|index| index.manifests.clone()).unwrap_or_default() {
        let manifest = client.manifest(&reference.without_tag().with_digest(child.digest.clone()))?;
        all.push(manifest.bytes().to_vec());
        let manifest = manifest.as_manifest().expect("a manifest");
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let mut bytes = Vec::new();
            client.fetch_blob(reference, blob, &mut bytes)?;
            all.push(bytes);
        }
    }
    client.tags(reference)?;
    Ok(all)
}

#[test]
fn every_fault_at_every_request_of_a_pull() {
    let rig = Rig::start();
    let direct = rig.client();
    push_index(&direct, &rig.registry.reference("app:v1"));
    let expected = pull(&direct, &rig.registry.reference("app:v1")).expect("pulled");
    let reference = rig.through_proxy("app:v1");
    rig.set(None);
    assert_eq!(pull(&rig.client(), &reference).expect("pulled"), expected);
    let requests = rig.seen.load(Ordering::SeqCst);
    assert!(requests >= 8, "{requests}");
    for fault in FAULTS {
        for at in 0..requests {
            let context = format!("{fault:?} at request {at} of a pull");
            rig.set(Some((fault, at, false)));
            let started = Instant::now();
            let pulled = pull(&rig.client(), &reference);
            assert!(started.elapsed() < Duration::from_secs(10), "{context} took {:?}", started.elapsed());
            match pulled {
                Ok(pulled) => assert_eq!(pulled, expected, "{context}"),
                Err(error) => assert!(!error.to_string().contains("hunter2"), "{context}: {error}"),
            }
            rig.assert_no_secret_told(&context);
        }
    }
}

#[test]
fn passing_faults_do_not_fail_a_pull() {
    let rig = Rig::start();
    let direct = rig.client();
    push_index(&direct, &rig.registry.reference("app:v1"));
    let expected = pull(&direct, &rig.registry.reference("app:v1")).expect("pulled");
    let reference = rig.through_proxy("app:v1");
    let faults =
        [Fault::Reset, Fault::Truncated, Fault::Stall, Fault::TooMany, Fault::Status(503), Fault::NewChallenge];
    for fault in faults {
        for at in 0..8 {
            rig.set(Some((fault, at, false)));
            let pulled = pull(&rig.client(), &reference);
            assert_eq!(pulled.unwrap_or_else(|error| panic!("{fault:?} at {at}: {error:?}")), expected);
        }
    }
}

#[test]
fn lasting_faults_fail_a_pull_in_bounded_time() {
    let rig = Rig::start();
    push_index(&rig.client(), &rig.registry.reference("app:v1"));
    let reference = rig.through_proxy("app:v1");
    for fault in FAULTS {
        for at in [0, 3] {
            rig.set(Some((fault, at, true)));
            let started = Instant::now();
            let pulled = pull(&rig.client(), &reference);
            assert!(started.elapsed() < Duration::from_secs(20), "{fault:?} from {at}: {:?}", started.elapsed());
            if matches!(fault, Fault::WrongBytes | Fault::Huge | Fault::Garbage | Fault::Reset | Fault::Status(_)) {
                assert!(pulled.is_err(), "{fault:?} from {at}");
            }
            rig.assert_no_secret_told(&format!("{fault:?} from {at}"));
        }
    }
}

/// Pushes an image under a tag; gives the bytes of its manifest.
fn push(client: &Client, reference: &Reference) -> Result<Vec<u8>, Error> {
    let layer = noise(150_000, 9);
    let config = b"{\"architecture\":\"amd64\",\"os\":\"linux\"}".to_vec();
    let config_descriptor = describe(&config, media_type::OCI_CONFIG);
    let layer_descriptor = describe(&layer, media_type::OCI_LAYER);
    client.push_blob(reference, &layer_descriptor, &layer, &[])?;
    client.push_blob(reference, &config_descriptor, &config, &[])?;
    let mut manifest = onetag_oci::Manifest::new(config_descriptor, vec![layer_descriptor]);
    manifest.media_type = Some(media_type::OCI_MANIFEST.to_owned());
    let manifest = onetag_oci::Document::from_value(manifest);
    client.push_manifest(reference, manifest.bytes(), media_type::OCI_MANIFEST)?;
    Ok(manifest.bytes().to_vec())
}

#[test]
fn every_fault_at_every_request_of_a_push() {
    let rig = Rig::start();
    let direct = rig.client();
    rig.set(None);
    push(&rig.client(), &rig.through_proxy("count:v1")).expect("pushed");
    let requests = rig.seen.load(Ordering::SeqCst);
    assert!(requests >= 7, "{requests}");
    for (number, fault) in FAULTS.into_iter().enumerate() {
        for at in 0..requests {
            let context = format!("{fault:?} at request {at} of a push");
            let name = format!("push-{number}-{at}:v1");
            rig.set(Some((fault, at, false)));
            let started = Instant::now();
            let pushed = push(&rig.client(), &rig.through_proxy(&name));
            assert!(started.elapsed() < Duration::from_secs(10), "{context} took {:?}", started.elapsed());
            rig.assert_no_secret_told(&context);
            // Whatever the client was told: a tag is there whole or not at all.
            let stored = pull(&direct, &rig.registry.reference(&name));
            match (pushed, stored) {
                (Ok(manifest), stored) => assert_eq!(stored.expect(&context)[0], manifest, "{context}"),
                (Err(_), Ok(_)) => {}
                (Err(_), Err(error)) => assert!(error.is_not_found(), "{context}: {error}"),
            }
        }
    }
}

#[test]
fn passing_faults_do_not_fail_a_push() {
    let rig = Rig::start();
    let faults =
        [Fault::Reset, Fault::Truncated, Fault::Stall, Fault::TooMany, Fault::Status(503), Fault::NewChallenge];
    for (number, fault) in faults.into_iter().enumerate() {
        for at in 0..7 {
            rig.set(Some((fault, at, false)));
            let pushed = push(&rig.client(), &rig.through_proxy(&format!("passing-{number}-{at}:v1")));
            assert!(pushed.is_ok(), "{fault:?} at {at}: {:?}", pushed.err());
        }
    }
}

/// A blob that has stopped growing by the time it is pushed.
struct Grown(Vec<u8>);

impl GrowingSource for Grown {
    fn open(&self, offset_bytes: u64) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        self.0.open(offset_bytes)
    }

    fn finish(&self) -> std::io::Result<(Digest, u64)> {
        Ok((Digest::sha256(&self.0), self.0.len() as u64))
    }
}

#[test]
fn passing_faults_do_not_fail_the_push_of_a_growing_blob() {
    let rig = Rig::start();
    let blob = Grown(noise(700_000, 4));
    let descriptor = describe(&blob.0, media_type::OCI_LAYER);
    let faults =
        [Fault::Reset, Fault::Truncated, Fault::Stall, Fault::TooMany, Fault::Status(503), Fault::NewChallenge];
    for (number, fault) in faults.into_iter().enumerate() {
        for at in 0..4 {
            let name = format!("growing-{number}-{at}");
            rig.set(Some((fault, at, false)));
            let pushed = rig.client().push_growing(&rig.through_proxy(&name), &blob);
            assert!(pushed.is_ok(), "{fault:?} at {at}: {:?}", pushed.err());
            let mut stored = Vec::new();
            rig.client().fetch_blob(&rig.registry.reference(&name), &descriptor, &mut stored).expect("stored");
            assert_eq!(stored, blob.0, "{fault:?} at {at}");
        }
    }
}
