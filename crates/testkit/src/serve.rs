//! The embedded registry as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::Onetag;
use crate::process::send;

/// `onetag registry serve` on a free port; ended with the value.
#[derive(Debug)]
pub struct Served {
    child: Child,
    address: SocketAddr,
    root: PathBuf,
}

impl Served {
    /// Starts it and waits until it says where it listens.
    ///
    /// # Panics
    /// When it does not within 20 seconds.
    #[track_caller]
    pub fn start(onetag: &Onetag) -> Served {
        Served::with(onetag, &[])
    }

    /// The same with more options.
    ///
    /// # Panics
    /// As [`Served::start`].
    #[track_caller]
    pub fn with(onetag: &Onetag, options: &[&str]) -> Served {
        let root = onetag.work().join("registry");
        let mut command = onetag.command(["registry", "serve", "--addr", "127.0.0.1:0", "--root"]);
        command.arg(&root).args(options).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (sender, receiver) = mpsc::channel();
        let stdout = child.stdout.take().expect("a pipe");
        let stderr = child.stderr.take().expect("a pipe");
        watch(stdout, sender.clone());
        watch(stderr, sender);
        let mut said = String::new();
        let address = loop {
            match receiver.recv_timeout(Duration::from_secs(20)) {
                Ok(line) => {
                    said.push_str(&line);
                    if let Some(address) = find_address(&line) {
                        break address;
                    }
                }
                Err(error) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("`registry serve` did not say where it listens ({error}):\n{said}");
                }
            }
        };
        Served { child, address, root }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `host:port`, the first part of references to it.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// The folder of its content.
    pub fn root(&self) -> &PathBuf {
        &self.root
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        send("TERM", self.child.id());
        for _ in 0..400 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a stream to its end, so that the process never blocks on it.
fn watch(stream: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            let _ = lines.send(std::mem::take(&mut line));
        }
    });
}

/// The first `address:port` in a line.
fn find_address(line: &str) -> Option<SocketAddr> {
    let is_part = |character: char| character.is_ascii_hexdigit() || matches!(character, '.' | ':' | '[' | ']');
    line.split(|character| !is_part(character)).find_map(|word| word.trim_matches('.').parse().ok())
}

#[cfg(test)]
mod tests {
    use super::find_address;

    #[test]
    fn finds_the_address_in_any_line() {
        let expected = Some("127.0.0.1:4321".parse().unwrap());
        assert_eq!(find_address("listening on http://127.0.0.1:4321\n"), expected);
        assert_eq!(find_address("serving at 127.0.0.1:4321."), expected);
        assert_eq!(find_address("no address"), None);
    }
}
