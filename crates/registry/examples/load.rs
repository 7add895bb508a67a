//! Loads a registry and says how it fares, as one line of JSON.
//!
//! ```text
//! load get ADDRESS PATH CONNECTIONS SECONDS     one path again and again: requests a second, 50th and 99th percentile, bytes a second
//! load push ADDRESS REPOSITORY COUNT BYTES CONNECTIONS     COUNT blobs of that size, each in POST and PUT: seconds
//! ```
//!
//! Bodies are dropped inside the kernel (`MSG_TRUNC`), so that what is measured is the registry and not this program.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use onetag_oci::Digest;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

/// Types of manifests, as clients ask for them.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json, */*";
/// Bytes dropped by one call.
const DROP_BYTES: usize = 1024 * 1024;

type Failure = Box<dyn Error + Send + Sync>;

/// The head of an answer.
struct Head {
    status: u16,
    location: Option<String>,
    length: u64,
    /// Bytes of the body that came along with the head.
    body: u64,
}

/// One connection that is kept.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

impl Connection {
    async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(16 * 1024), scratch: vec![0; DROP_BYTES] })
    }

    /// Reads an answer; gives its head and the length of its body, which is dropped.
    async fn answer(&mut self) -> Result<Head, Failure> {
        self.buffer.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the connection ended".into());
            }
            if let Some(head) = parse(&self.buffer)? {
                break head;
            }
        };
        let mut left = head.length - head.body.min(head.length);
        while left > 0 {
            let wanted = usize::try_from(left)?.min(DROP_BYTES);
            let (stream, scratch) = (&self.stream, &mut self.scratch[..wanted]);
            let dropped = stream
                .async_io(Interest::READABLE, || Ok(recv(stream.as_fd(), &mut *scratch, RecvFlags::TRUNC)?.1))
                .await?;
            if dropped == 0 {
                return Err("the body ended early".into());
            }
            left -= dropped as u64;
        }
        Ok(head)
    }
}

fn parse(buffer: &[u8]) -> Result<Option<Head>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(buffer)? else { return Ok(None) };
    let text = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let length = text("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let location = text("location").map(str::to_owned);
    Ok(Some(Head { status: response.code.unwrap_or(0), location, length, body: (buffer.len() - end) as u64 }))
}

async fn get(address: String, path: String, connections: usize, seconds: f64) -> Result<String, Failure> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {ACCEPT}\r\n\r\n");
    let request = Arc::new(request.into_bytes());
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(seconds);
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (address, request) = (address.clone(), request.clone());
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            let (mut times, mut bytes) = (Vec::new(), 0);
            while Instant::now() < until {
                let began = Instant::now();
                connection.stream.write_all(&request).await?;
                let head = connection.answer().await?;
                if head.status != 200 {
                    return Err(Failure::from(format!("status {}", head.status)));
                }
                times.push(began.elapsed());
                bytes += head.length;
            }
            Ok((times, bytes))
        }));
    }
    let (mut times, mut bytes) = (Vec::new(), 0);
    for task in tasks {
        let (own, received) = task.await??;
        times.extend(own);
        bytes += received;
    }
    let took = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let percentile = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default().as_secs_f64() * 1e3;
    Ok(format!(
        "{{\"requests\":{},\"requests_per_second\":{:.1},\"p50_ms\":{:.3},\"p99_ms\":{:.3},\"bytes_per_second\":{:.0}}}",
        times.len(),
        times.len() as f64 / took,
        percentile(50),
        percentile(99),
        bytes as f64 / took
    ))
}

/// Bytes that differ from blob to blob.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = (seed ^ u64::from(std::process::id()) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..length.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(length).collect()
}

async fn push_one(
    connection: &mut Connection,
    address: &str,
    repository: &str,
    blob: &[u8],
    digest: &Digest,
) -> Result<(), Failure> {
    let post = format!("POST /v2/{repository}/blobs/uploads/ HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
    connection.stream.write_all(post.as_bytes()).await?;
    let begun = connection.answer().await?;
    let location = begun.location.filter(|_| begun.status == 202).ok_or("no upload was begun")?;
    let target = location.strip_prefix("http://").and_then(|rest| rest.find('/').map(|at| rest[at..].to_owned()));
    let target = target.unwrap_or(location);
    let joint = if target.contains('?') { '&' } else { '?' };
    let put = format!(
        "PUT {target}{joint}digest={digest} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {}\r\n\r\n",
        blob.len()
    );
    connection.stream.write_all(put.as_bytes()).await?;
    connection.stream.write_all(blob).await?;
    let done = connection.answer().await?;
    if done.status == 201 { Ok(()) } else { Err(format!("status {} of a push", done.status).into()) }
}

async fn push(
    address: String,
    repository: String,
    count: usize,
    bytes: usize,
    connections: usize,
) -> Result<String, Failure> {
    let blobs: Vec<_> = (0..count).map(|number| noise(bytes, number as u64 + 1)).collect();
    let blobs: Vec<_> = blobs.into_iter().map(|blob| (Digest::sha256(&blob), blob)).collect();
    let (blobs, next) = (Arc::new(blobs), Arc::new(AtomicUsize::new(0)));
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (address, repository, blobs, next) = (address.clone(), repository.clone(), blobs.clone(), next.clone());
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            while let Some((digest, blob)) = blobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                push_one(&mut connection, &address, &repository, blob, digest).await?;
            }
            Ok::<(), Failure>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(format!("{{\"seconds\":{:.6}}}", started.elapsed().as_secs_f64()))
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let line =
        match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["get", address, path, connections, seconds] => {
                runtime.block_on(get((*address).into(), (*path).into(), connections.parse()?, seconds.parse()?))?
            }
            ["push", address, repository, count, bytes, connections] => {
                let (count, bytes, connections) = (count.parse()?, bytes.parse()?, connections.parse()?);
                runtime.block_on(push((*address).into(), (*repository).into(), count, bytes, connections))?
            }
            _ => return Err(
                "usage: load get ADDRESS PATH CONNECTIONS SECONDS | push ADDRESS REPOSITORY COUNT BYTES CONNECTIONS"
                    .into(),
            ),
        };
    println!("{line}");
    Ok(())
}
