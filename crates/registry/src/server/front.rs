//! The short way for what most requests are: GET and HEAD over plain HTTP/1.1.
//!
//! A connection begins here. As long as its requests have no body and nothing unusual in them, they are answered without hyper, and
//! stored content goes from file to socket inside the kernel. The first request of another kind takes the connection, with everything
//! that was read of it, to hyper for good.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Version, header};
use rustix::fs::sendfile;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Shared;
use super::request::RequestBody;
use super::respond::{Answer, ResponseBody, StoredBody};

/// Longest head of a request read here; hyper deals with longer ones.
const HEAD_LIMIT: usize = 32 * 1024;
/// Most headers of a request read here.
const HEADER_LIMIT: usize = 64;
/// How long a connection may be idle between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes given to one call of sendfile.
const SEND_BYTES: u64 = 1024 * 1024;

/// Answers requests of a connection until it ends, or a request needs more; the connection is then given back.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    mut stream: TcpStream,
    client: SocketAddr,
    stall: Duration,
    mut stop: watch::Receiver<bool>,
) -> io::Result<Option<Rewound>> {
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        let (request, length) = match parse(&buffer) {
            Parsed::Request(request, length) => (request, length),
            Parsed::Unusual => return Ok(Some(Rewound { prefix: buffer.freeze(), stream })),
            Parsed::Incomplete => {
                let idle = buffer.is_empty();
                let read = tokio::select! {
                    read = tokio::time::timeout(IDLE_TIMEOUT, stream.read_buf(&mut buffer)) => read,
                    _ = stop.wait_for(|stop| *stop), if idle => return Ok(None),
                };
                match read {
                    Ok(Ok(count)) if count > 0 => continue,
                    Ok(Err(error)) => return Err(error),
                    _ => return Ok(None),
                }
            }
        };
        buffer.advance(length);
        let close = wants_close(&request) || *stop.borrow();
        let head = *request.method() == Method::HEAD;
        // Clients of HTTP/1.0 want to be told that the connection stays.
        let connection = match (close, request.version()) {
            (true, _) => "\r\nconnection: close",
            (false, Version::HTTP_10) => "\r\nconnection: keep-alive",
            (false, _) => "",
        };
        let answer = shared.answer(*request, client).await;
        write_answer(&stream, answer, head, connection, stall).await?;
        if close {
            return Ok(None);
        }
    }
}

enum Parsed {
    Request(Box<Request<RequestBody>>, usize),
    Incomplete,
    Unusual,
}

fn parse(buffer: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() < HEAD_LIMIT => return Parsed::Incomplete,
        _ => return Parsed::Unusual,
    };
    build(&head).map_or(Parsed::Unusual, |request| Parsed::Request(Box::new(request), length))
}

/// The request, unless there is anything in it that only hyper handles.
fn build(head: &httparse::Request<'_, '_>) -> Option<Request<RequestBody>> {
    let method = match head.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    let target = head.path.filter(|target| target.starts_with('/'))?;
    let version = if head.version? == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut request = Request::new(RequestBody::Absent);
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().ok()?;
    *request.version_mut() = version;
    for field in head.headers.iter() {
        let name = header::HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(field.value).ok()?;
        let plain = match name {
            header::CONTENT_LENGTH => value == "0",
            header::CONNECTION => value.as_bytes().eq_ignore_ascii_case(b"close") || is_keep_alive(&value),
            header::TRANSFER_ENCODING | header::UPGRADE | header::EXPECT | header::TE | header::TRAILER => false,
            _ => true,
        };
        if !plain {
            return None;
        }
        request.headers_mut().append(name, value);
    }
    Some(request)
}

fn is_keep_alive(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"keep-alive")
}

fn wants_close(request: &Request<RequestBody>) -> bool {
    let said = request.headers().get(header::CONNECTION).map(is_keep_alive);
    !said.unwrap_or(request.version() == Version::HTTP_11)
}

