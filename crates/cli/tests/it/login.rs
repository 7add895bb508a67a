//! `login` and `logout`: where credentials are kept, and from where they are taken.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onetag_testkit::user::User;
use onetag_testkit::{Finished, Onetag, Running};
use serde_json::Value;

use crate::secured::secured;
use crate::support::{BINARY, World};

const LIMIT: Duration = Duration::from_secs(60);

fn with_input(mut command: Command, input: &str) -> Finished {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.stdin().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    running.finish(LIMIT)
}

fn log_in(world: &World, password: &str, change: impl FnOnce(&mut Command)) -> Finished {
    let mut command = world.onetag.command(["login", "-u", "ann", "--password-stdin", &world.registry.name()]);
    change(&mut command);
    with_input(command, password)
}

/// Whether a command gets in: the name is unknown to the registry then, instead of the user.
fn gets_in(world: &World, change: impl FnOnce(&mut Command)) -> bool {
    let mut command = world.onetag.command(["imagetools", "inspect", &world.reference("absent:v1")]);
    change(&mut command);
    let said = Running::start(&mut command).finish(LIMIT).failure();
    if said.stderr.contains("not found") {
        return true;
    }
    assert!(said.stderr.contains("authentication required"), "{said}");
    assert!(said.stderr.contains(&format!("hint: onetag login {}", world.registry.name())), "{said}");
    false
}

fn configuration(world: &World) -> String {
    std::fs::read_to_string(world.onetag.work().join("../config/config.json")).unwrap_or_default()
}

#[test]
fn a_login_is_kept_until_the_logout() {
    let world = secured(User::current());
    world.onetag.file("../config/config.json", "{\"psFormat\":\"kept\"}");
    assert!(!gets_in(&world, |_| {}));
    let refused = log_in(&world, "wrong\n", |_| {}).code(1);
    assert!(refused.stderr.contains(&format!("login to {} failed", world.registry.name())), "{refused}");
    assert!(!configuration(&world).contains(&world.registry.name()), "what does not work is not kept");
    assert_eq!(log_in(&world, "hunter2\n", |_| {}).success().text(), "Login Succeeded\n");
    assert!(gets_in(&world, |_| {}));
    log_in(&world, "wrong\n", |_| {}).code(1);
    assert!(gets_in(&world, |_| {}), "what was kept before a failed login stays");
    let mode =
        std::fs::metadata(world.onetag.work().join("../config/config.json")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let host = world.registry.name();
    let said = world.onetag.ok(&format!("logout https://{host}/v2/"));
    assert_eq!(said.text(), format!("Removing login credentials for {host}\n"));
    assert!(!gets_in(&world, |_| {}));
    assert_eq!(world.onetag.ok(&format!("logout {host}")).text(), format!("Not logged in to {host}\n"));
    assert!(configuration(&world).contains("\"psFormat\""), "what others wrote stays");
}

#[test]
fn without_docker_config_the_home_folder_counts() {
    let world = secured(User::current());
    log_in(&world, "hunter2", |command| {
        command.env_remove("DOCKER_CONFIG");
    })
    .success();
    let kept = std::fs::read_to_string(world.onetag.work().join("../home/.docker/config.json")).expect("a file");
    assert!(kept.contains(&world.registry.name()));
    assert!(gets_in(&world, |command| {
        command.env_remove("DOCKER_CONFIG");
    }));
    assert!(!gets_in(&world, |_| {}));
}

#[test]
fn helpers_keep_what_they_are_configured_for() {
    let world = secured(User::current());
    let (host, work) = (world.registry.name(), world.onetag.work());
    // Keeps each secret in a file of its own, and notes what it was asked to do.
    let script = format!(
        "#!/bin/sh\nset -e\nkept={}/kept\necho \"$1\" >> $kept.log\ninput=$(cat)\ncase $1 in\n\
         store) echo \"$input\" > $kept;;\n\
         get) [ -e $kept ] || {{ echo credentials not found in native keychain; exit 1; }}; cat $kept;;\n\
         erase) rm $kept;;\nesac\n",
        work.display()
    );
    let program = world.onetag.file("programs/docker-credential-keeper", script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("own file");
    let path = format!("{}:/usr/bin:/bin", work.join("programs").display());
    let with_path = |command: &mut Command| {
        command.env("PATH", &path);
    };
    for configured in
        ["{\"credsStore\":\"keeper\"}".to_owned(), format!("{{\"credHelpers\":{{\"{host}\":\"keeper\"}}}}")]
    {
        world.onetag.file("../config/config.json", configured);
        assert!(!gets_in(&world, with_path));
        log_in(&world, "hunter2", with_path).success();
        let kept: Value = serde_json::from_slice(&std::fs::read(work.join("kept")).expect("kept")).expect("JSON");
        assert_eq!(kept, serde_json::json!({ "ServerURL": host, "Username": "ann", "Secret": "hunter2" }));
        let file = configuration(&world);
        assert!(file.contains(&host) && !file.contains("hunter2") && !file.contains("\"auth\""), "{file}");
        assert!(gets_in(&world, with_path));
        let mut logout = world.onetag.command(["logout", &host]);
        with_path(&mut logout);
        Running::start(&mut logout).finish(LIMIT).success();
        assert!(!work.join("kept").exists());
    }
    let log = std::fs::read_to_string(work.join("kept.log")).expect("a log");
    assert!(["get", "store", "erase"].iter().all(|action| log.lines().any(|line| line == *action)), "{log}");
    // A helper that is configured and missing is said.
    let mut command = world.onetag.command(["imagetools", "inspect", &world.reference("absent:v1")]);
    command.env("PATH", "/usr/bin:/bin");
    Running::start(&mut command).finish(LIMIT).failure().says("docker-credential-keeper");
}

#[test]
fn logins_of_podman_count() {
    let world = secured(User::current());
    let auths = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"YW5uOmh1bnRlcjI=\"}}}}}}", world.registry.name());
    let file = world.onetag.file("auth.json", &auths);
    assert!(!gets_in(&world, |_| {}));
    assert!(gets_in(&world, |command| {
        command.env("REGISTRY_AUTH_FILE", &file);
    }));
    world.onetag.file("../run/containers/auth.json", &auths);
    assert!(gets_in(&world, |_| {}));
}

/// What a [`TokenRegistry`] was asked: the first line, the header with credentials, the body.
type Asked = (String, String, String);

/// A registry that wants a token of its own service, which gives it for an identity token; it has nothing.
struct TokenRegistry {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl TokenRegistry {
    fn start() -> TokenRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = TokenRegistry::answer(stream, address, &log);
            }
        });
        TokenRegistry { address, asked }
    }

    fn answer(stream: TcpStream, address: SocketAddr, log: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut first, mut shown, mut length) = (String::new(), String::new(), 0);
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => shown = value.to_owned(),
                "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        log.lock().expect("a log").push((first.clone(), shown.clone(), body.clone()));
        let (status, header, body) = match first.as_str() {
            _ if first.starts_with("POST /token") && body.contains("refresh_token=an%20identity") => {
                ("200 OK", String::new(), "{\"access_token\":\"granted\",\"expires_in\":300}")
            }
            _ if first.starts_with("POST /token") => ("401 Unauthorized", String::new(), "{}"),
            _ if shown == "Bearer granted" => ("404 Not Found", String::new(), "{}"),
            _ => {
                let realm = format!("WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"tokens\"\r\n");
                ("401 Unauthorized", realm, "{}")
            }
        };
        let length = body.len();
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    }
}

