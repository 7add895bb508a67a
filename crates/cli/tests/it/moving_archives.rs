//! Archives in both directions with the programs that others use: skopeo, podman, the Docker engine.

use onetag_testkit::folder::program;
use onetag_testkit::require;
use onetag_testkit::user::User;

use crate::support::{Daemon, World, native_and_foreign};

const NAME: &str = "docker.io/team/app:1";

/// A world whose store has an image of two platforms that prints a line.
fn with_app(user: User) -> Result<World, String> {
    let world = World::new(user);
    let (native, foreign) = native_and_foreign();
    let base = world.push_base(&[native, foreign])?;
    let dockerfile = "ARG BASE\nFROM ${BASE}\nCOPY note /note\nCMD [\"cat\", \"/note\"]\n";
    let context = world.context("app", dockerfile, &[("note", "from onetag\n")]);
    world.onetag.ok(&format!("build --platform {native},{foreign} --build-arg BASE={base} --load -t {NAME} {context}"));
    world.onetag.ok(&format!("save -o ours.tar {NAME}"));
    Ok(world)
}

/// Loads an archive of another program under the name that it gives, and runs the image.
fn takes(world: &World, archive: &str, name: &str) {
    let loaded = world.onetag.ok(&format!("load -i {archive}"));
    assert!(loaded.text().contains(&format!("Loaded image: {name}\n")), "{archive}: {loaded}");
    assert_eq!(world.onetag.ok(&format!("run --rm --pull never {name}")).text(), "from onetag\n", "{archive}");
    world.onetag.ok(&format!("rmi {name}"));
}

#[test]
fn skopeo_reads_our_archives_and_we_read_its() {
    let skopeo = require!(some program("skopeo"), "skopeo is not installed");
    let world = require!(ok with_app(User::ordinary().unwrap_or_else(|_| User::current())));
    let skopeo = |line: &str| world.onetag.run_program(&skopeo, line).success();
    let raw = world.onetag.ok(&format!("imagetools inspect --raw store:{NAME}"));
    assert_eq!(skopeo("inspect --raw oci-archive:ours.tar").stdout, raw.stdout, "the index is in the archive");
    skopeo(&format!("inspect docker-archive:ours.tar:{NAME}"));
    for (kind, file) in [("docker-archive", "docker.tar"), ("oci-archive", "oci.tar")] {
        skopeo(&format!("copy docker-archive:ours.tar:{NAME} {kind}:{file}:docker.io/team/theirs:1"));
        takes(&world, file, "team/theirs:1");
    }
    skopeo("copy --all oci-archive:ours.tar oci-archive:all.tar:docker.io/team/all:1");
    world.onetag.ok("load -i all.tar");
    let (native, foreign) = native_and_foreign();
    let platforms = world.onetag.run(["images", "--format", "{{.Platforms}}", "team/all"]).success();
    assert_eq!(platforms.text(), format!("{native}, {foreign}\n"));
    for (program, suffix) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz")] {
        if let Some(program) = onetag_testkit::folder::program(program) {
            world.onetag.run_program(program, "-k docker.tar").success();
            takes(&world, &format!("docker.tar.{suffix}"), "team/theirs:1");
        }
    }
}

#[test]
fn podman_reads_our_archives_and_we_read_its() {
    let podman = require!(some program("podman"), "podman is not installed");
    let world = require!(ok User::root().and_then(with_app));
    // podman refuses a DOCKER_CONFIG without a file in it.
    world.onetag.file("../config/config.json", "{}");
    let work = world.onetag.work();
    let global = format!(
        "--root {0}/podman --runroot {0}/podman-run --storage-driver vfs --cgroup-manager cgroupfs",
        work.display()
    );
    let podman = |line: &str| world.onetag.run_program(&podman, &format!("{global} {line}")).success();
    assert!(podman("load -i ours.tar").text().contains(NAME));
    podman(&format!("tag {NAME} docker.io/team/theirs:1"));
    for format in ["docker-archive", "oci-archive"] {
        podman(&format!("save --format {format} -o {format}.tar docker.io/team/theirs:1"));
        takes(&world, &format!("{format}.tar"), "team/theirs:1");
    }
}

#[test]
fn the_docker_engine_reads_our_archives_and_we_read_its() {
    let dockerd = require!(some program("dockerd"), "dockerd (docker.io) is not installed");
    let docker = require!(some program("docker"), "docker is not installed");
    let world = require!(ok User::root().and_then(with_app));
    let folder = world.onetag.work().display().to_string();
    let mut command = world.onetag.program(dockerd);
    let line = format!(
        "--iptables=false --bridge=none --storage-driver vfs --data-root {folder}/docker --exec-root {folder}/docker-run \
         --pidfile {folder}/docker.pid -H unix://{folder}/docker.sock"
    );
    command.args(line.split_whitespace());
    let own = format!("-H unix://{folder}/docker.sock");
    let ready = || world.onetag.run_program(&docker, &format!("{own} info")).status.success();
    let daemon = Daemon::start(command, ready).map_err(|error| format!("dockerd does not start: {error}"));
    let daemon = require!(ok daemon);
    let docker = |line: &str| world.onetag.run_program(&docker, &format!("{own} {line}")).success();
    assert!(docker("load -i ours.tar").text().contains("Loaded image: team/app:1"));
    docker("tag team/app:1 team/theirs:1");
    docker("save -o theirs.tar team/theirs:1");
    takes(&world, "theirs.tar", "team/theirs:1");
    drop(daemon);
}
