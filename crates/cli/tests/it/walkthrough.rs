//! The whole way, as a user types it: registry, import, build, inspect, pull, run, builders, errors; as root and as an
//! ordinary user, on a host where nothing is registered in binfmt_misc.

use std::time::Duration;

use onetag_oci::Digest;
use onetag_testkit::fixture::PLATFORMS;
use onetag_testkit::host::{HostState, has_foreign_handlers};
use onetag_testkit::{Finished, require};
use serde_json::Value;

use crate::support::{World, local_name, machine, native_and_foreign};

const DOCKERFILE: &str = r#"
ARG BASE
FROM --platform=$BUILDPLATFORM ${BASE} AS build
ARG NAME=nobody
WORKDIR /out
RUN echo "hello $NAME" > greeting
RUN ["/bin/sh", "-c", "uname -m > machine"]

FROM ${BASE}
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM
ENV GREETING=/srv/greeting DIRECTORY=/srv
WORKDIR $DIRECTORY
COPY --from=build --chown=33:33 --chmod=640 /out/greeting ./
COPY --from=build /out/machine build-machine
COPY script /usr/bin/script
RUN echo "$TARGETPLATFORM|$TARGETOS|$TARGETARCH|$TARGETVARIANT|$BUILDPLATFORM|$(uname -m)" > arguments
RUN adduser -D -u 1234 someone 2>/dev/null || echo 'someone:x:1234:1234::/home:/bin/sh' >> /etc/passwd
LABEL org.example.purpose="a walk through"
EXPOSE 8080/tcp
USER someone
ENTRYPOINT ["/usr/bin/script"]
CMD ["default"]
"#;

const SCRIPT: &str = "#!/bin/sh\necho \"$(id -u) $(uname -m) $PWD $1\"\n";

#[test]
fn as_root() {
    walk(require!(ok World::root()));
}

#[test]
fn as_an_ordinary_user() {
    walk(require!(ok World::ordinary()));
}

fn walk(world: World) {
    require!(ok world.runs_foreign());
    require!(!has_foreign_handlers(), "the host has foreign programs registered in binfmt_misc");
    let before = HostState::capture(&world.onetag.root());
    let base = require!(ok world.push_five());
    pushes_one_platform(&world);
    let index = builds_and_pushes(&world, &base);
    loads_the_same_index(&world, &base, &index);
    exports(&world, &base);
    inspects(&world, &index);
    pulls_and_lists(&world, &index);
    runs(&world);
    runs_every_platform(&world);
    builders(&world);
    errors(&world);
    before.assert_unchanged();
}

fn pushes_one_platform(world: &World) {
    let (_, foreign) = native_and_foreign();
    let reference = world.reference("single:one");
    world.onetag.ok(&format!("tag {} {reference}", local_name(foreign)));
    world.onetag.ok(&format!("push {reference}"));
    let raw = world.onetag.ok(&format!("imagetools inspect --raw {reference}"));
    let manifest: Value = serde_json::from_slice(&raw.stdout).expect("JSON");
    assert!(manifest["config"]["digest"].is_string(), "a single image is pushed as its manifest: {manifest}");
}

fn build(world: &World, base: &str, context: &str, rest: &str) -> Finished {
    let platforms = "linux/amd64,linux/arm64,linux/arm/v7";
    world.onetag.ok(&format!(
        "buildx build --progress plain --platform {platforms} --build-arg BASE={base} --build-arg NAME=world {rest} {context}"
    ))
}

fn builds_and_pushes(world: &World, base: &str) -> String {
    let context = world.context("app", DOCKERFILE, &[("script", SCRIPT)]);
    let script = world.onetag.work().join("app/script");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("own file");
    let built = build(world, base, &context, &format!("--push -t {}", world.reference("app:latest")));
    // The stage for the build platform is one step for three targets.
    let executed = built.stderr.matches("RUN echo \"hello").count();
    let lines: Vec<&str> = built.stderr.lines().filter(|line| line.contains("RUN echo \"hello")).collect();
    assert!(executed >= 1 && lines.iter().all(|line| line.split(' ').next() == lines[0].split(' ').next()), "{built}");
    let raw = world.onetag.ok(&format!("imagetools inspect --raw {}", world.reference("app:latest")));
    Digest::sha256(&raw.stdout).to_string()
}

