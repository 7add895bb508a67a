//! A registry that misbehaves: a proxy before a real one that breaks chosen requests.
//!
//! It speaks as much HTTP/1.1 as it needs: one request a connection, passed on with `Connection: close`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The largest head of a request that is looked at.
const HEAD_MAX: usize = 32 << 10;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is reset before an answer.
    Reset,
    /// The answer ends after this many bytes of its body; its length promised more.
    EofAfter(usize),
    /// An answer of the proxy's own: status, headers, body.
    Answer {
        /// The status.
        status: u16,
        /// More headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// The body's last byte is another one.
    WrongByte,
    /// Bytes are missing at the end, and the announced length agrees.
    Shortened(usize),
    /// So many bytes follow the body, and the announced length agrees.
    Lengthened(usize),
    /// The answer lacks a header.
    WithoutHeader(String),
    /// The answer has a header with this value, in place of its own.
    WithHeader(String, String),
    /// The answer's `Location` is on another host, `host:port`.
    ForeignLocation(String),
    /// The answer comes late.
    Delay(Duration),
    /// Nothing comes for so long, and then the connection is closed.
    Stall(Duration),
}

impl Fault {
    /// An answer with a status alone.
    pub fn status(status: u16) -> Fault {
        Fault::Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    /// 429 with `Retry-After`.
    pub fn too_many(retry_after_seconds: u64) -> Fault {
        let headers = vec![("Retry-After".to_owned(), retry_after_seconds.to_string())];
        Fault::Answer { status: 429, headers, body: Vec::new() }
    }

    /// A temporary redirect.
    pub fn redirect(location: &str) -> Fault {
        let headers = vec![("Location".to_owned(), location.to_owned())];
        Fault::Answer { status: 307, headers, body: Vec::new() }
    }
}

/// Which requests go wrong, and how.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The method; any if none.
    pub method: Option<String>,
    /// A part of the path and query.
    pub path: String,
    /// How many matching requests pass first.
    pub after: usize,
    /// How many then go wrong.
    pub times: usize,
    /// What goes wrong.
    pub fault: Fault,
}

impl Rule {
    /// The first request with this method whose path holds a text goes wrong.
    pub fn once(method: &str, path: &str, fault: Fault) -> Rule {
        Rule { method: Some(method.to_owned()), path: path.to_owned(), after: 0, times: 1, fault }
    }

    /// Every such request goes wrong.
    pub fn always(method: &str, path: &str, fault: Fault) -> Rule {
        Rule { times: usize::MAX, ..Rule::once(method, path, fault) }
    }
}

/// One request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The whole head.
    pub head: String,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    requests: Vec<Request>,
}

impl State {
    /// Notes a request and says what goes wrong with it.
    fn take(&mut self, request: &Request) -> Option<Fault> {
        self.requests.push(request.clone());
        let mut fault = None;
        for rule in &mut self.rules {
            let method = rule.method.as_ref().is_none_or(|method| *method == request.method);
            if !method || !request.path.contains(&rule.path) {
                continue;
            }
            if rule.after > 0 {
                rule.after -= 1;
            } else if rule.times > 0 && fault.is_none() {
                rule.times -= 1;
                fault = Some(rule.fault.clone());
            }
        }
        fault
    }
}

/// The proxy; ended with the value.
pub struct FaultyRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FaultyRegistry {
    /// Starts before a registry.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(upstream: SocketAddr) -> FaultyRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State::default()));
        let ending = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (Arc::clone(&state), Arc::clone(&ending));
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let _ = serve(client, upstream, &shared);
                });
            }
        });
        FaultyRegistry { address, state, ending, thread: Some(thread) }
    }

    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Forgets all rules and requests.
    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    /// `host:port`, the first part of references to it.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FaultyRegistry {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut client: TcpStream, upstream: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    let head = peek_head(&client)?;
    let mut words = head.split(' ');
    let request = Request {
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
        head: head.clone(),
    };
    let fault = state.lock().unwrap_or_else(PoisonError::into_inner).take(&request);
    match fault {
        // What was not read makes the kernel answer the close with a reset.
        Some(Fault::Reset) => Ok(()),
        Some(Fault::Answer { status, headers, body }) => {
            consume(&mut client, head.len())?;
            answer(&mut client, status, &headers, &body)
        }
        Some(Fault::Stall(duration)) => {
            std::thread::sleep(duration);
            Ok(())
        }
        Some(Fault::Delay(duration)) => {
            std::thread::sleep(duration);
            let response = forward(&mut client, &head, upstream)?;
            client.write_all(&response)
        }
        Some(fault) => {
            let response = forward(&mut client, &head, upstream)?;
            client.write_all(&spoil(response, &fault))
        }
        None => {
            let response = forward(&mut client, &head, upstream)?;
            client.write_all(&response)
        }
    }
}

