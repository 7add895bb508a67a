//! A web server of one folder: files as they are, repositories (`*.git`) through git's own CGI program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// What is below `/private/` needs this.
pub const AUTHORIZATION: &str = "basic eC1hY2Nlc3MtdG9rZW46czNjcjN0";
/// The token of [`AUTHORIZATION`].
pub const TOKEN: &str = "s3cr3t";

/// Serves until the test ends.
pub struct Web {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Serves a folder on a free port.
    pub fn start(root: PathBuf) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, seen) = (root.clone(), Arc::clone(&seen));
                std::thread::spawn(move || answer(stream, &root, &seen));
            }
        });
        Web { address, requests }
    }

    /// An address below this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Method and target of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }
}

/// A connection serves one request.
fn answer(mut stream: TcpStream, root: &Path, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let (mut method, mut target) = (String::new(), String::new());
    for (place, word) in [&mut method, &mut target].into_iter().zip(first.split(' ')) {
        word.clone_into(place);
    }
    seen.lock().ok()?.push(format!("{method} {target}"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let reply = if path.starts_with("/private/")
        && !header("authorization").is_some_and(|value| value.eq_ignore_ascii_case(AUTHORIZATION))
    {
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n".to_vec()
    } else if path.contains(".git/") {
        let variables = [
            ("GIT_PROJECT_ROOT", root.to_str()?),
            ("GIT_HTTP_EXPORT_ALL", "1"),
            ("PATH_INFO", path),
            ("QUERY_STRING", query),
            ("REQUEST_METHOD", method.as_str()),
            ("CONTENT_TYPE", header("content-type").unwrap_or_default()),
            ("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default()),
            ("GIT_PROTOCOL", header("git-protocol").unwrap_or_default()),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "safe.directory"),
            ("GIT_CONFIG_VALUE_0", "*"),
        ];
        repository(&variables, &body)?
    } else {
        match std::fs::read(root.join(path.trim_start_matches('/'))) {
            Ok(content) => {
                let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len()).into_bytes();
                reply.extend(content);
                return stream.write_all(&reply).ok();
            }
            Err(_) => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n".to_vec(),
        }
    };
    stream.write_all(&reply).ok()?;
    if !reply.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        stream.write_all(b"Connection: close\r\n\r\n").ok()?;
    }
    Some(())
}

/// What git's CGI program answers, as an HTTP reply that ends with the connection.
fn repository(variables: &[(&str, &str)], body: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("git");
    command.arg("http-backend").envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take()?.write_all(body).ok()?;
    let output = child.wait_with_output().ok()?.stdout;
    let status = output.strip_prefix(b"Status: ").and_then(|rest| rest.split(|&byte| byte == b'\r').next());
    let status = status.map_or("200 OK".to_owned(), |status| String::from_utf8_lossy(status).into_owned());
    let mut reply = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    reply.extend(output);
    Some(reply)
}
