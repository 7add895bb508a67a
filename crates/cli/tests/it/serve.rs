//! `registry serve` and `registry gc` as processes: what was confirmed stays, what is asked of them while they end, what they refuse.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use onetag_oci::Digest;
use onetag_testkit::folder::program;
use onetag_testkit::user::User;
use onetag_testkit::{Onetag, Running, Served, require};

use crate::support::{BINARY, World};

const LIMIT: Duration = Duration::from_secs(60);

/// Sends one request on a connection of its own and gives the whole answer as text.
fn ask(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("the registry listens");
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}

fn push(address: SocketAddr, repository: &str, blob: &[u8]) -> Digest {
    let digest = Digest::sha256(blob);
    let answer = ask(address, "POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}"), blob);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    digest
}

fn header(answer: &str, name: &str) -> Option<String> {
    let line = |line: &str| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then(|| value.to_owned())
    };
    answer.lines().find_map(line)
}

fn send(signal: &str, process: &str) {
    Running::start(std::process::Command::new("kill").args(["-s", signal, process])).finish(LIMIT).success();
}

/// A blob that no compression and no coincidence makes equal to another.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn what_was_confirmed_survives_the_death_of_the_server() {
    let world = World::new(User::current());
    world.onetag.file("app/Dockerfile", "FROM scratch\nCOPY note /note\n");
    world.onetag.file("app/note", "kept\n");
    let app = world.reference("app:v1");
    world.onetag.ok(&format!("build --progress plain --platform linux/amd64,linux/arm64 --push -t {app} app"));
    let raw = world.onetag.ok(&format!("imagetools inspect --raw {app}")).stdout;
    let address = world.registry.address();
    let begun = ask(address, "POST", "/v2/app/blobs/uploads/", b"");
    let location = header(&begun, "location").expect("a location");
    assert!(ask(address, "PATCH", &location, &noise(70_000)[..50_000]).starts_with("HTTP/1.1 202"));
    send("KILL", &world.registry.id().to_string());
    let second = Served::start(&world.onetag);
    let app = format!("{}/app:v1", second.name());
    assert_eq!(world.onetag.ok(&format!("imagetools inspect --raw {app}")).stdout, raw);
    world.onetag.ok(&format!("pull --quiet --all-platforms {app}"));
    let status = ask(second.address(), "GET", &location, b"");
    assert_eq!(header(&status, "range").as_deref(), Some("0-49999"), "the upload goes on: {status}");
    let digest = Digest::sha256(&noise(70_000));
    let done = ask(second.address(), "PUT", &format!("{location}?digest={digest}"), &noise(70_000)[50_000..]);
    assert!(done.starts_with("HTTP/1.1 201"), "{done}");
}