/// The head of the request, left unread in the socket.
fn peek_head(client: &TcpStream) -> io::Result<String> {
    let mut buffer = vec![0; HEAD_MAX];
    loop {
        let length = client.peek(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        if let Some(end) = text.find("\r\n\r\n") {
            return Ok(text[..end + 4].to_owned());
        }
        if length == 0 || length == HEAD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn consume(client: &mut TcpStream, length: usize) -> io::Result<()> {
    io::copy(&mut client.take(length as u64), &mut io::sink()).map(drop)
}

/// Passes the request on and gives the whole response.
fn forward(client: &mut TcpStream, head: &str, upstream: SocketAddr) -> io::Result<Vec<u8>> {
    consume(client, head.len())?;
    let mut server = TcpStream::connect(upstream)?;
    let kept = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let mut passed: String = kept.map(|line| format!("{line}\r\n")).collect();
    passed.push_str("Connection: close\r\n\r\n");
    server.write_all(passed.as_bytes())?;
    let (mut body, mut upload) = (client.try_clone()?, server.try_clone()?);
    let uploading = std::thread::spawn(move || {
        let _ = io::copy(&mut body, &mut upload);
    });
    let mut response = Vec::new();
    let result = server.read_to_end(&mut response);
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Read);
    let _ = uploading.join();
    result.map(|_| response)
}

fn answer(client: &mut TcpStream, status: u16, headers: &[(String, String)], body: &[u8]) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Fault\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    client.write_all(head.as_bytes())?;
    client.write_all(body)
}

/// Breaks a whole response.
fn spoil(mut response: Vec<u8>, fault: &Fault) -> Vec<u8> {
    let Some(end) = response.windows(4).position(|window| window == b"\r\n\r\n") else { return response };
    let body = end + 4;
    match fault {
        Fault::EofAfter(length) => response.truncate((body + length).min(response.len())),
        Fault::WrongByte => {
            if let Some(last) = response[body..].last_mut() {
                *last ^= 1;
            }
        }
        Fault::Shortened(missing) => {
            let length = (response.len() - body).saturating_sub(*missing);
            response.truncate(body + length);
            return with_header(&response, end, "content-length", Some(&length.to_string()));
        }
        Fault::Lengthened(more) => {
            response.resize(response.len() + more, b'x');
            let length = response.len() - body;
            return with_header(&response, end, "content-length", Some(&length.to_string()));
        }
        Fault::WithoutHeader(name) => return with_header(&response, end, name, None),
        Fault::WithHeader(name, value) => return with_header(&response, end, name, Some(value)),
        Fault::ForeignLocation(host) => {
            let head = String::from_utf8_lossy(&response[..end]).into_owned();
            let location = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
            });
            if let Some(path) = location {
                return with_header(&response, end, "location", Some(&format!("http://{host}{path}")));
            }
        }
        Fault::Reset | Fault::Answer { .. } | Fault::Delay(_) | Fault::Stall(_) => {}
    }
    response
}

/// The response, whose head ends at `end`, with another value of a header, or without the header.
fn with_header(response: &[u8], end: usize, name: &str, value: Option<&str>) -> Vec<u8> {
    let head = String::from_utf8_lossy(&response[..end]).into_owned();
    let prefix = format!("{}:", name.to_ascii_lowercase());
    let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with(&prefix));
    let mut spoilt: String = kept.map(|line| format!("{line}\r\n")).collect();
    if let Some(value) = value {
        spoilt.push_str(&format!("{name}: {value}\r\n"));
    }
    spoilt.push_str("\r\n");
    let mut spoilt = spoilt.into_bytes();
    spoilt.extend_from_slice(&response[end + 4..]);
    spoilt
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every request with the same five bytes.
    fn upstream() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let head = peek_head(&client).unwrap();
                consume(&mut client, head.len()).unwrap();
                assert!(head.contains("Connection: close"));
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            }
        });
        address
    }

    fn get(registry: &FaultyRegistry, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(registry.name())?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response)
    }

    #[test]
    fn breaks_the_chosen_requests_only() {
        let registry = FaultyRegistry::start(upstream());
        registry.add(Rule { after: 1, ..Rule::once("GET", "/blobs/", Fault::WrongByte) });
        registry.add(Rule::once("GET", "/cut", Fault::EofAfter(2)));
        registry.add(Rule::once("GET", "/short", Fault::Shortened(2)));
        registry.add(Rule::always("GET", "/busy", Fault::too_many(1)));
        registry.add(Rule::once("GET", "/reset", Fault::Reset));
        registry.add(Rule::once("GET", "/long", Fault::Lengthened(2)));
        registry.add(Rule::once("GET", "/header", Fault::WithHeader("X-More".into(), "1".into())));
        registry.add(Rule::once("GET", "/header", Fault::WithoutHeader("Content-Length".into())));
        registry.add(Rule::once("GET", "/stall", Fault::Stall(Duration::from_millis(1))));
        assert!(get(&registry, "/blobs/1").unwrap().ends_with("hello"));
        assert!(get(&registry, "/blobs/2").unwrap().ends_with("helln"));
        assert!(get(&registry, "/blobs/3").unwrap().ends_with("hello"));
        assert!(get(&registry, "/cut").unwrap().ends_with("Content-Length: 5\r\n\r\nhe"));
        assert!(get(&registry, "/short").unwrap().ends_with("content-length: 3\r\n\r\nhel"));
        assert!(get(&registry, "/busy").unwrap().contains("Retry-After: 1\r\n"));
        assert!(get(&registry, "/reset").is_err());
        assert!(get(&registry, "/reset").unwrap().ends_with("hello"));
        assert!(get(&registry, "/long").unwrap().ends_with("content-length: 7\r\n\r\nhelloxx"));
        assert!(get(&registry, "/header").unwrap().ends_with("Content-Length: 5\r\nX-More: 1\r\n\r\nhello"));
        assert!(get(&registry, "/header").unwrap().ends_with("OK\r\n\r\nhello"));
        assert!(get(&registry, "/stall").unwrap_or_default().is_empty());
        assert_eq!(registry.requests().len(), 12);
    }
}
