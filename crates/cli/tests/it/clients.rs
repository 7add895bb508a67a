//! The clients and the registry that others use, against ours: skopeo, podman, docker-registry.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use onetag_oci::Digest;
use onetag_testkit::folder::program;
use onetag_testkit::{Running, require};
use serde_json::Value;

use crate::support::{World, local_name, machine, native_and_foreign};

const LIMIT: Duration = Duration::from_secs(120);

/// Builds and pushes a small image for two platforms; its reference.
fn push_app(world: &World) -> Result<String, String> {
    let (native, foreign) = native_and_foreign();
    let base = world.push_base(&[native, foreign])?;
    let dockerfile = "ARG BASE\nFROM ${BASE}\nCOPY note /note\nCMD [\"cat\", \"/note\"]\n";
    let context = world.context("app", dockerfile, &[("note", "from onetag\n")]);
    let app = world.reference("app:latest");
    world.onetag.ok(&format!(
        "build --progress plain --platform {native},{foreign} --build-arg BASE={base} --push -t {app} {context}"
    ));
    Ok(app)
}

fn raw(world: &World, reference: &str) -> Vec<u8> {
    world.onetag.ok(&format!("imagetools inspect --raw {reference}")).stdout
}

#[test]
fn skopeo_moves_images_from_and_to_our_registry() {
    let skopeo = require!(some program("skopeo"), "skopeo is not installed");
    let world = World::any();
    let app = require!(ok push_app(&world));
    let seen = world.onetag.run_program(&skopeo, &format!("inspect --tls-verify=false --raw docker://{app}")).success();
    assert_eq!(seen.stdout, raw(&world, &app));
    let (_, foreign) = native_and_foreign();
    let architecture = foreign.trim_start_matches("linux/");
    let line = format!("--override-arch {architecture} inspect --tls-verify=false docker://{app}");
    let seen = world.onetag.run_program(&skopeo, &line).success();
    let parsed: Value = serde_json::from_slice(&seen.stdout).expect("JSON");
    assert_eq!(parsed["Architecture"], architecture);
    world
        .onetag
        .run_program(&skopeo, &format!("copy --all --src-tls-verify=false docker://{app} oci:layout:app"))
        .success();
    let back = world.reference("by-skopeo:latest");
    world
        .onetag
        .run_program(&skopeo, &format!("copy --all --dest-tls-verify=false oci:layout:app docker://{back}"))
        .success();
    assert_eq!(Digest::sha256(&raw(&world, &back)), Digest::sha256(&raw(&world, &app)));
    let docker = world.reference("by-skopeo:docker");
    let line =
        format!("copy --format v2s2 --src-tls-verify=false --dest-tls-verify=false docker://{app} docker://{docker}");
    world.onetag.run_program(&skopeo, &line).success();
    let (native, _) = native_and_foreign();
    assert_eq!(world.onetag.ok(&format!("run --rm --platform {native} {docker}")).text(), "from onetag\n");
}

#[test]
fn skopeo_reads_the_store_in_place() {
    let skopeo = require!(some program("skopeo"), "skopeo is not installed");
    let world = World::any();
    let (native, foreign) = native_and_foreign();
    require!(ok world.push_base(&[native, foreign]));
    let root = world.onetag.root().display().to_string();
    let index: Value =
        serde_json::from_slice(&std::fs::read(Path::new(&root).join("index.json")).expect("an index")).expect("JSON");
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .expect("entries")
        .iter()
        .filter_map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].as_str())
        .collect();
    let name = names.iter().find(|name| name.contains(&local_name(foreign))).expect("the imported image is named");
    let seen = world.onetag.run_program(&skopeo, &format!("inspect --config oci:{root}:{name}")).success();
    let config: Value = serde_json::from_slice(&seen.stdout).expect("JSON");
    assert_eq!(config["architecture"], foreign.trim_start_matches("linux/"));
    world.onetag.run_program(&skopeo, &format!("copy oci:{root}:{name} dir:copied")).success();
}

#[test]
fn podman_pulls_and_runs_what_we_pushed() {
    let podman = require!(some program("podman"), "podman is not installed");
    let world = require!(ok World::root());
    let app = require!(ok push_app(&world));
    let work = world.onetag.work();
    let global = format!(
        "--root {} --runroot {} --storage-driver vfs --cgroup-manager cgroupfs",
        work.join("podman").display(),
        work.join("podman-run").display(),
    );
    // podman refuses a DOCKER_CONFIG without a file in it.
    world.onetag.file("../config/config.json", "{}");
    world.onetag.run_program(&podman, &format!("{global} pull --tls-verify=false {app}")).success();
    // What a machine's cgroups and limits let podman do differs; any of its runtimes will do.
    let limits = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network none";
    let attempts = ["", "--runtime runc", "--runtime crun --cgroups disabled"].map(|options| {
        Running::start(
            world
                .onetag
                .program(&podman)
                .args(format!("{global} run --rm {limits} {options} {app}").split_whitespace()),
        )
        .finish(LIMIT)
    });
    let ran = attempts.iter().find(|attempt| attempt.status.success());
    let ran = ran.unwrap_or_else(|| panic!("{}\n{}\n{}", attempts[0], attempts[1], attempts[2]));
    assert_eq!(ran.text(), "from onetag\n");
}

/// Ends a server with the value.
struct Server(Option<Running>);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(server) = self.0.take() {
            server.signal("KILL");
            let _ = server.finish(LIMIT);
        }
    }
}

#[test]
fn docker_registry_takes_and_gives_what_we_push() {
    let registry = require!(some program("docker-registry"), "docker-registry is not installed");
    let world = World::any();
    let app = require!(ok push_app(&world));
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let folder = world.onetag.work().join("docker-registry").display().to_string();
    let configuration = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\nhttp: {{addr: \"{address}\"}}\n"
    );
    let file = world.onetag.file("docker-registry.yml", configuration);
    let server = Server(Some(Running::start(world.onetag.program(registry).arg("serve").arg(file))));
    for _ in 0..400 {
        if std::net::TcpStream::connect(address).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    let copy = format!("{address}/team/app:copied");
    world.onetag.ok(&format!("imagetools create -t {copy} {app}"));
    assert_eq!(raw(&world, &copy), raw(&world, &app));
    let (native, foreign) = native_and_foreign();
    let (single, base) = (format!("{address}/base:one"), local_name(foreign));
    world.onetag.ok(&format!("tag {base} {single}"));
    world.onetag.ok(&format!("push {single}"));
    assert_eq!(world.onetag.ok(&format!("run --rm --platform {native} {copy}")).text(), "from onetag\n");
    if world.runs_foreign().is_ok() {
        let said = world.onetag.ok(&format!("run --rm --platform {foreign} {single} uname -m"));
        assert_eq!(said.text().trim(), machine(foreign));
    }
    drop(server);
}
