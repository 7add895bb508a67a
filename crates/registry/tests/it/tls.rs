//! The server over TLS with passwords, and a client that finds out.

use std::path::PathBuf;
use std::sync::Arc;

use onetag_oci::Reference;
use onetag_registry::client::HostOptions;
use onetag_registry::credential::{ConfigFiles, Credential, CredentialProvider, ProcessHelpers};
use onetag_registry::server::{Options, Server, ServerError, TlsFiles};
use onetag_registry::{Client, Error};

use crate::support::{TestRegistry, push_index, quick};

pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A registry with TLS and the user ann, whose password is hunter2.
pub fn protected() -> (TestRegistry, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    let htpasswd = folder.path().join("htpasswd");
    std::fs::write(&htpasswd, format!("ann:{}\n", bcrypt::hash("hunter2", 4).expect("hash"))).expect("written");
    let registry = TestRegistry::start_with(|options| {
        options.tls = Some(TlsFiles { certificate: data("server.pem"), key: data("server.key") });
        options.htpasswd = Some(htpasswd);
    });
    (registry, folder)
}

fn client(folder: &tempfile::TempDir, registry: &TestRegistry, host: HostOptions) -> Client {
    let config = folder.path().join("config.json");
    let files = ConfigFiles::new(vec![config], Arc::new(ProcessHelpers::default()));
    let credential = Credential::Basic { username: "ann".into(), password: "hunter2".into() };
    files.store(&registry.host(), &credential).expect("stored");
    let mut options = quick();
    options.credentials = Arc::new(files);
    options.hosts.insert(registry.host(), host);
    Client::new(options)
}

#[test]
fn tls_on_this_machine_is_found_out() {
    let (registry, folder) = protected();
    let client = client(&folder, &registry, HostOptions::default());
    let index = push_index(&client, &registry.reference("app:v1"));
    assert_eq!(client.manifest(&registry.reference("app:v1")).expect("manifest").bytes(), index);
    client.check_access(&registry.host()).expect("access");
}

#[test]
fn certificates_are_verified_where_an_authority_is_named() {
    let (registry, folder) = protected();
    let with = |authority: &str| HostOptions {
        certificate_authorities: vec![data(authority)],
        plain_http: Some(false),
        ..HostOptions::default()
    };
    let good = client(&folder, &registry, with("ca.pem"));
    push_index(&good, &registry.reference("app:v1"));
    let error = client(&folder, &registry, with("other-ca.pem")).resolve(&registry.reference("app:v1"));
    let error = error.expect_err("an authority that did not sign it");
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    let insecure = HostOptions { insecure: true, ..with("other-ca.pem") };
    client(&folder, &registry, insecure).resolve(&registry.reference("app:v1")).expect("resolved");
    let missing = client(&folder, &registry, with("absent.pem")).resolve(&registry.reference("app:v1"));
    assert!(matches!(missing.expect_err("no file"), Error::Tls { .. } | Error::Connect { .. }));
}

#[test]
fn passwords_are_asked_for() {
    let (registry, folder) = protected();
    let error = Client::new(quick()).resolve(&registry.reference("app:v1")).expect_err("no password");
    assert!(matches!(error, Error::Unauthorized { had_credentials: false, .. }), "{error:?}");
    let config = folder.path().join("wrong.json");
    let files = ConfigFiles::new(vec![config], Arc::new(ProcessHelpers::default()));
    let wrong = Credential::Basic { username: "ann".into(), password: "wrong".into() };
    files.store(&registry.host(), &wrong).expect("stored");
    let mut options = quick();
    options.credentials = Arc::new(files);
    let error = Client::new(options).resolve(&registry.reference("app:v1")).expect_err("wrong password");
    assert!(matches!(error, Error::Unauthorized { had_credentials: true, .. }), "{error:?}");
}

#[test]
fn addresses_that_others_reach_need_protection() {
    let folder = tempfile::tempdir().expect("folder");
    let mut options = Options::new(folder.path());
    options.address = "0.0.0.0:0".parse().expect("address");
    let refused = |options: &Options| matches!(Server::bind(options), Err(ServerError::Unprotected { .. }));
    assert!(refused(&options));
    options.tls = Some(TlsFiles { certificate: data("server.pem"), key: data("server.key") });
    assert!(refused(&options));
    options.policy.read_only = true;
    assert!(!refused(&options));
    options.tls = None;
    assert!(refused(&options));
    options.allow_unprotected = true;
    assert!(!refused(&options));
}

