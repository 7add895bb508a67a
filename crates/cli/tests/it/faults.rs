//! Every fault at every single request of a pull, a push and a copy by the real binary: success after a repetition or one error,
//! never a hang, a partial tag, a wrong byte stored, or a credential told to anybody else.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onetag_oci::{Digest, Reference};
use onetag_registry::credential::{CredentialError, CredentialProvider};
use onetag_registry::{Client, ClientOptions, Credential};
use onetag_testkit::fault::{Fault, FaultyRegistry, Rule};
use onetag_testkit::registry::InProcess;
use onetag_testkit::user::User;
use onetag_testkit::{Finished, Onetag, Running};

use crate::support::BINARY;

/// Longest that one command may take: all its repetitions take less.
const LIMIT: Duration = Duration::from_secs(60);
/// How long nothing happens where nothing happens; the commands are told to wait for a second.
const STALL: Duration = Duration::from_secs(3);
/// The user of the registry and the hash of the password at the lowest cost.
const HTPASSWD: &str = "ann:$2y$04$PmEFR9I.pa7pqy4qnlev4.gUVH5yE3/0X3dc3/5TrJIfGSYkjedQa\n";
/// The credentials as a header has them.
const SECRET: &str = "YW5uOmh1bnRlcjI=";

fn faults(attacker: &str) -> Vec<Fault> {
    let header = |name: &str, value: &str| Fault::WithHeader(name.to_owned(), value.to_owned());
    let answer = |status: u16, headers: &[(&str, &str)], body: Vec<u8>| Fault::Answer {
        status,
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body,
    };
    vec![
        Fault::Reset,
        Fault::EofAfter(5),
        Fault::Stall(STALL),
        answer(401, &[("WWW-Authenticate", "Basic realm=\"another\"")], Vec::new()),
        Fault::too_many(1),
        Fault::status(500),
        Fault::status(502),
        Fault::status(503),
        Fault::WrongByte,
        Fault::Shortened(3),
        Fault::Lengthened(7),
        Fault::redirect(&format!("http://{attacker}/v2/elsewhere")),
        Fault::WithoutHeader("location".to_owned()),
        Fault::ForeignLocation(attacker.to_owned()),
        header("link", "<?again>; rel=\"next\""),
        answer(200, &[("Content-Type", "application/vnd.oci.image.index.v1+json")], vec![b' '; 5 << 20]),
        header("content-encoding", "gzip"),
    ]
}

struct Known;

impl CredentialProvider for Known {
    fn credential(&self, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(Some(Credential::Basic { username: "ann".into(), password: "hunter2".into() }))
    }
}

/// A registry with a password, and an image in the binary's store and in the registry.
struct Rig {
    onetag: Onetag,
    upstream: InProcess,
    digest: String,
    client: Client,
}

/// A proxy before the registry that misbehaves, and where it sends to.
struct Trap {
    proxy: FaultyRegistry,
    attacker: FaultyRegistry,
    folder: PathBuf,
}

impl Rig {
    fn start() -> Rig {
        let onetag = Onetag::new(BINARY, User::current());
        let htpasswd = onetag.file("htpasswd", HTPASSWD);
        let upstream = InProcess::with(|options| options.htpasswd = Some(htpasswd));
        onetag.file("../config/config.json", auths(&upstream.name()));
        onetag.file("config.toml", "[transfer]\nattempts = 3\nstall = 1\n");
        onetag.file("app/Dockerfile", "FROM scratch\nCOPY note /note\n");
        onetag.file("app/note", "a note that is in every image\n");
        onetag.ok("build --progress plain --platform linux/amd64,linux/arm64 --load -t app:v1 app");
        let name = format!("{}/app:v1", upstream.name());
        onetag.ok(&format!("copy store:app:v1 {name}"));
        let digest = onetag.ok(&format!("imagetools inspect --raw {name}")).stdout;
        let client = Client::new(ClientOptions { credentials: Arc::new(Known), ..ClientOptions::default() });
        Rig { digest: Digest::sha256(&digest).to_string(), onetag, upstream, client }
    }