fn loads_the_same_index(world: &World, base: &str, index: &str) {
    let context = world.onetag.work().join("app").display().to_string();
    build(world, base, &context, "--load -t loaded:1");
    let inspected = inspect(world, "loaded:1");
    assert!(inspected.to_string().contains(index), "the loaded index is the pushed one: {index}\n{inspected}");
    let reference = world.reference("loaded:1");
    world.onetag.ok(&format!("tag loaded:1 {reference}"));
    world.onetag.ok(&format!("push {reference}"));
    let raw = world.onetag.ok(&format!("imagetools inspect --raw {reference}"));
    assert_eq!(Digest::sha256(&raw.stdout).to_string(), index);
}

fn inspect(world: &World, name: &str) -> Value {
    let output = world.onetag.ok(&format!("image inspect {name}"));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn exports(world: &World, base: &str) {
    let context = world.onetag.work().join("app").display().to_string();
    let work = world.onetag.work();
    build(world, base, &context, &format!("-o type=oci,dest={}", work.join("app.oci.tar").display()));
    let listing = world.onetag.run_program("tar", "tf app.oci.tar").success();
    assert!(listing.text().lines().any(|line| line == "index.json"), "{listing}");
    build(world, base, &context, &format!("-o type=local,dest={}", work.join("files").display()));
    let arguments = std::fs::read_to_string(work.join("files/linux_arm64/srv/arguments")).expect("an exported file");
    assert_eq!(arguments.trim(), format!("linux/arm64|linux|arm64||{}|aarch64", native_and_foreign().0));
    let (native, _) = native_and_foreign();
    let docker = work.join("app.docker.tar");
    let line = format!(
        "build --platform {native} --build-arg BASE={base} -t app:docker -o type=docker,dest={} {context}",
        docker.display()
    );
    world.onetag.ok(&line);
    let listing = world.onetag.run_program("tar", "tf app.docker.tar").success();
    assert!(listing.text().lines().any(|line| line == "manifest.json"), "{listing}");
}

fn inspects(world: &World, index: &str) {
    let reference = world.reference("app:latest");
    let shown = world.onetag.ok(&format!("buildx imagetools inspect {reference}"));
    for expected in [
        format!("Name:      {reference}\n"),
        "MediaType: application/vnd.oci.image.index.v1+json\n".to_owned(),
        format!("Digest:    {index}\n"),
        format!("  Name:      {reference}@sha256:"),
        "  Platform:  linux/amd64\n".to_owned(),
        "  Platform:  linux/arm64\n".to_owned(),
        "  Platform:  linux/arm/v7\n".to_owned(),
    ] {
        assert!(shown.text().contains(&expected), "{expected:?} is not in\n{shown}");
    }
}

fn pulls_and_lists(world: &World, index: &str) {
    let onetag = &world.onetag;
    let reference = world.reference("app:latest");
    let (native, foreign) = native_and_foreign();
    let pinned = format!("{}@{index}", world.reference("app"));
    onetag.ok(&format!("pull {pinned}"));
    onetag.ok(&format!("pull --platform {foreign} {reference}"));
    onetag.ok(&format!("pull {reference}"));
    let raw = onetag.ok(&format!("imagetools inspect --raw {reference}"));
    let parsed: Value = serde_json::from_slice(&raw.stdout).expect("JSON");
    let manifest = parsed["manifests"][0]["digest"].as_str().expect("a digest");
    onetag.ok(&format!("pull {}@{manifest}", world.reference("app")));
    let images = onetag.ok("images");
    assert!(images.text().contains(&world.reference("app")), "{images}");
    let inspected = inspect(world, &reference);
    assert_eq!(inspected[0]["Os"], "linux", "{inspected}");
    assert_eq!(inspected[0]["Architecture"], native.trim_start_matches("linux/"), "{inspected}");
    assert_eq!(inspected[0]["Config"]["User"], "someone", "{inspected}");
    assert_eq!(inspected[0]["Config"]["Labels"]["org.example.purpose"], "a walk through");
    onetag.ok(&format!("tag {reference} other:tag"));
    assert!(onetag.ok("images").text().contains("other"));
    onetag.ok("rmi other:tag");
    assert!(!onetag.ok("images").text().contains("other"));
    onetag.line("image inspect other:tag").failure().says("other:tag");
}

fn runs(world: &World) {
    let onetag = &world.onetag;
    let (native, foreign) = native_and_foreign();
    let app = world.reference("app:latest");
    for platform in [native, foreign] {
        let said = onetag.ok(&format!("run --platform {platform} --rm {app} argument"));
        assert_eq!(said.text(), format!("1234 {} /srv argument\n", machine(platform)));
        let base = local_name(platform);
        let run = |line: &[&str]| {
            let mut words = vec!["run", "--rm", "--platform", platform];
            words.extend_from_slice(line);
            onetag.run(words)
        };
        run(&[&base, "sh", "-c", "exit 7"]).code(7);
        run(&[&base, "/absent"]).code(127);
        run(&[&base, "/etc/passwd"]).code(126);
        let said =
            run(&["-e", "A=1 2", "-w", "/tmp", "-u", "33:33", &base, "sh", "-c", "echo $A $PWD $(id -u):$(id -g)"]);
        assert_eq!(said.success().text(), "1 2 /tmp 33:33\n");
        let volume = format!("{}:/data", onetag.work().join("app").display());
        let said = run(&["-v", &volume, "--entrypoint", "/bin/cat", &base, "/data/script"]);
        assert_eq!(said.success().text(), SCRIPT);
        let mut reading = onetag.command(["run", "--rm", "-i", "--platform", platform, &base, "tr", "a-z", "A-Z"]);
        let mut reading = onetag_testkit::Running::start(reading.stdin(std::process::Stdio::piped()));
        std::io::Write::write_all(&mut reading.stdin().expect("a pipe"), b"from outside\n").expect("it reads");
        assert_eq!(reading.finish(Duration::from_secs(60)).success().text(), "FROM OUTSIDE\n");
    }
    signals_pass(world, native);
    signals_pass(world, foreign);
    terminal(world, native);
}

fn signals_pass(world: &World, platform: &str) {
    let script = "trap 'echo caught; exit 9' TERM; echo ready > /ready/file; while :; do sleep 0.05; done";
    let ready = world.onetag.file(&format!("ready-{}/placeholder", platform.replace('/', "-")), "");
    let folder = ready.parent().expect("a folder").display().to_string();
    let volume = format!("{folder}:/ready");
    let base = local_name(platform);
    let running = world.onetag.start(["run", "--rm", "-v", &volume, "--platform", platform, &base, "sh", "-c", script]);
    for _ in 0..2000 {
        if std::path::Path::new(&folder).join("file").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    running.signal("TERM");
    assert_eq!(running.finish(Duration::from_secs(60)).code(9).text(), "caught\n");
}

fn terminal(world: &World, platform: &str) {
    let script = require!(some onetag_testkit::folder::program("script"), "script is not installed");
    let line = format!(
        "{} run --rm -it {} sh -c 'test -t 0 && test -t 1 && tty'",
        world.onetag.binary().display(),
        local_name(platform)
    );
    let mut command = world.onetag.program(script);
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    let said = onetag_testkit::Running::start(&mut command).finish(Duration::from_secs(60)).success();
    assert!(said.text().contains("/dev/"), "{said}");
}

fn runs_every_platform(world: &World) {
    for platform in PLATFORMS {
        let said = world.onetag.ok(&format!("run --rm --platform {platform} {} uname -m", local_name(platform)));
        assert_eq!(said.text().trim(), machine(platform));
    }
}

fn builders(world: &World) {
    let onetag = &world.onetag;
    onetag.ok("buildx create --name walk --use");
    let shown = onetag.ok("builder inspect --bootstrap");
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for expected in [["Name:", "walk"], ["Driver:", "local"], ["Status:", "running"]] {
        assert!(shown.text().lines().any(|line| fields(line) == expected), "{expected:?} is not in\n{shown}");
    }
    let line = shown.text().lines().find(|line| line.starts_with("Platforms:")).expect("platforms");
    for platform in PLATFORMS {
        assert!(line.contains(platform), "{platform} is not in {line}");
    }
    let listed = onetag.ok("buildx ls");
    assert!(listed.text().contains("walk"), "{listed}");
    onetag.line("buildx create --name walk").failure();
    onetag.ok("builder use default");
    onetag.ok("buildx rm walk");
    onetag.line("buildx inspect walk").failure().says("walk");
}

fn errors(world: &World) {
    let base = world.reference("busybox:latest");
    let context = world.context("riscv", &format!("FROM {base}\nRUN true\n"), &[]);
    let no_match = world.onetag.line(&format!("build --progress plain --platform linux/riscv64 {context}")).code(1);
    no_match.says("no match for platform in manifest").says("linux/riscv64");
    let (native, foreign) = native_and_foreign();
    let single = world.reference("single:one");
    let context = world.context("bare", &format!("FROM {single}\nRUN true\n"), &[]);
    let bare = world.onetag.line(&format!("build --progress plain --platform {native} {context}")).code(1);
    bare.says("no match for platform in manifest").says(foreign);
    let context = world.context("copied", &format!("FROM scratch\nCOPY --from={single} /etc/hostname /\n"), &[]);
    world.onetag.ok(&format!("build --progress plain --platform {native} {context}"));
}
