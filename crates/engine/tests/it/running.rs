//! Steps that execute something.

use onetag_testkit::require;

use crate::setup::{Setup, steps};

const FIVE: [&str; 5] = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "linux/ppc64le"];

#[test]
fn five_platforms_run_and_are_found_again() {
    let base = require!(ok steps());
    let setup = Setup::new();
    setup.publish(&base, "busybox:1");
    let dockerfile = "FROM REGISTRY/busybox:1\nRUN uname -m > /machine && cat /machine\nCOPY a /a\n";
    let context = setup.context("context", &[("Dockerfile", dockerfile), ("a", "one")]);
    let request = setup.pushed(&context, &FIVE, "app:1");
    let (first, log) = setup.build(&request);
    for machine in ["x86_64", "aarch64", "armv7l", "s390x", "ppc64le"] {
        assert!(log.output.contains(machine), "{}", log.output);
    }
    let (second, log) = setup.build(&request);
    assert_eq!((log.executed("RUN"), log.executed("COPY")), (0, 0));
    assert_eq!(first.descriptor, second.descriptor);
}

#[test]
fn a_cross_stage_runs_natively_and_once() {
    let base = require!(ok steps());
    let setup = Setup::new();
    setup.publish(&base, "busybox:1");
    let dockerfile = "FROM --platform=$BUILDPLATFORM REGISTRY/busybox:1 AS build\nRUN uname -m | tee /m\n\
        FROM scratch\nCOPY --from=build /m /m\n";
    let context = setup.context("context", &[("Dockerfile", dockerfile)]);
    let (_, log) = setup.build(&setup.request(&context, &FIVE));
    assert_eq!(log.executed("RUN uname"), 1, "{log:#?}");
    assert_eq!(log.output.trim(), std::env::consts::ARCH);
}

#[test]
fn secrets_leave_no_trace() {
    let base = require!(ok steps());
    let setup = Setup::new();
    setup.publish(&base, "busybox:1");
    let dockerfile = "FROM REGISTRY/busybox:1\nRUN --mount=type=secret,id=key,required=true \
        sha256sum /run/secrets/key > /sum && cat /sum\n";
    let context = setup.context("context", &[("Dockerfile", dockerfile)]);
    let mut request = setup.pushed(&context, &["linux/amd64"], "app:1");
    request.secrets.insert("key".to_owned(), b"very-secret-indeed".to_vec());
    let (_, log) = setup.build(&request);
    assert_eq!(log.executed("RUN"), 1);
    request.secrets.insert("key".to_owned(), b"another".to_vec());
    let (_, log) = setup.build(&request);
    assert_eq!(log.executed("RUN"), 0, "the secret's content does not count");
    let output = std::process::Command::new("grep")
        .args(["-rl", "very-secret-indeed"])
        .arg(&setup.engine.options().root)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

#[test]
fn cache_mounts_outlive_builds_and_stay_out_of_images() {
    let base = require!(ok steps());
    let setup = Setup::new();
    setup.publish(&base, "busybox:1");
    for sharing in ["shared", "locked", "private"] {
        let dockerfile = format!(
            "FROM REGISTRY/busybox:1\nARG N\nRUN --mount=type=cache,target=/cache,id={sharing},sharing={sharing} \
             echo $N >> /cache/list && cat /cache/list && ls /cache\nRUN test ! -e /cache/list\n"
        );
        let context = setup.context(sharing, &[("Dockerfile", &dockerfile)]);
        let mut request = setup.request(&context, &["linux/amd64"]);
        for number in ["1", "2"] {
            request.build_args.insert("N".to_owned(), number.to_owned());
            let (_, log) = setup.build(&request);
            let expected = if number == "1" { "1\nlist\n" } else { "1\n2\nlist\n" };
            assert_eq!(log.output, expected, "{sharing}");
        }
    }
}

#[test]
fn a_step_sees_the_context_it_binds_and_nothing_ignored() {
    let base = require!(ok steps());
    let setup = Setup::new();
    setup.publish(&base, "busybox:1");
    let dockerfile = "FROM REGISTRY/busybox:1\nRUN --mount=type=bind,target=/ctx ls /ctx\n";
    let files = [
        ("Dockerfile", dockerfile),
        (".dockerignore", "hidden\n.dockerignore\nDockerfile"),
        ("seen", "1"),
        ("hidden", "1"),
    ];
    let context = setup.context("context", &files);
    let (_, log) = setup.build(&setup.request(&context, &["linux/amd64"]));
    assert_eq!(log.output, "seen\n");
    std::fs::write(context.join("hidden"), "2").unwrap();
    let (_, log) = setup.build(&setup.request(&context, &["linux/amd64"]));
    assert_eq!(log.executed("RUN"), 0);
    std::fs::write(context.join("seen"), "2").unwrap();
    let (_, log) = setup.build(&setup.request(&context, &["linux/amd64"]));
    assert_eq!(log.executed("RUN"), 1);
}