    /// The digest of the layer of both images.
    fn layer(&self) -> String {
        let name = Reference::parse(&format!("{}/app:v1", self.upstream.name())).expect("a reference");
        let index = self.client.manifest(&name).expect("the index");
        let child = index.as_index().expect("an index").manifests[0].digest.clone();
        let manifest = self.client.manifest(&name.without_tag().with_digest(child)).expect("a manifest");
        manifest.as_manifest().expect("a manifest").layers[0].digest.to_string()
    }

    fn trap(&self, number: usize) -> Trap {
        let proxy = FaultyRegistry::start(self.upstream.address());
        let attacker = FaultyRegistry::start(self.upstream.address());
        attacker.add(Rule { method: None, ..Rule::always("", "", Fault::status(404)) });
        let folder = self.onetag.work().join(format!("case-{number}"));
        std::fs::create_dir_all(folder.join("config")).expect("own folder");
        std::fs::write(folder.join("config/config.json"), auths(&proxy.name())).expect("own folder");
        Trap { proxy, attacker, folder }
    }

    fn run(&self, trap: &Trap, own_store: bool, line: &str) -> Finished {
        let mut command = self.onetag.command(line.split_whitespace());
        command.env("DOCKER_CONFIG", trap.folder.join("config"));
        command.env("ONETAG_CONFIG", self.onetag.work().join("config.toml"));
        if own_store {
            command.env("ONETAG_ROOT", trap.folder.join("store"));
        }
        Running::start(&mut command).finish(LIMIT)
    }
}

fn auths(host: &str) -> String {
    format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{SECRET}\"}}}}}}")
}

/// Asserts what holds whatever the command said, and whether it succeeded.
fn judge(context: &str, finished: &Finished, trap: &Trap) -> bool {
    for request in trap.attacker.requests() {
        let head = request.head.to_ascii_lowercase();
        assert!(!head.contains("authorization:") && !head.contains("hunter2"), "{context}: told elsewhere: {head}");
    }
    assert!(!finished.stderr.contains("panicked at"), "{context}\n{finished}");
    assert!(!finished.stderr.contains(SECRET) && !finished.stderr.contains("hunter2"), "{context}\n{finished}");
    match finished.status.code() {
        Some(0) => true,
        Some(1) => {
            let errors = finished.stderr.lines().filter(|line| line.to_ascii_lowercase().starts_with("error:")).count();
            assert_eq!(errors, 1, "{context}: one error\n{finished}");
            false
        }
        _ => panic!("{context}\n{finished}"),
    }
}

/// Asserts that every blob of a store is what its name says, and gives the names of its images.
fn check_store(context: &str, store: &Path) -> String {
    for entry in std::fs::read_dir(store.join("blobs/sha256")).into_iter().flatten().flatten() {
        let content = std::fs::read(entry.path()).expect("a blob");
        let digest = Digest::sha256(&content);
        assert_eq!(digest.encoded(), entry.file_name().to_string_lossy(), "{context}: a wrong byte is stored");
    }
    std::fs::read_to_string(store.join("index.json")).unwrap_or_default()
}

/// How many requests a command makes when nothing goes wrong.
fn count(rig: &Rig, own_store: bool, line: &dyn Fn(&Trap, usize) -> String) -> usize {
    let trap = rig.trap(0);
    rig.run(&trap, own_store, &line(&trap, 0)).success();
    trap.proxy.requests().len()
}

/// Runs every fault at every request, on a few threads. `line` makes the command of a case, `check` looks at what it left and is
/// told whether the command succeeded.
fn every_fault(
    rig: &Rig,
    own_store: bool,
    line: &(dyn Fn(&Trap, usize) -> String + Sync),
    check: &(dyn Fn(&str, &Trap, usize, bool) + Sync),
) {
    let requests = count(rig, own_store, &|trap, number| line(trap, number));
    let kinds = faults("x").len();
    let (next, succeeded) = (AtomicUsize::new(0), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, Ordering::SeqCst);
                    if case >= kinds * requests {
                        return;
                    }
                    let trap = rig.trap(case + 1);
                    let fault = faults(&trap.attacker.name()).swap_remove(case % kinds);
                    let at = case / kinds;
                    let name = match &fault {
                        Fault::Answer { status, .. } => format!("an answer of its own, {status},"),
                        fault => format!("{fault:?}"),
                    };
                    trap.proxy.add(Rule { method: None, path: String::new(), after: at, times: 1, fault });
                    let command = line(&trap, case + 1);
                    let context = format!("{name} at request {at} of `{command}`");
                    let finished = rig.run(&trap, own_store, &command);
                    let success = judge(&context, &finished, &trap);
                    check(&context, &trap, case + 1, success);
                    *succeeded.lock().expect("a count") += usize::from(success);
                    std::fs::remove_dir_all(&trap.folder).expect("own folder");
                }
            });
        }
    });
    // Resets, ends, stalls, refusals and the five statuses pass.
    let succeeded = succeeded.into_inner().expect("a count");
    assert!(succeeded >= 8 * requests, "only {succeeded} of {} went well in the end", kinds * requests);
}

