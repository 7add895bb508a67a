//! Registries as the user configures them, in the shape of BuildKit's `[registry."host"]` table.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use url::Url;

use crate::error::Error;

/// What is configured for one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostOptions {
    /// Hosts asked first for manifests and blobs, with an optional path (`mirror.example/proxy`), in order.
    pub mirrors: Vec<String>,
    /// Speak plain HTTP. `None` decides by the address: HTTP for loopback, HTTPS otherwise.
    pub plain_http: Option<bool>,
    /// Accept any certificate.
    pub insecure: bool,
    /// Files of certificates (PEM) to trust besides the usual ones.
    pub certificate_authorities: Vec<PathBuf>,
    /// Certificate and key files (PEM) to show to the host.
    pub key_pairs: Vec<KeyPair>,
}

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// File of the private key.
    pub key: PathBuf,
    /// File of the certificate chain.
    pub certificate: PathBuf,
}

/// What is configured, by host with port as it stands in references.
pub type Hosts = BTreeMap<String, HostOptions>;

/// A place where a registry's API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Name in references; credentials are looked up under it.
    pub(crate) registry: String,
    /// Where the API's `/v2/` is.
    pub(crate) base: Url,
    /// The host that a mirror stands in for.
    pub(crate) mirrored: Option<String>,
    /// Whether the scheme was configured, rather than guessed from the address.
    pub(crate) scheme_fixed: bool,
}

impl Endpoint {
    /// The address of something below `/v2/`; `path` is of names and digests that need no encoding.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/v2/{path}", self.base.path().trim_end_matches('/')));
        if let Some(mirrored) = &self.mirrored {
            url.query_pairs_mut().append_pair("ns", mirrored);
        }
        url
    }

    /// The same over TLS.
    pub(crate) fn over_tls(&self) -> Option<Endpoint> {
        let mut endpoint = self.clone();
        endpoint.base.set_scheme("https").ok()?;
        Some(endpoint)
    }
}

/// The registry itself.
pub(crate) fn origin(hosts: &Hosts, domain: &str) -> Result<Endpoint, Error> {
    let host = match domain {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        host => host,
    };
    endpoint(hosts, domain, host, None)
}

/// Mirrors in order and then the registry itself.
pub(crate) fn for_pull(hosts: &Hosts, domain: &str) -> Result<Vec<Endpoint>, Error> {
    let mirrors = hosts.get(domain).map(|options| options.mirrors.as_slice()).unwrap_or_default();
    let mut endpoints = Vec::with_capacity(mirrors.len() + 1);
    for mirror in mirrors {
        let bare = mirror.trim_start_matches("https://").trim_start_matches("http://");
        let host = bare.split('/').next().unwrap_or(bare);
        endpoints.push(endpoint(hosts, host, mirror, Some(domain))?);
    }
    endpoints.push(origin(hosts, domain)?);
    Ok(endpoints)
}

fn endpoint(hosts: &Hosts, registry: &str, address: &str, mirrored: Option<&str>) -> Result<Endpoint, Error> {
    let configured = hosts.get(registry).and_then(|options| options.plain_http);
    let said = address.contains("://");
    let invalid = |problem: &str| Error::Connect {
        host: address.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, problem.to_owned()),
    };
    let text = if said { address.to_owned() } else { format!("https://{address}") };
    let mut base = Url::parse(&text).map_err(|error| invalid(&error.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(invalid("not the address of a registry"));
    }
    let plain = configured.unwrap_or(if said { base.scheme() == "http" } else { is_loopback(&base) });
    if plain && base.scheme() == "https" {
        // Rebuilt from text, because changing the scheme would keep 443 as an unwritten port.
        let text = text.replacen("https://", "http://", 1);
        base = Url::parse(&text).map_err(|error| invalid(&error.to_string()))?;
    }
    Ok(Endpoint {
        registry: registry.to_owned(),
        base,
        mirrored: mirrored.map(str::to_owned),
        scheme_fixed: configured.is_some() || said,
    })
}

/// Whether an address is on this machine by its name alone.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => is_localhost(name),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Names that mean this machine (RFC 6761, section 6.3).
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// Whether an address is not one of the public internet.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || shared
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private(IpAddr::V4(v4)),
            None => v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_follow_the_address() {
        let hosts = Hosts::new();
        let base = |domain: &str| origin(&hosts, domain).expect("endpoint").base.to_string();
        assert_eq!(base("docker.io"), "https://registry-1.docker.io/");
        assert_eq!(base("localhost:5000"), "http://localhost:5000/");
        assert_eq!(base("localhost"), "http://localhost/");
        assert_eq!(base("127.0.0.1:443"), "http://127.0.0.1:443/");
        assert_eq!(base("[::1]:5000"), "http://[::1]:5000/");
        assert_eq!(base("ghcr.io"), "https://ghcr.io/");
        assert_eq!(base("10.0.0.1:5000"), "https://10.0.0.1:5000/");
    }

    #[test]
    fn mirrors_come_first() {
        let mut hosts = Hosts::new();
        let mirrors = vec!["mirror.example/proxy".to_owned(), "http://plain.example:5000".to_owned()];
        hosts.insert("docker.io".into(), HostOptions { mirrors, ..HostOptions::default() });
        hosts.insert("mirror.example".into(), HostOptions { plain_http: Some(true), ..HostOptions::default() });
        let endpoints = for_pull(&hosts, "docker.io").expect("endpoints");
        let urls: Vec<_> = endpoints.iter().map(|endpoint| endpoint.url("library/x/tags/list").to_string()).collect();
        assert_eq!(
            urls,
            [
                "http://mirror.example/proxy/v2/library/x/tags/list?ns=docker.io",
                "http://plain.example:5000/v2/library/x/tags/list?ns=docker.io",
                "https://registry-1.docker.io/v2/library/x/tags/list",
            ]
        );
    }
}