#[test]
fn identity_tokens_get_tokens() {
    let registry = TokenRegistry::start();
    let onetag = Onetag::new(BINARY, User::current());
    let image = format!("{}/team/app:v1", registry.address);
    let line = format!("imagetools inspect {image}");
    onetag.line(&line).failure().says("no token for").says(&format!("hint: onetag login {}", registry.address));
    let auths = format!("{{\"auths\":{{\"{}\":{{\"identitytoken\":\"an identity\"}}}}}}", registry.address);
    onetag.file("../config/config.json", auths);
    registry.asked.lock().expect("a log").clear();
    onetag.line(&line).failure().says("not found");
    let asked = registry.asked.lock().expect("a log");
    let (_, shown, form) = asked.iter().find(|asked| asked.0.starts_with("POST")).expect("a request for a token");
    assert!(shown.is_empty());
    assert!(form.contains("grant_type=refresh_token") && form.contains("service=tokens"), "{form}");
    assert!(form.contains("scope=repository:team/app:pull"), "{form}");
    assert!(asked.iter().filter(|asked| !asked.0.starts_with("POST")).all(|asked| !asked.1.contains("identity")));
}

#[test]
fn the_configuration_file_is_read() {
    let world = secured(User::current());
    log_in(&world, "hunter2", |_| {}).success();
    let host = world.registry.name();
    let ask = |configuration: &str| {
        let file = world.onetag.file("tls/config.toml", configuration);
        let mut command = world.onetag.command(["imagetools", "inspect", &world.reference("absent:v1")]);
        Running::start(command.env("ONETAG_CONFIG", file)).finish(LIMIT).failure()
    };
    ask(&format!("[registry.\"{host}\"]\nhttp = false\nca = [\"ca.pem\"]\n")).says("not found");
    let other = std::fs::read(crate::secured::certificates().join("other-ca.pem")).expect("a certificate");
    world.onetag.file("tls/other.pem", other);
    let refused =
        ask(&format!("[registry.\"{host}\"]\nhttp = false\nca = [\"other.pem\"]\n")).says("cannot set up TLS");
    assert!(refused.stderr.contains("hint: name who signed its certificate"), "{refused}");
    ask(&format!("[registry.\"{host}\"]\nhttp = false\nca = [\"other.pem\"]\ninsecure = true\n")).says("not found");
    ask("[registry.\"a\"]\nmirrors = 1\n").says("config.toml is not understood");
    // A mirror is asked first, with nothing but what is kept for itself.
    let plain = onetag_testkit::registry::InProcess::start();
    let onetag = &world.onetag;
    let copy = format!("{}/team/app:v1", plain.name());
    onetag.file("app/Dockerfile", "FROM scratch\nCOPY note /note\n");
    onetag.file("app/note", "mirrored\n");
    onetag.ok(&format!("build --progress plain --push -t {copy} app"));
    let file = onetag.file("tls/mirrors.toml", format!("[registry.\"{host}\"]\nmirrors = [\"{}\"]\n", plain.name()));
    let mut command = onetag.command(["imagetools", "inspect", "--raw", &format!("{host}/team/app:v1")]);
    let seen = Running::start(command.env("ONETAG_CONFIG", file)).finish(LIMIT).success();
    assert_eq!(seen.stdout, onetag.ok(&format!("imagetools inspect --raw {copy}")).stdout);
}
