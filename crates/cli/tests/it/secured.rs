//! The clients that others use, against `registry serve` with TLS and a password: skopeo, podman, buildah, containerd, Docker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use onetag_testkit::folder::program;
use onetag_testkit::user::User;
use onetag_testkit::{Onetag, Running, Served, require};

use crate::support::{BINARY, Daemon, World, native_and_foreign};

const LIMIT: Duration = Duration::from_secs(120);
/// The user of the password file, and the password.
const USER: &str = "ann";
const PASSWORD: &str = "hunter2";
/// The hash of the password at the lowest cost.
const HTPASSWD: &str = "ann:$2y$04$PmEFR9I.pa7pqy4qnlev4.gUVH5yE3/0X3dc3/5TrJIfGSYkjedQa\n";

/// The folder of the certificates: for `localhost` and the loopback addresses, of an authority of its own.
pub fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry/tests/data")
}

/// A registry over TLS that asks for a password; nobody is logged in.
pub fn secured(user: User) -> World {
    let onetag = Onetag::new(BINARY, user);
    for name in ["server.pem", "server.key", "ca.pem"] {
        let content = std::fs::read(certificates().join(name)).expect("a certificate");
        onetag.file(&format!("tls/{name}"), content);
    }
    let htpasswd = onetag.file("tls/htpasswd", HTPASSWD).display().to_string();
    let file = |name: &str| onetag.work().join("tls").join(name).display().to_string();
    let options = ["--tls-cert", &file("server.pem"), "--tls-key", &file("server.key"), "--htpasswd", &htpasswd];
    World { registry: Served::with(&onetag, &options), onetag }
}

/// Logs in with a password on standard input, as the program and its arguments say.
pub fn log_in(world: &World, program: &Path, arguments: &[&str], password: &str) -> onetag_testkit::Finished {
    let mut command = world.onetag.program(program);
    command.args(arguments).stdin(std::process::Stdio::piped());
    let mut running = Running::start(&mut command);
    let mut stdin = running.stdin().expect("a pipe");
    std::io::Write::write_all(&mut stdin, password.as_bytes()).expect("the program reads");
    drop(stdin);
    running.finish(LIMIT)
}

/// A secured registry with an index of two platforms in it, and its reference.
fn with_base(user: User) -> Result<(World, String), String> {
    let world = secured(user);
    let host = world.registry.name();
    let binary = world.onetag.binary().to_owned();
    log_in(&world, &binary, &["login", "-u", USER, "--password-stdin", &host], PASSWORD).success();
    let (native, foreign) = native_and_foreign();
    let base = world.push_base(&[native, foreign])?;
    Ok((world, base))
}

fn raw(world: &World, reference: &str) -> Vec<u8> {
    world.onetag.ok(&format!("imagetools inspect --raw {reference}")).stdout
}

/// The folder of certificates in the form that containers' tools want.
fn certificate_folder(world: &World) -> String {
    let certificate = std::fs::read(certificates().join("ca.pem")).expect("a certificate");
    let file = world.onetag.file("certs/ca.crt", certificate);
    file.parent().expect("a folder").display().to_string()
}

