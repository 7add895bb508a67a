//! Servers of repositories on the loopback address: sshd, git's own daemon, and one that answers as it likes.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onetag_testkit::Onetag;
use onetag_testkit::folder::program;

/// A process that ends with the value.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts a command that listens on the port and waits until it does.
    #[track_caller]
    fn start(command: &mut Command, port: u16, log: &Path) -> Server {
        let file = std::fs::File::create(log).expect("own folder");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut server = Server { child: command.spawn().expect("it starts"), port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let said = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(server.child.try_wait().expect("a child").is_none(), "it ended: {}", said());
            assert!(start.elapsed() < Duration::from_secs(20), "nobody listens: {}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Serves every repository below a folder over `git://`.
pub fn git_daemon(onetag: &Onetag, folder: &Path) -> Server {
    let port = free_port();
    let mut command = onetag.program("git");
    command.args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
    command.arg(format!("--port={port}")).arg(format!("--base-path={}", folder.display())).arg(folder);
    Server::start(&mut command, port, &onetag.work().join("daemon.log"))
}

/// Where sshd is, which hardly any user's `PATH` leads to.
pub fn sshd_program() -> Option<PathBuf> {
    program("sshd").or_else(|| Some(PathBuf::from("/usr/sbin/sshd")).filter(|path| path.exists()))
}

/// An sshd of an ordinary user that lets in who has the key `login`, and an agent that holds it.
pub struct Ssh {
    server: Server,
    agent: Child,
    folder: PathBuf,
    pub socket: PathBuf,
    pub user: String,
}

impl Ssh {
    pub fn start(onetag: &Onetag, sshd: &Path) -> Ssh {
        let folder = onetag.work().join("ssh");
        std::fs::create_dir(&folder).expect("own folder");
        onetag.user().own(&folder);
        for key in ["host", "login", "other"] {
            let mut generate = onetag.program("ssh-keygen");
            generate.args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]).arg(folder.join(key));
            assert!(generate.status().expect("it starts").success());
        }
        let socket = folder.join("agent");
        let mut agent = onetag.program("ssh-agent");
        let agent = agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().expect("it starts");
        let start = Instant::now();
        while !socket.exists() {
            assert!(start.elapsed() < Duration::from_secs(20), "the agent has no socket");
            std::thread::sleep(Duration::from_millis(10));
        }
        let server = serve(onetag, sshd, &folder, free_port());
        let ssh = Ssh { server, agent, folder, socket, user: onetag.user().name().to_owned() };
        ssh.add(onetag, "login");
        ssh
    }

    /// Gives the agent a key, in the place of those that it has.
    pub fn add(&self, onetag: &Onetag, key: &str) {
        for arguments in [vec!["-D".into()], vec![self.folder.join(key)]] {
            let mut command = onetag.program("ssh-add");
            let output = command.env("SSH_AUTH_SOCK", &self.socket).args(arguments).output().expect("it starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// Serves on with another key.
    pub fn change_host_key(&mut self, onetag: &Onetag, sshd: &Path) {
        self.server.stop();
        std::fs::rename(self.folder.join("other"), self.folder.join("host")).expect("own folder");
        self.server = serve(onetag, sshd, &self.folder, self.server.port);
    }

    /// The address of a path on it.
    pub fn url(&self, path: &Path) -> String {
        format!("ssh://{}@127.0.0.1:{}{}", self.user, self.server.port, path.display())
    }

    /// The folder of a program `ssh` that goes to its port: addresses as scp writes them have none.
    pub fn programs(&self, onetag: &Onetag) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let ssh = program("ssh").expect("it is there");
        let script = format!("#!/bin/sh\nexec {} -p {} \"$@\"\n", ssh.display(), self.server.port);
        let path = onetag.file("programs/ssh", script);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("own folder");
        path.parent().expect("a folder").to_owned()
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn serve(onetag: &Onetag, sshd: &Path, folder: &Path, port: u16) -> Server {
    let path = |name: &str| folder.join(name).display().to_string();
    let configuration = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n",
        path("host"),
        path("login.pub"),
    );
    let file = onetag.file(&format!("ssh/sshd_config.{port}"), configuration);
    let mut command = onetag.program(sshd);
    command.arg("-D").arg("-e").arg("-f").arg(file);
    Server::start(&mut command, port, &folder.join("sshd.log"))
}

/// What a server does that means no good.
#[derive(Clone, Copy)]
pub enum Mood {
    /// It takes connections and says nothing.
    Silent,
    /// It names one reference after another, slowly and without end.
    Endless,
}

/// A server for `git://` that never comes to an end.
pub fn moody(mood: Mood) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                for number in 0.. {
                    let line = format!("{:040x} refs/heads/{number:08}\n", number + 1);
                    let line = match mood {
                        Mood::Endless => format!("{:04x}{line}", line.len() + 4),
                        Mood::Silent => String::new(),
                    };
                    if stream.write_all(line.as_bytes()).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
    });
    address
}
