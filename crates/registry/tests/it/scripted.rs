//! A server that answers what a test tells it to, well-formed or not, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What is done in answer.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// A well-formed answer.
    Answer(Answer),
    /// These bytes, and then the connection is closed.
    Raw(Vec<u8>),
    /// The connection is closed.
    Close,
    /// Nothing happens for so long, and then the connection is closed.
    Stall(Duration),
}

impl From<Answer> for Reaction {
    fn from(answer: Answer) -> Self {
        Reaction::Answer(answer)
    }
}

/// A well-formed answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn react(self) -> Reaction {
        Reaction::Answer(self)
    }

    /// The bytes of the answer to a request of that method.
    pub fn bytes(&self, method: &str) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} Status\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.header("content-length").is_none() && self.status != 204 {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if method != "HEAD" {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// The server; it stops when dropped.
pub struct Scripted {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Scripted {
    pub fn start(react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let address = listener.local_addr().expect("address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped, react) = (asked.clone(), stop.clone(), Arc::new(react));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (log, react) = (log.clone(), react.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, &log, react.as_ref());
                });
            }
        });
        Scripted { address, asked, stop }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("log").clone()
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    react: &(dyn Fn(&Asked) -> Reaction + Send + Sync),
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(asked) = read_request(&mut reader)? {
        log.lock().expect("log").push(asked.clone());
        match react(&asked) {
            Reaction::Answer(answer) => writer.write_all(&answer.bytes(&asked.method))?,
            Reaction::Raw(bytes) => return writer.write_all(&bytes),
            Reaction::Close => return Ok(()),
            Reaction::Stall(duration) => {
                std::thread::sleep(duration);
                return Ok(());
            }
        }
    }
    Ok(())
}

pub fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let mut asked = Asked {
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        ..Asked::default()
    };
    asked.headers = read_headers(reader)?;
    asked.body = read_body(reader, &asked.headers, false)?;
    Ok(Some(asked))
}

fn read_headers(reader: &mut impl BufRead) -> std::io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        let Some((name, value)) = line.split_once(':') else { return Ok(headers) };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_body(reader: &mut impl BufRead, headers: &[(String, String)], to_end: bool) -> std::io::Result<Vec<u8>> {
    let header = |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v);
    let mut body = Vec::new();
    if header("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
            reader.take(size).read_to_end(&mut body)?;
            reader.read_line(&mut line)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    match header("content-length").and_then(|length| length.parse::<u64>().ok()) {
        Some(length) => reader.take(length).read_to_end(&mut body)?,
        None if to_end => reader.read_to_end(&mut body)?,
        None => 0,
    };
    Ok(body)
}

/// Asks a real server what a request was about.
pub fn forward(upstream: SocketAddr, asked: &Asked) -> Answer {
    let exchange = || -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(upstream)?;
        stream.set_nodelay(true)?;
        let mut head = format!("{} {} HTTP/1.1\r\n", asked.method, asked.target);
        for (name, value) in &asked.headers {
            let own = ["transfer-encoding", "content-length", "connection"];
            if !own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", asked.body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&asked.body);
        stream.write_all(&bytes)?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split_ascii_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(502);
        let mut headers = read_headers(&mut reader)?;
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("connection"));
        let bodyless = asked.method == "HEAD" || status == 204 || status == 304;
        let body = if bodyless { Vec::new() } else { read_body(&mut reader, &headers, true)? };
        Ok(Answer { status, headers, body })
    };
    exchange().unwrap_or_else(|_| Answer::new(502))
}
