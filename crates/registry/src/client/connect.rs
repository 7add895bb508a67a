//! Connections: names to addresses, TCP, proxies and TLS.
//!
//! Names of this machine and literal addresses need neither resolver nor configuration; everything that costs time is made when it
//! is first needed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use url::Url;

use super::hosts::is_localhost;
use crate::tls::TlsSettings;

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// After how long the next address is tried beside those before it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Which requests go through a proxy.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// Proxy for plain HTTP.
    pub http: Option<Url>,
    /// Proxy for HTTPS.
    pub https: Option<Url>,
    /// Hosts reached directly, in the form of NO_PROXY: domains (with all below them), addresses, networks, `*`.
    pub exceptions: Vec<String>,
}

impl ProxyOptions {
    fn for_target(&self, secure: bool, host: &str, port: u16) -> Option<&Url> {
        let proxy = if secure { self.https.as_ref() } else { self.http.as_ref() }?;
        let local = is_localhost(host) || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let excepted = self.exceptions.iter().any(|exception| matches_exception(exception.trim(), host, port));
        (!local && !excepted).then_some(proxy)
    }
}

fn matches_exception(exception: &str, host: &str, port: u16) -> bool {
    if exception == "*" {
        return true;
    }
    if let Some((network, bits)) = exception.split_once('/') {
        let (Ok(network), Ok(bits), Ok(host)) = (network.parse(), bits.parse(), host.parse()) else { return false };
        return in_network(host, network, bits);
    }
    let (name, wanted) = match exception.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') => match digits.parse::<u16>() {
            Ok(wanted) => (name, Some(wanted)),
            Err(_) => return false,
        },
        _ => (exception, None),
    };
    if name.is_empty() || wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let host = host.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    let suffix = name.trim_start_matches("*.").trim_start_matches('.');
    (host == suffix && !name.starts_with('.')) || host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

fn in_network(host: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (host, network) {
        (IpAddr::V4(host), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            host.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(host), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            host.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

/// Makes connections for the pool.
#[derive(Clone)]
pub(crate) struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    resolver: OnceCell<TokioResolver>,
    tls: TlsSettings,
    proxies: ProxyOptions,
}

impl Connector {
    pub(crate) fn new(tls: TlsSettings, proxies: ProxyOptions) -> Self {
        Connector { shared: Arc::new(Shared { resolver: OnceCell::new(), tls, proxies }) }
    }

    /// Addresses of a host, best first.
    pub(crate) async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        if is_localhost(host) {
            return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        }
        let resolver = self.shared.resolver.get_or_try_init(|| async {
            TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build).map_err(io::Error::other)
        });
        let found = resolver.await?.lookup_ip(host).await;
        let found = found.map_err(|error| unresolved(host, &error))?;
        let (v6, v4): (Vec<_>, Vec<_>) = found.iter().partition(IpAddr::is_ipv6);
        let longest = v6.len().max(v4.len());
        let mixed = (0..longest).flat_map(|index| [v6.get(index), v4.get(index)]).flatten().copied().collect();
        Ok(mixed)
    }

    /// Whether requests to an address go through a proxy, whose resolver is then not ours.
    pub(crate) fn is_proxied(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(0);
        self.shared.proxies.for_target(url.scheme() == "https", host, port).is_some()
    }

    async fn tcp(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let addresses = self.resolve(host).await?;
        let mut waiting = addresses.into_iter().map(|address| SocketAddr::new(address, port));
        let mut attempts = FuturesUnordered::new();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        loop {
            if let Some(address) = waiting.next() {
                attempts.push(attempt(address));
            }
            let more = waiting.len() > 0;
            tokio::select! {
                Some(attempted) = attempts.next() => match attempted {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failure = error,
                },
                () = tokio::time::sleep(ATTEMPT_DELAY), if more => {}
                else => return Err(failure),
            }
            if attempts.is_empty() && !more {
                return Err(failure);
            }
        }
    }

    async fn connect(self, target: Uri) -> io::Result<Stream> {
        let secure = target.scheme_str() == Some("https");
        let host = target.host().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let port = target.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let proxy = self.shared.proxies.for_target(secure, host.trim_matches(['[', ']']), port);
        let plain: Box<dyn Transport> = match proxy {
            None => Box::new(self.tcp(&host, port).await?),
            Some(proxy) => {
                let stream = self.to_proxy(proxy).await?;
                if !secure {
                    return Ok(Stream { io: TokioIo::new(stream), proxied: true, http2: false });
                }
                tunnel(stream, &host, port, proxy).await?
            }
        };
        if !secure {
            return Ok(Stream { io: TokioIo::new(plain), proxied: false, http2: false });
        }
        let config = self.shared.tls.for_host(&host, target.port_u16())?;
        let (stream, http2) = handshake(config, &host, plain).await?;
        Ok(Stream { io: TokioIo::new(stream), proxied: false, http2 })
    }

    async fn to_proxy(&self, proxy: &Url) -> io::Result<Box<dyn Transport>> {
        let host = proxy.host_str().ok_or(io::ErrorKind::InvalidInput)?;
        let port = proxy.port_or_known_default().unwrap_or(80);
        let stream = self.tcp(host, port).await?;
        match proxy.scheme() {
            "http" => Ok(Box::new(stream)),
            "https" => {
                let config = self.shared.tls.for_host(host, proxy.port())?;
                let mut config = rustls::ClientConfig::clone(&config);
                config.alpn_protocols.clear();
                Ok(handshake(Arc::new(config), host, Box::new(stream)).await?.0)
            }
            other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("proxies over {other} are not supported"))),
        }
    }
}