async fn write_answer(
    stream: &TcpStream,
    answer: Answer,
    head: bool,
    connection: &str,
    stall: Duration,
) -> io::Result<()> {
    let (parts, body) = answer.into_parts();
    let mut bytes = BytesMut::with_capacity(1024);
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(parts.status.as_str().as_bytes());
    bytes.extend_from_slice(b" ");
    bytes.extend_from_slice(parts.status.canonical_reason().unwrap_or("Unknown").as_bytes());
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes.extend_from_slice(b"\r\ndate: ");
    bytes.extend_from_slice(httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    bytes.extend_from_slice(connection.as_bytes());
    bytes.extend_from_slice(b"\r\n\r\n");
    match body {
        ResponseBody::Full(Some(content)) if !head => {
            if content.len() <= 16 * 1024 {
                bytes.extend_from_slice(&content);
                return write(stream, &bytes, SendFlags::empty(), stall).await;
            }
            write(stream, &bytes, SendFlags::MORE, stall).await?;
            write(stream, &content, SendFlags::empty(), stall).await
        }
        ResponseBody::Stored(stored) if !head => {
            write(stream, &bytes, SendFlags::MORE, stall).await?;
            write_stored(stream, stored, stall).await
        }
        _ => write(stream, &bytes, SendFlags::empty(), stall).await,
    }
}

/// Writes everything; fails when nothing can be written for too long.
async fn write(stream: &TcpStream, mut bytes: &[u8], flags: SendFlags, stall: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        let flags = flags | SendFlags::NOSIGNAL;
        let sent = ready(stream, stall, || Ok(send(stream.as_fd(), bytes, flags)?)).await?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

async fn write_stored(stream: &TcpStream, mut stored: StoredBody, stall: Duration) -> io::Result<()> {
    let Some(file) = stored.content.file() else {
        while let Some(chunk) = stored.next() {
            write(stream, &chunk?, SendFlags::empty(), stall).await?;
        }
        return Ok(());
    };
    let (mut offset, mut remaining) = (stored.offset_bytes, stored.remaining_bytes);
    while remaining > 0 {
        let count = usize::try_from(remaining.min(SEND_BYTES)).unwrap_or(usize::MAX);
        let sent = ready(stream, stall, || Ok(sendfile(stream.as_fd(), file, Some(&mut offset), count)?)).await?;
        if sent == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        remaining -= sent as u64;
    }
    Ok(())
}

/// Does something as soon as the socket takes bytes.
async fn ready(stream: &TcpStream, stall: Duration, work: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    match tokio::time::timeout(stall, stream.async_io(Interest::WRITABLE, work)).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A connection of which something was read already.
pub(super) struct Rewound {
    prefix: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let count = this.prefix.len().min(buffer.remaining());
        buffer.put_slice(&this.prefix.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(text: &str) -> &'static str {
        match parse(text.as_bytes()) {
            Parsed::Request(..) => "request",
            Parsed::Incomplete => "incomplete",
            Parsed::Unusual => "unusual",
        }
    }

    #[test]
    fn only_plain_requests_stay() {
        for (text, wanted) in [
            ("GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n", "request"),
            ("HEAD /v2/ HTTP/1.1\r\nConnection: Close\r\ncontent-length: 0\r\n\r\nnext", "request"),
            ("GET /v2/ HTTP/1.1\r\nhost: x\r\n", "incomplete"),
            ("", "incomplete"),
            ("GET /v2/ HTTP/1.0\r\n\r\n", "request"),
            ("PUT /v2/ HTTP/1.1\r\ncontent-length: 1\r\n\r\nx", "unusual"),
            ("GET /v2/ HTTP/1.1\r\ncontent-length: 1\r\n\r\nx", "unusual"),
            ("GET /v2/ HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", "unusual"),
            ("GET /v2/ HTTP/1.1\r\nconnection: upgrade\r\n\r\n", "unusual"),
            ("GET http://x/v2/ HTTP/1.1\r\n\r\n", "unusual"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "unusual"),
            ("\x16\x03\x01\x02", "unusual"),
        ] {
            assert_eq!(kind(text), wanted, "{text:?}");
        }
        assert_eq!(kind(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(HEAD_LIMIT))), "unusual");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