/// What a registry has under a name, fetched whole.
fn fetched_whole(rig: &Rig, name: &str) -> Option<String> {
    let reference = Reference::parse(name).expect("a reference");
    let document = match rig.client.manifest(&reference) {
        Err(error) if error.is_not_found() => return None,
        document => document.expect("the registry answers"),
    };
    for child in &document.as_index().expect("an index").manifests {
        let child = reference.without_tag().with_digest(child.digest.clone());
        let manifest = rig.client.manifest(&child).expect("no partial tag");
        let manifest = manifest.as_manifest().expect("a manifest");
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            rig.client.fetch_blob(&reference, blob, &mut Vec::new()).expect("no partial tag");
        }
    }
    Some(document.digest().to_string())
}

#[test]
fn every_fault_at_every_request_of_a_pull() {
    let rig = Rig::start();
    let line = |trap: &Trap, _: usize| format!("pull --quiet --all-platforms {}/app:v1", trap.proxy.name());
    every_fault(&rig, true, &line, &|context, trap, _, success| {
        let named = check_store(context, &trap.folder.join("store"));
        assert_eq!(named.contains(&trap.proxy.name()), success, "{context}: {named}");
        assert_eq!(named.contains(&rig.digest), success, "{context}: {named}");
    });
}

#[test]
fn every_fault_at_every_request_of_a_copy() {
    let rig = Rig::start();
    let line =
        |trap: &Trap, number: usize| format!("copy --quiet store:app:v1 {}/copied-{number}:v1", trap.proxy.name());
    every_fault(&rig, false, &line, &|context, _, number, success| {
        let stored = fetched_whole(&rig, &format!("{}/copied-{number}:v1", rig.upstream.name()));
        // The answer may have been lost after the tag had moved.
        assert!(stored.as_ref().is_none_or(|digest| *digest == rig.digest), "{context}");
        assert!(stored.is_some() || !success, "{context}");
    });
}

#[test]
fn every_fault_at_every_request_of_a_push() {
    let rig = Rig::start();
    let line = |trap: &Trap, number: usize| {
        let name = format!("{}/pushed-{number}:v1", trap.proxy.name());
        rig.onetag.ok(&format!("tag app:v1 {name}"));
        format!("push --quiet {name}")
    };
    every_fault(&rig, false, &line, &|context, _, number, success| {
        let stored = fetched_whole(&rig, &format!("{}/pushed-{number}:v1", rig.upstream.name()));
        assert!(stored.as_ref().is_none_or(|digest| *digest == rig.digest), "{context}");
        assert!(stored.is_some() || !success, "{context}");
    });
}

#[test]
fn a_layer_of_another_length_at_first_is_fetched_again_and_unpacked() {
    let rig = Rig::start();
    let trap = rig.trap(0);
    let layer = rig.layer();
    trap.proxy.add(Rule::once("GET", &layer, Fault::Lengthened(7)));
    let line = format!("pull --quiet --unpack --platform linux/amd64 {}/app:v1", trap.proxy.name());
    rig.run(&trap, true, &line).success();
    let came = trap.proxy.requests().iter().filter(|request| request.path.contains(&layer)).count();
    assert_eq!(came, 2, "it came twice");
    let layers = std::fs::read_dir(trap.folder.join("store/layers/sha256")).expect("a folder").count();
    assert_eq!(layers, 1);
}