/// Why a name has no address, in words for who typed it. Of the kind [`io::ErrorKind::NotFound`] is what another try
/// would not change.
fn unresolved(host: &str, error: &NetError) -> io::Error {
    if error.is_nx_domain() {
        return io::Error::new(io::ErrorKind::NotFound, format!("there is no host {host}"));
    }
    if error.is_no_records_found() {
        return io::Error::new(io::ErrorKind::NotFound, format!("the host {host} has no address"));
    }
    io::Error::new(io::ErrorKind::HostUnreachable, format!("the address of {host} cannot be found out: {error}"))
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => {
            let stream = connected?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn handshake(
    config: Arc<rustls::ClientConfig>,
    host: &str,
    stream: Box<dyn Transport>,
) -> io::Result<(Box<dyn Transport>, bool)> {
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connecting = tokio_rustls::TlsConnector::from(config).connect(name, stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(connected) => {
            let stream = connected?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok((Box::new(stream), http2))
        }
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Asks a proxy for a tunnel (RFC 9110, section 9.3.6).
async fn tunnel(mut stream: Box<dyn Transport>, host: &str, port: u16, proxy: &Url) -> io::Result<Box<dyn Transport>> {
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(authorization) = proxy_authorization(proxy) {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // One byte at a time: what follows the header belongs to the tunnel.
        let byte = stream.read_u8().await?;
        answer.push(byte);
        if answer.len() > 16 * 1024 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the proxy's answer does not end"));
        }
    }
    let status = answer.get(9..12).unwrap_or_default();
    if answer.starts_with(b"HTTP/1.") && status.first() == Some(&b'2') {
        return Ok(stream);
    }
    let status = String::from_utf8_lossy(status).into_owned();
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("the proxy refuses a tunnel with status {status}")))
}

/// Credentials that stand in a proxy's address.
pub(crate) fn proxy_authorization(proxy: &Url) -> Option<String> {
    use base64::Engine;
    if proxy.username().is_empty() {
        return None;
    }
    let decode = |text: &str| crate::wire::query::decode(&text.replace('+', "%2B"));
    let user = decode(proxy.username())?;
    let password = decode(proxy.password().unwrap_or_default())?;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    Some(format!("Basic {encoded}"))
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.clone().connect(target))
    }
}

pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection of the pool.
pub(crate) struct Stream {
    io: TokioIo<Box<dyn Transport>>,
    proxied: bool,
    http2: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_of_proxies() {
        for (exception, host, port, matches) in [
            ("*", "a.example", 443, true),
            ("example.com", "example.com", 443, true),
            ("example.com", "a.example.com", 443, true),
            (".example.com", "a.example.com", 443, true),
            (".example.com", "example.com", 443, false),
            ("example.com", "badexample.com", 443, false),
            ("example.com:5000", "example.com", 443, false),
            ("example.com:443", "example.com", 443, true),
            ("10.0.0.0/8", "10.1.2.3", 443, true),
            ("10.0.0.0/8", "11.1.2.3", 443, false),
            ("fd00::/8", "fd00::1", 443, true),
            ("0.0.0.0/0", "8.8.8.8", 1, true),
            ("", "a", 1, false),
        ] {
            assert_eq!(matches_exception(exception, host, port), matches, "{exception} {host}");
        }
    }

    #[test]
    fn names_without_addresses_are_told_in_plain_words() {
        use hickory_resolver::net::{DnsError, NoRecords};
        use hickory_resolver::proto::op::{Query, ResponseCode};
        let missing = |code| NetError::Dns(DnsError::NoRecordsFound(NoRecords::new(Query::default(), code)));
        for (error, kind, text) in [
            (missing(ResponseCode::NXDomain), io::ErrorKind::NotFound, "there is no host r.example"),
            (missing(ResponseCode::NoError), io::ErrorKind::NotFound, "the host r.example has no address"),
            (
                NetError::Timeout,
                io::ErrorKind::HostUnreachable,
                "the address of r.example cannot be found out: request timed out",
            ),
        ] {
            let told = unresolved("r.example", &error);
            assert_eq!((told.kind(), told.to_string().as_str()), (kind, text));
        }
    }

    #[test]
    fn this_machine_is_never_proxied() {
        let proxies = ProxyOptions { http: Url::parse("http://proxy:3128").ok(), ..ProxyOptions::default() };
        assert!(proxies.for_target(false, "localhost", 5000).is_none());
        assert!(proxies.for_target(false, "127.0.0.1", 5000).is_none());
        assert!(proxies.for_target(false, "registry.example", 80).is_some());
        assert!(proxies.for_target(true, "registry.example", 443).is_none());
    }
}