#[test]
fn credential_files_keep_what_they_do_not_know() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("config.json");
    let text = r#"{"psFormat":"x","auths":{"https://index.docker.io/v1/":{"auth":"Ym9iOnB3"},"old.example":{"identitytoken":"t"}},"proxies":{}}"#;
    std::fs::write(&path, text).expect("written");
    let files = ConfigFiles::new(vec![path.clone()], Arc::new(ProcessHelpers::default()));
    let bob = Credential::Basic { username: "bob".into(), password: "pw".into() };
    assert_eq!(files.credential("docker.io").expect("read"), Some(bob.clone()));
    assert_eq!(files.credential("old.example").expect("read"), Some(Credential::IdentityToken("t".into())));
    assert_eq!(files.credential("new.example:5000").expect("read"), None);
    files.store("new.example:5000", &bob).expect("stored");
    assert_eq!(files.credential("new.example:5000").expect("read"), Some(bob));
    assert!(files.erase("docker.io").expect("erased"));
    assert!(!files.erase("docker.io").expect("erased"));
    assert_eq!(files.credential("docker.io").expect("read"), None);
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("json");
    assert_eq!((kept["psFormat"].as_str(), kept["proxies"].is_object()), (Some("x"), true));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
}

#[test]
fn credential_helpers_are_asked() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("folder");
    let program = folder.path().join("docker-credential-test");
    let script = "#!/bin/sh\nread server\ncase \"$1 $server\" in\n\
        'get docker.example') echo '{\"ServerURL\":\"x\",\"Username\":\"ann\",\"Secret\":\"s3\"}';;\n\
        'get token.example') echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}';;\n\
        get*) echo 'credentials not found in native keychain'; exit 1;;\n\
        store*) exit 0;; esac\n";
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let config = folder.path().join("config.json");
    std::fs::write(&config, r#"{"credsStore":"test","credHelpers":{"other.example":"absent"}}"#).expect("written");
    let helpers = ProcessHelpers { folders: vec![folder.path().to_owned()], environment: Vec::new() };
    let files = ConfigFiles::new(vec![config.clone()], Arc::new(helpers));
    let ann = Credential::Basic { username: "ann".into(), password: "s3".into() };
    assert_eq!(files.credential("docker.example").expect("read"), Some(ann.clone()));
    assert_eq!(files.credential("token.example").expect("read"), Some(Credential::IdentityToken("t".into())));
    assert_eq!(files.credential("unknown.example").expect("read"), None);
    let error = files.credential("other.example").expect_err("no such helper");
    assert_eq!(error.to_string(), "cannot run credential helper docker-credential-absent");
    files.store("new.example", &ann).expect("stored");
    let text = std::fs::read_to_string(&config).expect("read");
    assert!(text.contains("new.example") && !text.contains("s3"), "{text}");
}

#[test]
fn references_over_names_of_this_machine() {
    let (registry, folder) = protected();
    let port = registry.address().port();
    let config = folder.path().join("config.json");
    let files = ConfigFiles::new(vec![config], Arc::new(ProcessHelpers::default()));
    let host = format!("localhost:{port}");
    let credential = Credential::Basic { username: "ann".into(), password: "hunter2".into() };
    files.store(&host, &credential).expect("stored");
    let mut options = quick();
    options.credentials = Arc::new(files);
    let reference = Reference::parse(&format!("{host}/absent:v1")).expect("reference");
    assert!(Client::new(options).resolve(&reference).expect_err("absent").is_not_found());
}

#[test]
fn certificates_are_shown_to_registries_that_ask() {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::{Read, Write};
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data("client-ca.pem")).expect("certificate")).expect("added");
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = CertificateDer::pem_file_iter(data("server.pem")).expect("chain").collect::<Result<Vec<_>, _>>();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("verifier"))
        .with_single_cert(chain.expect("chain"), PrivateKeyDer::from_pem_file(data("server.key")).expect("key"))
        .expect("configuration");
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let host = listener.local_addr().expect("address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut connection = rustls::ServerConnection::new(config.clone()).expect("connection");
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            let mut request = [0; 4096];
            if tls.read(&mut request).is_ok_and(|length| length > 0) {
                let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                let _ = tls.write_all(answer).and_then(|()| tls.flush());
            }
        }
    });
    let ask = |pairs: Vec<onetag_registry::client::KeyPair>| {
        let mut options = quick();
        options.retry.attempts = 2;
        let own = HostOptions { plain_http: Some(false), key_pairs: pairs, ..HostOptions::default() };
        options.hosts.insert(host.clone(), own);
        Client::new(options).resolve(&Reference::parse(&format!("{host}/a:v1")).expect("reference"))
    };
    let pair = onetag_registry::client::KeyPair { key: data("client.key"), certificate: data("client.pem") };
    assert!(ask(vec![pair]).expect_err("absent").is_not_found());
    assert!(!ask(Vec::new()).expect_err("no certificate").is_not_found());
}