#[test]
fn skopeo_copies_both_ways() {
    let skopeo = require!(some program("skopeo"), "skopeo is not installed");
    let (world, base) = require!(ok with_base(User::current()));
    let certificates = certificate_folder(&world);
    let host = world.registry.name();
    let auth = world.onetag.work().join("auth.json").display().to_string();
    let inspect = format!("inspect --raw --authfile {auth} --cert-dir {certificates} docker://{base}");
    world.onetag.run_program(&skopeo, &format!("{inspect} --no-creds")).failure();
    let login = ["login", "--authfile", &auth, "--cert-dir", &certificates, "-u", USER, "--password-stdin", &host];
    log_in(&world, &skopeo, &login, "wrong").failure();
    log_in(&world, &skopeo, &login, PASSWORD).success();
    let untrusted = format!("inspect --raw --authfile {auth} docker://{base}");
    world.onetag.run_program(&skopeo, &untrusted).failure();
    assert_eq!(world.onetag.run_program(&skopeo, &inspect).success().stdout, raw(&world, &base));
    let both = format!("--authfile {auth} --src-cert-dir {certificates} --dest-cert-dir {certificates}");
    let copy = world.reference("other/app:all");
    world.onetag.run_program(&skopeo, &format!("copy --all {both} docker://{base} docker://{copy}")).success();
    assert_eq!(raw(&world, &copy), raw(&world, &base));
    for (format, tag) in [("oci", "one"), ("v2s2", "docker")] {
        let target = world.reference(&format!("other/app:{tag}"));
        let line = format!("copy --format {format} {both} docker://{base} docker://{target}");
        world.onetag.run_program(&skopeo, &line).success();
        let line = format!("copy --authfile {auth} --src-cert-dir {certificates} docker://{target} dir:{tag}");
        world.onetag.run_program(&skopeo, &line).success();
    }
    let repository = world.reference("other/app");
    let global = format!("--authfile {auth} --cert-dir {certificates}");
    let tags = world.onetag.run_program(&skopeo, &format!("list-tags {global} docker://{repository}")).success();
    assert!(["all", "docker", "one"].iter().all(|tag| tags.text().contains(&format!("\"{tag}\""))), "{tags}");
    world.onetag.run_program(&skopeo, &format!("delete {global} docker://{repository}:docker")).success();
    world.onetag.run_program(&skopeo, &format!("inspect {global} docker://{repository}:docker")).failure();
}

#[test]
fn podman_and_buildah_pull_and_push() {
    let podman = require!(some program("podman"), "podman is not installed");
    let buildah = require!(some program("buildah"), "buildah is not installed");
    let user = require!(ok User::root());
    let (world, base) = require!(ok with_base(user));
    let certificates = certificate_folder(&world);
    let host = world.registry.name();
    let work = world.onetag.work();
    let auth = work.join("auth.json").display().to_string();
    let login = ["login", "--authfile", &auth, "--cert-dir", &certificates, "-u", USER, "--password-stdin", &host];
    log_in(&world, &podman, &login, PASSWORD).success();
    let storage = |name: &str| {
        let (root, run) = (work.join(name), work.join(format!("{name}-run")));
        format!("--root {} --runroot {} --storage-driver vfs", root.display(), run.display())
    };
    let global = format!("--authfile {auth} --cert-dir {certificates}");
    for (tool, name) in [(&podman, "podman"), (&buildah, "buildah")] {
        let own = storage(name);
        world.onetag.run_program(tool, &format!("{own} pull {global} {base}")).success();
        let pushed = world.reference(&format!("by-{name}:one"));
        world.onetag.run_program(tool, &format!("{own} push {global} {base} docker://{pushed}")).success();
        let (native, _) = native_and_foreign();
        let seen = world.onetag.run(["imagetools", "inspect", "--format", "{{json .Image}}", &pushed]).success();
        assert!(seen.text().contains(native.trim_start_matches("linux/")), "{seen}");
    }
    let own = storage("podman");
    let list = world.reference("by-podman:list");
    world.onetag.run_program(&podman, &format!("{own} manifest create list")).success();
    world.onetag.run_program(&podman, &format!("{own} manifest add {global} --all list docker://{base}")).success();
    world.onetag.run_program(&podman, &format!("{own} manifest push --all {global} list docker://{list}")).success();
    assert_eq!(world.onetag.ok(&format!("imagetools inspect {list}")).text().matches("Platform:").count(), 2);
}

