//! A real distribution for two platforms: Debian, extracted by mmdebstrap, configured and extended by our own RUN.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use onetag_testkit::folder::{program, repository};
use onetag_testkit::user::User;
use onetag_testkit::{Running, require};

use crate::support::{World, native_and_foreign};

/// The release that the tests use.
const RELEASE: &str = "bookworm";

const DOCKERFILE: &str = r#"
ARG DEBIAN
FROM ${DEBIAN} AS configured
ENV DEBIAN_FRONTEND=noninteractive
RUN dpkg --force-depends --install /var/cache/apt/archives/*.deb && dpkg --configure --pending && apt-get clean

FROM configured
RUN apt-get update && apt-get install -y curl
CMD ["curl", "--version"]
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
fn apt_installs_curl_for_two_platforms_in_one_build() {
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
}

/// What packages would configure, and then programs that gain rights, called by one who has none: by the bit, and by capabilities of
/// their file.
const GAINING: &str = r#"
RUN ["/usr/bin/dash", "-c", "ln -sf dash /usr/bin/sh"]
RUN for user in root:0 daemon:1 app:1000; do echo "${user%:*}::${user#*:}:${user#*:}::/:/bin/sh" >> /etc/passwd; \
        echo "${user%:*}:x:${user#*:}:" >> /etc/group; echo "${user%:*}:x:::::::" >> /etc/shadow; done; \
    chmod 600 /etc/shadow; echo 'app ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/app
RUN for program in su sudo other; do for kind in auth account password session; do \
        echo "$kind required pam_permit.so" >> /etc/pam.d/$program.new; done; mv /etc/pam.d/$program.new /etc/pam.d/$program; done
RUN cp /usr/bin/ping /usr/bin/ping-by-bit && chmod 4755 /usr/bin/ping-by-bit && setcap cap_net_raw+ep /usr/bin/ping && \
    cp /usr/bin/ping /usr/bin/ping-without
USER app
RUN test "$(id -u)" = 1000 && test "$(sudo id -u)" = 0 && test "$(sudo -u daemon id -u)" = 1
RUN test "$(su --command 'id -u')" = 0 && test "$(su daemon --command 'id -u')" = 1
RUN ping -c 1 -W 5 127.0.0.1 && ping-by-bit -c 1 -W 5 127.0.0.1 && ! ping-without -c 1 -W 5 127.0.0.1
RUN ! cat /etc/shadow 2>/dev/null && sudo cat /etc/shadow > /dev/null
"#;

#[test]
fn programs_gain_rights_in_foreign_steps_as_in_native_ones() {
    require!(some program("mmdebstrap"), "mmdebstrap is not installed");
    let worlds: Vec<World> = [World::ordinary(), World::root()].into_iter().filter_map(Result::ok).collect();
    require!(!worlds.is_empty(), "neither root nor an ordinary user");
    require!(ok worlds[0].runs_foreign());
    let packages = ["dash", "coreutils", "sudo", "iputils-ping", "util-linux", "libcap2-bin", "libpam-modules"];
    let (native, foreign) = native_and_foreign();
    for platform in [native, foreign] {
        let tar = require!(ok extract(&worlds[0], platform.trim_start_matches("linux/"), &packages));
        for world in &worlds {
            world.onetag.ok(&format!("import --platform {platform} {} base", tar.display()));
            let context = world.context("gaining", &format!("FROM base\n{GAINING}"), &[]);
            let line = format!("build --progress plain --network none --platform {platform} {context}");
            world.onetag.ok(&line);
        }
        std::fs::remove_file(tar).expect("own file");
    }
}
