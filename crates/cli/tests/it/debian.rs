//! A real distribution for two platforms: Debian, extracted by mmdebstrap, configured and extended by our own RUN.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use onetag_testkit::folder::{program, repository};
use onetag_testkit::user::User;
use onetag_testkit::{Onetag, Running, require};

use crate::support::{BINARY, World, native_and_foreign};

/// The release that the tests use.
const RELEASE: &str = "bookworm";

const DOCKERFILE: &str = r#"
ARG DEBIAN
FROM ${DEBIAN} AS configured
ENV DEBIAN_FRONTEND=noninteractive
RUN dpkg --force-depends --install /var/cache/apt/archives/*.deb && dpkg --configure --pending && apt-get clean

FROM configured
RUN apt-get update && apt-get install -y curl sudo iputils-ping
RUN useradd --create-home app && echo root:secret | chpasswd && echo 'app ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/app
CMD ["curl", "--version"]
"#;

/// Programs that gain rights, called by one who has none: by the bit, and by capabilities of their file.
const GAINING: &str = r#"
USER app
RUN test $(id -u) = 1000 && test $(sudo id -u) = 0 && test $(sudo -u daemon id -un) = daemon
RUN test $(echo secret | su --command 'id -u' 2>/dev/null) = 0
RUN ! sudo -n -u app cat /etc/shadow && sudo -n cat /etc/shadow > /dev/null
RUN ping -c 1 -W 5 127.0.0.1
"#;

/// Downloads and extracts packages of an architecture into a root file system, without running any of them.
pub fn extract(world: &World, architecture: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let mmdebstrap = program("mmdebstrap").ok_or("mmdebstrap is not installed")?;
    let output = world.onetag.work().join(format!("debian-{architecture}.tar"));
    let mut command = Command::new(mmdebstrap);
    let mode = if User::current().is_root() { "root" } else { "unshare" };
    command.args(["--variant=extract", "--skip=essential/unlink,cleanup/apt/cache", "--mode", mode]);
    command.args(["--architectures", architecture, "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]);
    for excluded in ["/usr/share/doc/*", "/usr/share/locale/*"] {
        command.arg(format!("--dpkgopt=path-exclude={excluded}"));
    }
    command.args(packages.iter().map(|package| format!("--include={package}")));
    command.arg(RELEASE).arg(&output).arg(source_line()?).env("LC_ALL", "C").stdin(Stdio::null());
    Running::start(&mut command).finish(Duration::from_secs(300)).success();
    world.onetag.user().own(&output);
    Ok(output)
}

/// The host's own source for the release.
fn source_line() -> Result<String, String> {
    let entry = Command::new(repository().join("scripts/apt-sources")).arg(RELEASE).output().expect("a script of ours");
    let entry = String::from_utf8_lossy(&entry.stdout).into_owned();
    let uri = entry.split('\t').next().map(str::trim).filter(|uri| !uri.is_empty());
    let uri = uri.ok_or_else(|| format!("this host's apt has no source of {RELEASE}"))?;
    Ok(format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {uri} {RELEASE} main"))
}

#[test]
fn apt_installs_programs_for_two_platforms_in_one_build() {
    require!(some program("mmdebstrap"), "mmdebstrap is not installed");
    let world = World::any();
    require!(ok world.runs_foreign());
    let (native, foreign) = native_and_foreign();
    let reference = world.reference("debian:bookworm");
    let mut create = format!("imagetools create -t {reference}");
    for platform in [native, foreign] {
        let architecture = platform.trim_start_matches("linux/");
        let tar = require!(ok extract(&world, architecture, &["?essential", "apt", "ca-certificates"]));
        world.onetag.ok(&format!("import --platform {platform} {} debian-{architecture}", tar.display()));
        std::fs::remove_file(tar).expect("own file");
        create.push_str(&format!(" store:debian-{architecture}"));
    }
    world.onetag.ok(&create);
    let context = world.context("debian", DOCKERFILE, &[]);
    let curl = world.reference("curl:latest");
    world.onetag.ok(&format!(
        "build --progress plain --platform {native},{foreign} --build-arg DEBIAN={reference} --push -t {curl} {context}"
    ));
    for platform in [native, foreign] {
        let said = world.onetag.ok(&format!("run --rm --platform {platform} {curl}"));
        let machine = if platform == "linux/arm64" { "aarch64" } else { "x86_64" };
        assert!(said.text().starts_with("curl ") && said.text().contains(machine), "{said}");
    }
    let root = User::root().map(|user| Onetag::new(BINARY, user));
    for onetag in [Some(&world.onetag), root.as_ref().ok()].into_iter().flatten() {
        let folder = onetag.file("gaining/Dockerfile", format!("FROM {curl}\n{GAINING}"));
        let folder = folder.parent().expect("in a folder").display().to_string();
        onetag.ok(&format!("build --progress plain --platform {native},{foreign} {folder}"));
    }
}
