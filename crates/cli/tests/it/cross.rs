//! Cross-compilation: the compiler runs natively once a target and its program runs on the target.

use onetag_testkit::folder::program;
use onetag_testkit::require;

use crate::debian;
use crate::support::{World, machine, native_and_foreign};

const DOCKERFILE: &str = r#"
ARG DEBIAN
FROM --platform=$BUILDPLATFORM ${DEBIAN} AS build
RUN uname -m > /machine
ARG TARGETARCH
COPY hello.c /hello.c
RUN case "$TARGETARCH" in \
      "$(dpkg --print-architecture)") compiler=gcc ;; \
      arm64) compiler=aarch64-linux-gnu-gcc ;; \
      amd64) compiler=x86_64-linux-gnu-gcc ;; \
    esac; \
    "$compiler" -static -O1 -DMACHINE="\"$(cat /machine)\"" -o /hello /hello.c

FROM scratch
COPY --from=build /hello /hello
ENTRYPOINT ["/hello"]
"#;

const SOURCE: &str = r#"
#include <stdio.h>
#include <sys/utsname.h>
int main(void) {
    struct utsname name;
    uname(&name);
    printf("built on %s, runs on %s\n", MACHINE, name.machine);
    return 0;
}
"#;

#[test]
fn a_cross_compiler_runs_natively_for_both_targets() {
    require!(some program("mmdebstrap"), "mmdebstrap is not installed");
    let world = require!(ok World::root());
    require!(ok world.runs_foreign());
    let (native, foreign) = native_and_foreign();
    let compiler = if native == "linux/amd64" { "aarch64-linux-gnu" } else { "x86-64-linux-gnu" };
    let cross_libc = if native == "linux/amd64" { "libc6-dev-arm64-cross" } else { "libc6-dev-amd64-cross" };
    let cross_compiler = format!("gcc-{compiler}");
    let packages = ["?essential", "gcc", "libc6-dev", cross_libc, &cross_compiler];
    // Extracted compilers work as they are; nothing of them needs to be configured.
    let tar = require!(ok debian::extract(&world, native.trim_start_matches("linux/"), &packages));
    let debian = "cross-debian:latest";
    world.onetag.ok(&format!("import --platform {native} {} {debian}", tar.display()));
    let context = world.context("cross", DOCKERFILE, &[("hello.c", SOURCE)]);
    let app = world.reference("cross:latest");
    let built = world.onetag.ok(&format!(
        "build --progress plain --platform {native},{foreign} --build-arg DEBIAN={debian} --push -t {app} {context}"
    ));
    // The step before the target is known is one step, labelled with the build platform alone.
    let lines: Vec<&str> = built.stderr.lines().filter(|line| line.contains("RUN uname -m")).collect();
    let vertices: std::collections::BTreeSet<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(vertices.len(), 1, "{built}");
    let steps: Vec<&str> = built.stderr.lines().filter(|line| line.contains("] RUN case")).collect();
    assert!(!steps.is_empty(), "{built}");
    assert!(steps.iter().all(|line| line.contains(&format!("[{native}"))), "{built}");
    for platform in [native, foreign] {
        let said = world.onetag.ok(&format!("run --rm --platform {platform} {app}"));
        assert_eq!(said.text(), format!("built on {}, runs on {}\n", machine(native), machine(platform)));
    }
}