/// System calls in the order in which they ended (those that write: began), each as strace shows its beginning.
fn system_calls(trace: &str) -> Vec<String> {
    let mut waiting = std::collections::HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if call.starts_with("<...") {
            calls.extend(waiting.remove(thread));
        } else if call.contains("<unfinished") && !call.contains("HTTP/1.1") {
            waiting.insert(thread.to_owned(), call.to_owned());
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
}

#[test]
fn files_and_folders_are_synced_before_the_answer() {
    let strace = require!(some program("strace"), "strace is not installed");
    let onetag = Onetag::new(BINARY, User::current());
    let (root, trace) = (onetag.work().join("traced"), onetag.work().join("trace"));
    let mut command = onetag.program(strace);
    command.args([
        "-f",
        "-y",
        "-qq",
        "-s",
        "256",
        "-e",
        "trace=fsync,fdatasync,rename,renameat,renameat2,write,writev,sendto",
    ]);
    command.arg("-o").arg(&trace).arg(onetag.binary());
    command.args(["registry", "serve", "--addr", "127.0.0.1:0", "--root"]).arg(&root);
    let mut served = Running::start(&mut command);
    let said = || std::fs::read_to_string(&trace).unwrap_or_default();
    let address = loop {
        let text = said();
        let found = text.split("listening on ").nth(1).and_then(|rest| rest.split('\\').next()?.parse().ok());
        if let Some(address) = found {
            break address;
        }
        if !served.is_running() {
            let finished = served.finish(LIMIT);
            onetag_testkit::skip(&format!("strace does not trace here: {}", finished.stderr.trim()));
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let layer = noise(300_000);
    let digest = push(address, "app", &layer);
    let config = push(address, "app", b"{}");
    let manifest = format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"{config}\",\"size\":2}},\
         \"layers\":[{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"{digest}\",\"size\":300000}}]}}"
    );
    let answer = ask(address, "PUT", "/v2/app/manifests/v1", manifest.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    // strace itself lets no signal end it.
    let traced = said().split_whitespace().next().expect("a process id").to_owned();
    send("INT", &traced);
    let _ = served.finish(LIMIT);
    let calls = system_calls(&said());
    let answers: Vec<usize> = (0..calls.len()).filter(|at| calls[*at].contains("HTTP/1.1 201")).collect();
    assert_eq!(answers.len(), 3, "{calls:#?}");
    let position = |from: usize, to: usize, what: &dyn Fn(&str) -> bool, name: &str| {
        (from..to)
            .find(|at| what(&calls[*at]))
            .unwrap_or_else(|| panic!("{name} is missing in {:#?}", &calls[from..to]))
    };
    let sync = |call: &str| call.starts_with("fsync") || call.starts_with("fdatasync");
    // Content under its digest: the file, its name, the folder of the name.
    let stored = |from: usize, to: usize, digest: &Digest| {
        let file = position(from, to, &|call| sync(call) && call.contains("/arriving/"), "the file");
        let named =
            position(file, to, &|call| call.starts_with("rename") && call.contains(digest.encoded()), "the name");
        let folder = format!("/content/sha256/{}>", &digest.encoded()[..2]);
        position(named, to, &|call| sync(call) && call.contains(&folder), "the folder")
    };
    let after = stored(0, answers[0], &digest);
    position(after, answers[0], &|call| sync(call) && call.contains("/_blobs/sha256>"), "the repository's record");
    let after = stored(answers[1], answers[2], &Digest::sha256(manifest.as_bytes()));
    for (name, folder) in [("the manifest's record", "/_manifests/sha256>"), ("the tag", "/_tags>")] {
        let file = position(after, answers[2], &|call| sync(call) && call.contains("/tmp/"), name);
        position(file, answers[2], &|call| sync(call) && call.contains(folder), name);
    }
    // The tag is the last of all that is written.
    let renames: Vec<&String> =
        calls[answers[1]..answers[2]].iter().filter(|call| call.starts_with("rename")).collect();
    assert!(renames.last().is_some_and(|call| call.contains("/_tags/v1")), "{renames:#?}");
}

#[test]
fn requests_under_way_end_before_the_server_does() {
    let world = World::new(User::current());
    let address = world.registry.address();
    let blob = noise(20_000_000);
    let digest = push(address, "app", &blob);
    let mut download = TcpStream::connect(address).expect("connected");
    write!(download, "GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut first = [0; 1000];
    download.read_exact(&mut first).expect("it begins");
    let other = noise(400_000);
    let target = format!("/v2/app/blobs/uploads/?digest={}", Digest::sha256(&other[1..]));
    let mut upload = TcpStream::connect(address).expect("connected");
    write!(upload, "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", other.len() - 1).expect("sent");
    upload.write_all(&other[1..200_000]).expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    send("TERM", &world.registry.id().to_string());
    for _ in 0..200 {
        if TcpStream::connect(address).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(TcpStream::connect(address).is_err(), "no more connections are taken");
    upload.write_all(&other[200_000..]).expect("sent");
    let mut answer = String::new();
    upload.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let mut rest = Vec::new();
    download.read_to_end(&mut rest).expect("it goes on");
    assert!(rest.ends_with(&blob[blob.len() - 1000..]));
    assert!(first.len() + rest.len() > blob.len());
}

#[test]
fn collection_leaves_uploads_alone_and_does_what_it_said() {
    let world = World::new(User::current());
    let address = world.registry.address();
    let loose = push(address, "app", &noise(90_000));
    let begun = ask(address, "POST", "/v2/app/blobs/uploads/", b"");
    let location = header(&begun, "location").expect("a location");
    assert!(ask(address, "PATCH", &location, &noise(60_000)[..30_000]).starts_with("HTTP/1.1 202"));
    let root = world.registry.root().display().to_string();
    let young = world.onetag.ok(&format!("registry gc --root {root} --untagged --dry-run"));
    assert_eq!(young.text(), "Would reclaim 0B\n");
    let line = format!("registry gc --root {root} --untagged --grace 0");
    let planned = world.onetag.ok(&format!("{line} --dry-run")).text().to_owned();
    assert!(planned.contains(&format!("content {loose}")), "{planned}");
    assert!(!ask(address, "HEAD", &format!("/v2/app/blobs/{loose}"), b"").contains(" 404 "));
    let done = world.onetag.ok(&line).text().to_owned();
    assert_eq!(done, planned.replace("Would reclaim", "Total reclaimed space:"));
    assert!(ask(address, "HEAD", &format!("/v2/app/blobs/{loose}"), b"").contains(" 404 "));
    let digest = Digest::sha256(&noise(60_000));
    let finished = ask(address, "PUT", &format!("{location}?digest={digest}"), &noise(60_000)[30_000..]);
    assert!(finished.starts_with("HTTP/1.1 201"), "{finished}");
    world.onetag.line("registry gc --root .").failure().says("is not the folder of a registry");
}

#[test]
fn addresses_that_others_reach_need_protection_or_a_word() {
    let onetag = Onetag::new(BINARY, User::current());
    let root = onetag.work().join("open").display().to_string();
    let refused = onetag.line(&format!("registry serve --addr 0.0.0.0:0 --root {root}")).code(1);
    assert!(refused.stderr.contains("others can reach it"), "{refused}");
    assert!(refused.stderr.contains("--allow-unprotected") && refused.stderr.contains("--htpasswd"), "{refused}");
    let mut allowed =
        onetag.start(["registry", "serve", "--addr", "0.0.0.0:0", "--root", &root, "--allow-unprotected"]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(allowed.is_running());
    allowed.signal("TERM");
    assert!(allowed.finish(LIMIT).success().text().starts_with("listening on 0.0.0.0:"));
}

#[test]
fn what_a_registry_is_told_on_the_command_line_holds() {
    let world = World::new(User::current());
    let options = ["--read-only", "--warning", "this registry moves", "--max-blob-size", "1000", "--access-log"];
    let mut served = world.onetag.command(["registry", "serve", "--addr", "127.0.0.1:0", "--root"]);
    served.arg(world.onetag.work().join("other")).args(options);
    served.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = served.spawn().expect("the binary starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("a pipe")));
    let first = lines.next().expect("a line").expect("text");
    let address: SocketAddr = first.trim_start_matches("listening on ").parse().expect("an address");
    let answer = ask(address, "GET", "/v2/", b"");
    assert_eq!(header(&answer, "warning").as_deref(), Some("299 - \"this registry moves\""), "{answer}");
    assert!(ask(address, "POST", "/v2/a/blobs/uploads/", b"").starts_with("HTTP/1.1 405"));
    assert!(ask(address, "GET", "/healthz", b"").starts_with("HTTP/1.1 200"));
    let reference = format!("{address}/absent:v1");
    let seen = world.onetag.line(&format!("imagetools inspect {reference}")).failure();
    assert!(seen.stderr.contains("not found"), "{seen}");
    assert!(seen.stderr.contains("warning: 127.0.0.1 says: this registry moves\n"), "{seen}");
    send("TERM", &child.id().to_string());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let records: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(records.len() >= 4, "{log}");
    assert_eq!((&records[0]["path"], &records[0]["status"]), (&"/v2/".into(), &200.into()));
    assert_eq!((&records[1]["method"], &records[1]["status"]), (&"POST".into(), &405.into()));
    assert_eq!(records[0]["protocol"], "HTTP/1.1");
    let refused = world.onetag.run(["registry", "serve", "--addr", "127.0.0.1:0", "--warning", "two\nlines"]).code(1);
    assert!(refused.stderr.contains("a warning is one line"), "{refused}");
}
