//! Tokens and passwords: fetched as registries want it, and told to nobody else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onetag_oci::{Reference, media_type};
use onetag_registry::credential::{Credential, CredentialError, CredentialProvider};
use onetag_registry::{Client, ClientOptions, Error, Pushed};

use crate::scripted::{Answer, Asked, Reaction, Scripted, forward};
use crate::support::{TestRegistry, describe, noise, quick};

struct Fixed(Option<Credential>);

impl CredentialProvider for Fixed {
    fn credential(&self, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(self.0.clone())
    }
}

fn client(credential: Option<Credential>) -> Client {
    Client::new(ClientOptions { credentials: Arc::new(Fixed(credential)), ..quick() })
}

fn ann() -> Option<Credential> {
    Some(Credential::Basic { username: "ann".into(), password: "hunter2".into() })
}

/// A registry that wants tokens, and their service under the same address.
struct TokenRegistry {
    front: Scripted,
    registry: TestRegistry,
    issued: Arc<AtomicUsize>,
    /// Requests that a token is good for.
    uses: Arc<AtomicUsize>,
}

impl TokenRegistry {
    fn start<R: Into<Reaction>>(token: impl Fn(&Asked, usize) -> R + Send + Sync + 'static) -> Self {
        let registry = TestRegistry::start();
        let upstream = registry.address();
        let issued = Arc::new(AtomicUsize::new(0));
        let uses = Arc::new(AtomicUsize::new(usize::MAX));
        let used: Mutex<(String, usize)> = Mutex::default();
        let (counter, limit) = (issued.clone(), uses.clone());
        let front = Scripted::start(move |asked| {
            if asked.target.starts_with("/token") {
                let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
                return token(asked, number).into();
            }
            let current = format!("Bearer token-{}", counter.load(Ordering::SeqCst));
            let shown = asked.header("authorization").unwrap_or_default().to_owned();
            let mut used = used.lock().expect("uses");
            if used.0 != shown {
                *used = (shown.clone(), 0);
            }
            used.1 += 1;
            if shown == current && used.1 <= limit.load(Ordering::SeqCst) {
                return forward(upstream, asked).react();
            }
            let repository = asked.target.split('/').nth(2).unwrap_or_default();
            let challenge =
                format!("Bearer realm=\"/token\",service=\"test service\",scope=\"repository:{repository}:pull\"");
            Answer::new(401).with("www-authenticate", &challenge).react()
        });
        TokenRegistry { front, registry, issued, uses }
    }

    fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.front.host())).expect("reference")
    }

    fn token_requests(&self) -> Vec<Asked> {
        self.front.asked().into_iter().filter(|asked| asked.target.starts_with("/token")).collect()
    }
}

fn token(number: usize) -> Answer {
    Answer::new(200).body(format!("{{\"token\":\"token-{number}\",\"expires_in\":300}}"))
}

#[test]
fn tokens_are_fetched_once_and_with_merged_scopes() {
    let registry = TokenRegistry::start(|_, number| token(number));
    let client = client(ann());
    let reference = registry.reference("app:v1");
    let blob = noise(100_000, 1);
    let descriptor = describe(&blob, media_type::OCI_LAYER);
    assert_eq!(client.push_blob(&reference, &descriptor, &blob, &[]).expect("pushed"), Pushed::Uploaded);
    assert_eq!(registry.issued.load(Ordering::SeqCst), 1);
    let asked = &registry.token_requests()[0];
    assert!(asked.target.contains("scope=repository%3Aapp%3Apull%2Cpush"), "{}", asked.target);
    assert!(asked.target.contains("service=test+service"), "{}", asked.target);
    assert!(asked.target.contains("account=ann"), "{}", asked.target);
    assert_eq!(asked.header("authorization"), Some("Basic YW5uOmh1bnRlcjI="));
    let other = registry.reference("other");
    let mounted = client.push_blob(&other, &descriptor, &blob, std::slice::from_ref(&reference)).expect("pushed");
    assert_eq!(mounted, Pushed::Mounted);
    let merged = registry.token_requests().pop().expect("a request").target;
    assert!(
        merged.contains("repository%3Aapp%3Apull&") && merged.contains("repository%3Aother%3Apull%2Cpush"),
        "{merged}"
    );
}