#[test]
fn containerd_pulls_and_pushes() {
    let containerd = require!(some program("containerd"), "containerd is not installed");
    let ctr = require!(some program("ctr"), "ctr is not installed");
    let user = require!(ok User::root());
    let (world, base) = require!(ok with_base(user));
    let work = world.onetag.work();
    let (host, folder) = (world.registry.name(), work.display().to_string());
    let hosts = format!(
        "server = \"https://{host}\"\n[host.\"https://{host}\"]\ncapabilities = [\"pull\", \"resolve\", \"push\"]\n\
         ca = \"{folder}/tls/ca.pem\"\n"
    );
    // The colon of the port, as containerd's folders of hosts spell it.
    world.onetag.file(&format!("hosts/{}_/hosts.toml", host.replace(':', "_")), hosts);
    let configuration = format!(
        "version = 2\nroot = \"{folder}/ctd\"\nstate = \"{folder}/ctd-state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
         [grpc]\naddress = \"{folder}/ctd.sock\"\n"
    );
    let configuration = world.onetag.file("containerd.toml", configuration);
    let mut command = world.onetag.program(containerd);
    command.arg("--config").arg(configuration);
    let own = format!("-a {folder}/ctd.sock");
    let ready = || world.onetag.run_program(&ctr, &format!("{own} version")).status.success();
    let daemon = Daemon::start(command, ready).map_err(|error| format!("containerd does not start: {error}"));
    let daemon = require!(ok daemon);
    let global = |password: &str| format!("--user {USER}:{password} --hosts-dir {folder}/hosts");
    let pull = |password: &str| {
        let line = format!("{own} images pull --all-platforms --snapshotter native {} {base}", global(password));
        world.onetag.run_program(&ctr, &line)
    };
    pull("wrong").failure().says("401");
    pull(PASSWORD).success();
    let pushed = world.reference("by-ctr:all");
    let line = format!("{own} images push {} {pushed} {base}", global(PASSWORD));
    world.onetag.run_program(&ctr, &line).success();
    assert_eq!(raw(&world, &pushed), raw(&world, &base));
    drop(daemon);
}

#[test]
fn docker_pulls_and_pushes() {
    let dockerd = require!(some program("dockerd"), "dockerd (docker.io) is not installed");
    let docker = require!(some program("docker"), "docker is not installed");
    let user = require!(ok User::root());
    let (world, base) = require!(ok with_base(user));
    let folder = world.onetag.work().display().to_string();
    let mut command = world.onetag.program(dockerd);
    let line = format!(
        "--iptables=false --bridge=none --storage-driver vfs --data-root {folder}/docker --exec-root {folder}/docker-run \
         --pidfile {folder}/docker.pid -H unix://{folder}/docker.sock"
    );
    command.args(line.split_whitespace());
    // The engine takes any certificate from registries of this machine.
    let own = format!("--config {folder}/docker-config -H unix://{folder}/docker.sock");
    let ready = || world.onetag.run_program(&docker, &format!("{own} info")).status.success();
    let daemon = Daemon::start(command, ready).map_err(|error| format!("dockerd does not start: {error}"));
    let daemon = require!(ok daemon);
    let pull = format!("{own} pull {base}");
    world.onetag.run_program(&docker, &pull).failure();
    let login = format!("{own} login -u {USER} --password-stdin {}", world.registry.name());
    let login: Vec<&str> = login.split_whitespace().collect();
    log_in(&world, &docker, &login, "wrong").failure();
    log_in(&world, &docker, &login, PASSWORD).success();
    world.onetag.run_program(&docker, &pull).success();
    let pushed = world.reference("by-docker:one");
    world.onetag.run_program(&docker, &format!("{own} tag {base} {pushed}")).success();
    world.onetag.run_program(&docker, &format!("{own} push {pushed}")).success();
    let seen = world.onetag.run(["imagetools", "inspect", "--format", "{{json .Image}}", &pushed]).success();
    let (native, _) = native_and_foreign();
    assert!(seen.text().contains(native.trim_start_matches("linux/")), "{seen}");
    drop(daemon);
}
