//! TLS of the client: one configuration a host, made when it is first needed.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::client::hosts::{HostOptions, Hosts, is_localhost};

/// TLS configurations of all hosts.
pub(crate) struct TlsSettings {
    hosts: Hosts,
    made: Mutex<HashMap<String, Arc<ClientConfig>>>,
    usual: OnceLock<RootCertStore>,
}

impl TlsSettings {
    pub(crate) fn new(hosts: Hosts) -> Self {
        TlsSettings { hosts, made: Mutex::default(), usual: OnceLock::new() }
    }

    /// The configuration for a host; `port` as it was written.
    pub(crate) fn for_host(&self, host: &str, port: Option<u16>) -> io::Result<Arc<ClientConfig>> {
        let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(&authority) {
            return Ok(config.clone());
        }
        let named = if authority == "registry-1.docker.io" { "docker.io" } else { &authority };
        let default = HostOptions::default();
        let options = self.hosts.get(named).unwrap_or(&default);
        let config = Arc::new(self.make(options, is_this_machine(host))?);
        made.insert(authority, config.clone());
        Ok(config)
    }

    fn make(&self, options: &HostOptions, this_machine: bool) -> io::Result<ClientConfig> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let own = options.certificate_authorities.as_slice();
        // What does not leave this machine needs no proof of who is there, unless the user names an authority.
        let builder = if options.insecure || this_machine && own.is_empty() {
            let algorithms = provider.signature_verification_algorithms;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny { algorithms }))
        } else {
            let mut roots = self.usual.get_or_init(usual_roots).clone();
            for path in own {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| invalid(path, error))?;
                }
            }
            builder.with_root_certificates(roots)
        };
        let mut config = match options.key_pairs.first() {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|error| invalid(&pair.key, error))?;
                let chain = certificates(&pair.certificate)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| invalid(&pair.certificate, error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    is_localhost(host) || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What the machine trusts; Mozilla's list where it has no certificates at all.
fn usual_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// Certificates of a PEM file.
pub(crate) fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| invalid(path, error))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| invalid(path, error))?;
    if certificates.is_empty() {
        return Err(invalid(path, "no certificate in it"));
    }
    Ok(certificates)
}

fn invalid(path: &Path, problem: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {problem}", path.display()))
}

/// Accepts any certificate; signatures of the handshake are still checked.
#[derive(Debug)]
struct AcceptAny {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The provider of cryptography for both sides.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