#[test]
fn anonymous_tokens_need_no_credentials() {
    let registry = TokenRegistry::start(|asked, number| {
        assert_eq!(asked.header("authorization"), None);
        token(number)
    });
    let error = client(None).resolve(&registry.reference("absent:v1")).expect_err("absent");
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn tokens_that_end_early_are_renewed() {
    let registry = TokenRegistry::start(|_, number| token(number));
    registry.uses.store(2, Ordering::SeqCst);
    let client = client(ann());
    let reference = registry.reference("app:v1");
    for seed in 0..4 {
        let blob = noise(300_000, seed);
        let descriptor = describe(&blob, media_type::OCI_LAYER);
        client.push_blob(&reference, &descriptor, &blob, &[]).expect("pushed");
        let mut fetched = Vec::new();
        client.fetch_blob(&reference, &descriptor, &mut fetched).expect("fetched");
        assert_eq!(fetched, blob);
    }
    assert!(registry.issued.load(Ordering::SeqCst) > 4);
    drop(registry.registry);
}

#[test]
fn identity_tokens_are_posted() {
    let registry = TokenRegistry::start(|asked, number| {
        assert_eq!(asked.method, "POST");
        let form = String::from_utf8(asked.body.clone()).expect("form");
        assert!(form.contains("grant_type=refresh_token&refresh_token=identity%2B1&service=test%20service"), "{form}");
        Answer::new(200).body(format!("{{\"access_token\":\"token-{number}\"}}"))
    });
    let error = client(Some(Credential::IdentityToken("identity+1".into())))
        .resolve(&registry.reference("absent:v1"))
        .expect_err("absent");
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn services_without_get_are_posted_the_password() {
    let registry = TokenRegistry::start(|asked, number| match asked.method.as_str() {
        "POST" => {
            let form = String::from_utf8(asked.body.clone()).expect("form");
            assert!(form.contains("grant_type=password&username=ann&password=hunter2"), "{form}");
            token(number)
        }
        _ => Answer::new(405),
    });
    let error = client(ann()).resolve(&registry.reference("absent:v1")).expect_err("absent");
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn refusals_of_token_services_are_told() {
    let registry = TokenRegistry::start(|_, _| {
        Answer::new(401)
            .body("{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"incorrect username or password\"}]}")
    });
    let error = client(ann()).resolve(&registry.reference("a:v1")).expect_err("refused");
    assert!(error.to_string().contains("incorrect username or password"), "{error}");
    assert!(!error.to_string().contains("hunter2"));
}

/// What a token service may do to its first client; whether a repetition helps.
fn token_faults(attacker: &str) -> Vec<(&'static str, Reaction, bool)> {
    let ok = || Answer::new(200);
    vec![
        ("reset", Reaction::Close, true),
        ("stall", Reaction::Stall(Duration::from_millis(250)), true),
        ("half a head", Reaction::Raw(b"HTTP/1.1 200 OK\r\nconte".to_vec()), true),
        ("half a body", Reaction::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"tok".to_vec()), true),
        ("429", Answer::new(429).with("retry-after", "0").into(), true),
        ("500", Answer::new(500).into(), true),
        ("502", Answer::new(502).into(), true),
        ("503", Answer::new(503).into(), true),
        ("401", Answer::new(401).into(), false),
        ("403", Answer::new(403).into(), false),
        ("no JSON", ok().body("<html>sign in</html>").into(), false),
        ("no token", ok().body("{}").into(), false),
        ("a token of two lines", ok().body("{\"token\":\"a\\r\\nx-evil: 1\"}").into(), false),
        ("a token without end", ok().body(vec![b' '; 5 << 20]).into(), false),
        ("a redirect", Answer::new(307).with("location", &format!("http://{attacker}/token")).into(), false),
        ("a challenge of its own", Answer::new(401).with("www-authenticate", "Bearer realm=\"/token\"").into(), false),
    ]
}

#[test]
fn faults_of_token_services_pass_or_are_told() {
    let attacker = Scripted::start(|_| Answer::new(200).body("{\"token\":\"stolen\"}").react());
    for (name, reaction, passes) in token_faults(&attacker.host()) {
        let registry =
            TokenRegistry::start(move |_, number| if number == 1 { reaction.clone() } else { token(number).react() });
        let started = Instant::now();
        let error = client(ann()).resolve(&registry.reference("absent:v1")).expect_err("absent");
        assert!(started.elapsed() < Duration::from_secs(20), "{name}");
        assert!(!passes || error.is_not_found(), "{name}: {error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{name}: {error:?}");
        let asked = registry.token_requests();
        assert!(asked.len() <= 4, "{name}: asked {} times", asked.len());
        let injected = registry.front.asked().iter().any(|asked| asked.header("x-evil").is_some());
        assert!(!injected, "{name}");
    }
    for asked in attacker.asked() {
        assert_eq!(asked.header("authorization"), None, "{}", asked.target);
        assert!(!String::from_utf8_lossy(&asked.body).contains("hunter2") && !asked.target.contains("hunter2"));
    }
}

#[test]
fn a_token_service_that_never_recovers_is_given_up() {
    for status in [429, 500, 503] {
        let registry = TokenRegistry::start(move |_, _| Answer::new(status).with("retry-after", "0"));
        let error = client(ann()).resolve(&registry.reference("a:v1")).expect_err("no token");
        assert!(error.to_string().contains(&format!("status {status}")), "{status}: {error}");
        assert!(registry.token_requests().len() < 10, "{status}: asked {} times", registry.token_requests().len());
    }
}

#[test]
fn wrong_passwords_are_not_tried_for_ever() {
    let front = Scripted::start(|_| Answer::new(401).with("www-authenticate", "Basic realm=\"x\"").react());
    let reference = Reference::parse(&format!("{}/a:v1", front.host())).expect("reference");
    let error = client(ann()).resolve(&reference).expect_err("refused");
    assert!(matches!(error, Error::Unauthorized { had_credentials: true, .. }), "{error}");
    assert!(front.asked().len() <= 3, "{}", front.asked().len());
    let error = client(None).resolve(&reference).expect_err("refused");
    assert!(matches!(error, Error::Unauthorized { had_credentials: false, .. }), "{error}");
}

#[test]
fn redirected_downloads_carry_no_credentials() {
    let registry = TestRegistry::start();
    let blob = noise(200_000, 4);
    let descriptor = describe(&blob, media_type::OCI_LAYER);
    crate::support::client().push_blob(&registry.reference("a"), &descriptor, &blob, &[]).expect("pushed");
    let upstream = registry.address();
    let elsewhere = Arc::new(Scripted::start(move |asked| {
        let bare = Asked { headers: Vec::new(), ..asked.clone() };
        let answer = forward(upstream, &bare);
        // The signed address is told to break once, so that the resumption is looked at as well.
        if asked.header("range").is_none() {
            let mut bytes = answer.bytes("GET");
            bytes.truncate(bytes.len() / 2);
            return Reaction::Raw(bytes);
        }
        forward(
            upstream,
            &Asked { headers: vec![("range".into(), asked.header("range").unwrap_or_default().into())], ..bare },
        )
        .react()
    }));
    let target = elsewhere.host();
    let front = Scripted::start(move |asked| match asked.header("authorization") {
        None => Answer::new(401).with("www-authenticate", "Basic realm=\"x\"").react(),
        Some(_) => Answer::new(307).with("location", &format!("http://{target}{}", asked.target)).react(),
    });
    let reference = Reference::parse(&format!("{}/a", front.host())).expect("reference");
    let mut fetched = Vec::new();
    client(ann()).fetch_blob(&reference, &descriptor, &mut fetched).expect("fetched");
    assert_eq!(fetched, blob);
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
    assert!(asked[1].header("range").is_some_and(|range| range.starts_with("bytes=") && range.ends_with('-')));
}

#[test]
fn mirrors_are_asked_first_and_pass_for_nobody_else() {
    let registry = TestRegistry::start();
    let origin_client = crate::support::client();
    let index = crate::support::push_index(&origin_client, &registry.reference("app:v1"));
    let mirror = Scripted::start(|_| Answer::new(404).react());
    let mut options = quick();
    let mirrors = vec![mirror.host()];
    options.hosts.insert(registry.host(), onetag_registry::client::HostOptions { mirrors, ..Default::default() });
    let client = Client::new(options);
    assert_eq!(client.manifest(&registry.reference("app:v1")).expect("manifest").bytes(), index);
    let asked = mirror.asked();
    let namespace = registry.host();
    assert!(asked[0].target.starts_with("/v2/app/manifests/v1?ns="), "{}", asked[0].target);
    assert!(asked[0].target.contains(&namespace.replace(':', "%3A")), "{}", asked[0].target);
}

#[test]
fn proxies_are_asked_for_what_is_not_on_this_machine() {
    let proxy = Scripted::start(|_| Answer::new(404).react());
    let mut options = quick();
    let address = format!("http://user:pa%20ss@{}", proxy.host());
    options.proxies.http = url::Url::parse(&address).ok();
    let plain = onetag_registry::client::HostOptions { plain_http: Some(true), ..Default::default() };
    options.hosts.insert("registry.test".into(), plain);
    let client = Client::new(options);
    let error = client.resolve(&Reference::parse("registry.test/a:v1").expect("reference")).expect_err("absent");
    assert!(error.is_not_found(), "{error}");
    let asked = &proxy.asked()[0];
    assert_eq!(asked.target, "http://registry.test/v2/a/manifests/v1");
    // The base64 of "user:pa ss".
    assert_eq!(asked.header("proxy-authorization"), Some("Basic dXNlcjpwYSBzcw=="));
    let direct = TestRegistry::start();
    assert!(client.resolve(&direct.reference("absent:v1")).expect_err("absent").is_not_found());
    assert_eq!(proxy.asked().len(), 1);
}

#[test]
fn tunnels_lead_to_tls() {
    use std::io::{BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    let (registry, _folder) = crate::tls::protected();
    let upstream = registry.address();
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let proxy = listener.local_addr().expect("address");
    let tunnels = Arc::new(Mutex::new(Vec::new()));
    let log = tunnels.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("clone"));
            let Ok(Some(asked)) = crate::scripted::read_request(&mut reader) else { continue };
            log.lock().expect("log").push(asked);
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 200 Connected\r\nvia: test\r\n\r\n").expect("answered");
            let remote = TcpStream::connect(upstream).expect("upstream");
            let (mut from, mut to) = (stream.try_clone().expect("clone"), remote.try_clone().expect("clone"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (remote, stream);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    let mut options = quick();
    options.credentials = Arc::new(Fixed(ann()));
    options.proxies.https = url::Url::parse(&format!("http://{proxy}")).ok();
    // The name is in no certificate, and resolved by nobody but the proxy.
    let insecure = onetag_registry::client::HostOptions { insecure: true, ..Default::default() };
    options.hosts.insert("registry.test:5000".into(), insecure);
    let reference = Reference::parse("registry.test:5000/a:v1").expect("reference");
    let error = Client::new(options).resolve(&reference).expect_err("absent");
    assert!(error.is_not_found(), "{error:?}");
    let tunnels = tunnels.lock().expect("log");
    assert_eq!((tunnels[0].method.as_str(), tunnels[0].target.as_str()), ("CONNECT", "registry.test:5000"));
    assert!(tunnels.iter().all(|asked| asked.header("authorization").is_none()));
}
